"""What the smoke test puts beside the tunnel into its images: a page at the server, a visitor at the client.

Run as `python -I application.py WORKLOAD_TOML REPORT_JSON`. The role and the plaintext end are those of the workload's
own configuration. What happens goes to the machine that runs the smoke test, as JSON lines over TLS: a hardened image
of Confidential Space shows its operator no log. Nothing of this package is imported, because it is not in the image.
"""

import http.client
import http.server
import json
import secrets
import socket
import socketserver
import ssl
import sys
import time
import tomllib
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

AUDIENCE = "mcbn-smoke"
"""No broker takes a token with this audience."""

_SECONDS = 10
_PAUSE_SECONDS = 1.0
_OK = 200


class Reports:
    """Tells the smoke test what happens, until it has said that it knows.

    Args:
        place: `host`, `port`, and `ca`, the certificate (PEM) to believe.
        role: Who tells it.
    """

    def __init__(self, place: Mapping[str, Any], role: str) -> None:
        self._address = (place["host"], place["port"])
        self._context = ssl.create_default_context(cadata=place["ca"])
        self._role = role

    def say(self, event: str, **members: str) -> None:
        """Send one event; wait for the answer, and try again for as long as none comes."""
        line = json.dumps({"role": self._role, "event": event, **members}).encode() + b"\n"
        while not self._sent(line):
            time.sleep(_PAUSE_SECONDS)

    def _sent(self, line: bytes) -> bool:
        try:
            with (
                socket.create_connection(self._address, _SECONDS) as plain,
                self._context.wrap_socket(plain, server_hostname=self._address[0]) as secure,
            ):
                secure.sendall(line)
                return secure.recv(1) == b"\n"
        except OSError:
            return False


class Page(http.server.BaseHTTPRequestHandler):
    """Answers every GET with the page."""

    protocol_version = "HTTP/1.1"
    text = b""

    def do_GET(self) -> None:
        """Send the page."""
        self.send_response(_OK)
        self.send_header("Content-Length", str(len(self.text)))
        self.end_headers()
        self.wfile.write(self.text)

    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""


def connect(plain: str) -> socket.socket:
    """Connect to a plaintext end: `unix:/path` or `127.0.0.1:PORT`."""
    if plain.startswith("unix:"):
        end = socket.socket(socket.AF_UNIX)
        end.settimeout(_SECONDS)
        end.connect(plain.removeprefix("unix:"))
        return end
    host, _, port = plain.rpartition(":")
    return socket.create_connection((host, int(port)), _SECONDS)


def pages(plain: str) -> Generator[str]:
    """Read the page again and again, over one connection.

    Raises:
        OSError: The connection has ended, or there is none.
        http.client.HTTPException: It ended within an answer, or something else came.
    """
    connection = http.client.HTTPConnection("application")
    connection.auto_open = 0  # a new connection would hide that this one has ended
    connection.sock = connect(plain)
    try:
        while True:
            connection.request("GET", "/")
            answer = connection.getresponse()
            if answer.status != _OK:
                raise http.client.HTTPException(f"status {answer.status}")
            yield answer.read().decode()
    finally:
        connection.close()


def visit(plain: str, reports: Reports) -> None:
    """Read the page once a second; say when it can be read, and when it cannot any longer."""
    before = ""
    while True:
        try:
            for page in pages(plain):
                if before != "page":
                    reports.say(before := "page", text=page)
                time.sleep(_PAUSE_SECONDS)
        except (OSError, http.client.HTTPException) as error:
            if before != "no_page":
                reports.say(before := "no_page", text=repr(error))
        time.sleep(_PAUSE_SECONDS)


def new_server(plain: str, text: str) -> socketserver.BaseServer:
    """Return a server that shows the page at a plaintext end."""
    Page.text = text.encode()
    if plain.startswith("unix:"):
        return socketserver.ThreadingUnixStreamServer(plain.removeprefix("unix:"), Page)
    host, _, port = plain.rpartition(":")
    return socketserver.ThreadingTCPServer((host, int(port)), Page)


def say_token(launcher_socket: str, reports: Reports) -> None:
    """Send a token of this VM, asked for with an audience that no broker takes."""
    connection = http.client.HTTPConnection("launcher")
    body = {"audience": AUDIENCE, "nonces": [secrets.token_urlsafe(16)], "token_type": "OIDC"}
    try:
        connection.sock = connect(f"unix:{launcher_socket}")
        connection.request("POST", "/v1/token", json.dumps(body), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        text = answer.read().decode()
    except (OSError, http.client.HTTPException) as error:
        reports.say("no_token", text=repr(error))
    else:
        reports.say("token" if answer.status == _OK else "no_token", text=text)
    finally:
        connection.close()


def main() -> None:
    """Play the application of the role that the workload's configuration names."""
    settings = tomllib.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    place = json.loads(Path(sys.argv[2]).read_text(encoding="utf-8"))
    reports = Reports(place, settings["role"])
    say_token(settings.get("launcher_socket", "/run/container_launcher/teeserver.sock"), reports)
    if settings["role"] == "server":
        new_server(settings["forward"], place["page"]).serve_forever()
    else:
        visit(settings["listen"], reports)


if __name__ == "__main__":
    main()
