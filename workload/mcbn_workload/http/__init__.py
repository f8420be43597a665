"""HTTP over channels: a transport for httpx at the client's end, ASGI applications at the server's."""

from mcbn_workload.http.client import ChannelTransport
from mcbn_workload.http.server import serve_asgi

__all__ = ["ChannelTransport", "serve_asgi"]
