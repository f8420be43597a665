"""Our server's ends, in a process of their own.

`channel_end tunnel PORT`, `channel_end endpoint`, or `channel_end dtls SUITE`. What a connection does is said by its
first byte: `e` echoes a line, `d` takes everything until the end, `o` and a decimal number sends that many bytes.
"""

import asyncio
import json
import sys
from typing import Any, Final

import uvloop

from mcbn_protocol.secret import Secret
from mcbn_workload.channels.datagram_listener import serve_datagram_channels
from mcbn_workload.channels.datagrams import DatagramChannel
from mcbn_workload.channels.dtls_psk import DtlsPskServer
from mcbn_workload.channels.listener import serve_channels
from mcbn_workload.channels.psk import Terms
from mcbn_workload.channels.registry import ChannelRegistry, Limits
from mcbn_workload.channels.streams import Channel
from mcbn_workload.channels.tls_psk import TlsPskServer
from mcbn_workload.tunnel.addresses import LoopbackAddress
from mcbn_workload.tunnel.ends import serve_tunnel

IDENTITY: Final = "mcbn1.AAECAwQFBgcICQoLDA0ODw"
KEY: Final = bytes(range(32))  # throwaway
_PIECE: Final = bytes(64 * 1024)


def owned() -> dict[str, Any]:
    """Arguments of a channel whose keys never end."""
    limits = Limits(handshake_seconds=30, handshakes=512)
    return {"guard": lambda _identity: None, "registry": ChannelRegistry(), "limits": limits}


def lookup(identity: bytes) -> Secret | None:
    """Know one key."""
    return Secret(KEY) if identity == IDENTITY.encode() else None


async def _work(channel: Channel) -> None:
    first = await channel.read()
    if first[:1] == b"e":
        await channel.write(first)
    elif first[:1] == b"o":
        left = int(first[1:])
        while left:
            piece = _PIECE[:left]
            await channel.write(piece)
            left -= len(piece)
        return
    while await channel.read():
        pass


async def _echo(channel: DatagramChannel) -> None:
    channel.deliver_to(channel.send)
    await channel.gone()


async def _run(mode: str, detail: str) -> None:
    if mode == "tunnel":
        target = LoopbackAddress("127.0.0.1", int(detail))
        async with serve_tunnel("127.0.0.1", 0, target, TlsPskServer(lookup), **owned()) as tunnel:
            await _ready(tunnel.addresses[0][1])
    elif mode == "endpoint":
        async with serve_channels("127.0.0.1", 0, TlsPskServer(lookup), _work, **owned()) as server:
            await _ready(server.addresses[0][1])
    else:
        terms = Terms((detail,))
        acceptor = DtlsPskServer(lookup, terms=lambda: terms)
        async with serve_datagram_channels("127.0.0.1", 0, acceptor, _echo, **owned()) as datagrams:
            await _ready(datagrams.addresses[0][1])


async def _ready(port: int) -> None:
    print(json.dumps({"event": "ready", "port": port}), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(_run(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else ""))  # the mode's detail
