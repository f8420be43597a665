"""An application: answers HTTP on loopback, where the tunnel finds it."""

import http.server
from typing import Final

ADDRESS: Final = ("127.0.0.1", 8080)
GREETING: Final = b"hello from inside\n"


class Greeter(http.server.BaseHTTPRequestHandler):
    """Greets whoever asks."""

    def do_GET(self) -> None:  # the name that the standard library calls
        """Answer with the greeting."""
        self.send_response(http.HTTPStatus.OK)
        self.send_header("Content-Length", str(len(GREETING)))
        self.end_headers()
        self.wfile.write(GREETING)


if __name__ == "__main__":
    http.server.ThreadingHTTPServer(ADDRESS, Greeter).serve_forever()
