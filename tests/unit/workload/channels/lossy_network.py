"""A UDP relay that loses, repeats and reorders datagrams as a seed says, and adds forged ones."""

import asyncio
import random
from collections.abc import Callable
from typing import Any

_APPLICATION_DATA = b"\x17"


class LossyRelay(asyncio.DatagramProtocol):
    """Stands between many clients and one server; each client gets a socket of its own towards the server."""

    def __init__(
        self, server: tuple[str, int], *, seed: int, loss: float, repeat: float, reorder: float, forge: float
    ) -> None:
        self._server = server
        self._random = random.Random(seed)  # noqa: S311  # the same faults in each run
        self._loss, self._repeat, self._reorder, self._forge = loss, repeat, reorder, forge
        self._transport: Any = None
        self._upstream: dict[Any, asyncio.Task[Any]] = {}
        self._held: list[Callable[[], None]] = []
        self.counts = {"lost": 0, "repeated": 0, "reordered": 0, "passed": 0, "changed": 0, "invented": 0}
        self.address: tuple[str, int] = ("", 0)

    async def start(self) -> None:
        await asyncio.get_running_loop().create_datagram_endpoint(lambda: self, local_addr=("127.0.0.1", 0))

    def close(self) -> None:
        self._transport.close()
        for task in self._upstream.values():
            if task.done() and not task.cancelled():
                task.result().close()
            task.cancel()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self.address = transport.get_extra_info("sockname")[:2]

    def datagram_received(self, data: bytes, addr: Any) -> None:
        task = self._upstream.get(addr)
        if task is None:
            task = self._upstream[addr] = asyncio.ensure_future(self._open(addr))

        def forward(done: asyncio.Task[Any]) -> None:
            if not done.cancelled():
                self._fate(lambda: done.result().sendto(data))
                self._add_forged(data, done.result().sendto)

        task.add_done_callback(forward)

    async def _open(self, client: Any) -> Any:
        def back(data: bytes) -> None:
            self._fate(lambda: self._transport.sendto(data, client))

        class Upstream(asyncio.DatagramProtocol):
            def datagram_received(self, data: bytes, _addr: Any) -> None:
                back(data)

        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(Upstream, remote_addr=self._server)
        return transport

    def _add_forged(self, genuine: bytes, send: Callable[[bytes], None]) -> None:
        """Send one bit of a genuine datagram changed, or random bytes.

        Only of application data: a handshake's first messages are not protected, and who changes them can end it.
        """
        if genuine[:1] != _APPLICATION_DATA or self._random.random() >= self._forge:
            return
        if self._random.random() < 0.5:
            self.counts["changed"] += 1
            changed = bytearray(genuine)
            changed[self._random.randrange(len(genuine))] ^= 1 << self._random.randrange(8)
            send(bytes(changed))
        else:
            self.counts["invented"] += 1
            send(self._random.randbytes(len(genuine)))

    def _fate(self, deliver: Callable[[], None]) -> None:
        """Lose, hold back until the next one, repeat, or pass on."""
        held, self._held = self._held, []
        drawn = self._random.random()
        if drawn < self._loss:
            self.counts["lost"] += 1
        elif drawn < self._loss + self._reorder:
            self.counts["reordered"] += 1
            self._held = [deliver]
        elif drawn < self._loss + self._reorder + self._repeat:
            self.counts["repeated"] += 1
            deliver()
            deliver()
        else:
            self.counts["passed"] += 1
            deliver()
        for one in held:
            one()
