"""What runs inside the TEE: gathers the shares by attestation, derives the keys, and opens channels under them.

A server::

    async def echo(channel):
        while data := await channel.read():
            await channel.write(data)

    async with mcbn_workload.listen(echo, "/etc/mcbn/workload.toml") as server:
        await asyncio.Event().wait()

and its client::

    async with mcbn_workload.connect("/etc/mcbn/workload.toml") as channel:
        await channel.write(b"hello")
        print(await channel.read())

Everything that may fail is a `WorkloadError`. `open_keys` keeps one set of keys for many channels.
"""

from mcbn_protocol import __version__
from mcbn_workload.channels.datagrams import DatagramChannel
from mcbn_workload.channels.streams import Channel
from mcbn_workload.endpoints import connect, connect_datagrams, listen, listen_datagrams, open_keys
from mcbn_workload.errors import WorkloadError
from mcbn_workload.settings import Settings

__all__ = [
    "Channel",
    "DatagramChannel",
    "Settings",
    "WorkloadError",
    "__version__",
    "connect",
    "connect_datagrams",
    "listen",
    "listen_datagrams",
    "open_keys",
]
