"""An application: it answers each line in capitals. `forward` in `workload.toml` leads to it."""

import socketserver
import sys


class Shouting(socketserver.StreamRequestHandler):
    """One connection."""

    def handle(self) -> None:
        """Answer until the other end is done."""
        for line in self.rfile:
            self.wfile.write(line.upper())


class Service(socketserver.ThreadingTCPServer):
    """The service, on loopback: what lies in the image is reached through the tunnel only."""

    daemon_threads = True

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", port), Shouting)


if __name__ == "__main__":
    with Service(int(sys.argv[1])) as service:
        service.serve_forever()
