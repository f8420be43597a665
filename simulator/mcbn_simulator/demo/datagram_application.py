"""The server's application for datagrams: answers each one in capitals, and knows nothing of channels."""

import asyncio
import json
from typing import cast


class _Capitals(asyncio.DatagramProtocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._transport.sendto(data.upper(), addr)


async def _run() -> None:
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(_Capitals, local_addr=("127.0.0.1", 0))
    print(json.dumps({"event": "ready", "port": transport.get_extra_info("sockname")[1]}), flush=True)  # noqa: T201
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_run())
