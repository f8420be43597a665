"""Registries to push to: Debian's docker-registry, started for a test, and one in this process that can lie."""

import base64
import contextlib
import hashlib
import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import parse_qs, urlsplit

CONFIGURATION = """\
version: 0.1
log: {{level: warn}}
storage: {{filesystem: {{rootdirectory: {folder}}}}}
http: {{addr: "127.0.0.1:{port}"}}
"""


def write_layout(folder: Path, *layers: bytes) -> str:
    """Write an OCI layout with these layers, and return its digest."""
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def describe(media_type: str, data: bytes):
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        return {"mediaType": f"application/vnd.oci.image.{media_type}", "digest": f"sha256:{digest}", "size": len(data)}

    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": describe("config.v1+json", b'{"architecture":"amd64","os":"linux"}'),
        "layers": [describe("layer.v1.tar", layer) for layer in layers],
    }
    descriptor = describe("manifest.v1+json", json.dumps(manifest).encode())
    index = {"schemaVersion": 2, "manifests": [descriptor]}
    (folder / "index.json").write_text(json.dumps(index), encoding="utf-8")
    return str(descriptor["digest"])


@contextlib.contextmanager
def docker_registry(program: str, folder: Path, port: int, wait) -> Iterator[str]:
    """Run Debian's docker-registry on a loopback port, until `wait` has seen it answer; give `HOST:PORT`."""
    configuration = folder / "registry.yml"
    configuration.write_text(CONFIGURATION.format(folder=folder / "data", port=port), encoding="utf-8")
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([program, "serve", str(configuration)], stdout=log, stderr=log)
    try:
        wait(process, port)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


@dataclass
class Fake:
    """A registry in memory.

    Attributes:
        scheme: What it challenges with: `Bearer`, `Basic` or nothing.
        password: What the user `ann` needs to get the token, or anonymous users if it is empty.
        changes: It gives another manifest back than it was given.
        realm: Where it sends for a token, if not to itself.
        redirect: Where an upload goes on, if not here.
        requests: Each request's method, path and Authorization header.
    """

    scheme: str = ""
    password: str = ""
    changes: bool = False
    realm: str = ""
    redirect: str = ""
    token: str = "token-of-the-fake"
    requests: list[tuple[str, str, str]] = field(default_factory=list)
    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, bytes] = field(default_factory=dict)

    @property
    def basic(self) -> str:
        return "Basic " + base64.b64encode(f"ann:{self.password}".encode()).decode()


@contextlib.contextmanager
def serving(fake: Fake) -> Iterator[str]:
    """Serve a fake on a loopback port; give `HOST:PORT`."""
    handler = type("Handler", (_Handler,), {"fake": fake})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    fake: Fake

    def log_request(self, code="-", size="-"):
        pass

    def _answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _is_refused(self) -> bool:
        """Note the request, read its body, and challenge whoever has not what is asked for."""
        fake, given = self.fake, self.headers.get("Authorization", "")
        fake.requests.append((self.command, self.path, given))
        self.body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        here = f"http://127.0.0.1:{self.server.server_port}"  # type: ignore[attr-defined]
        wanted = {"Bearer": f"Bearer {fake.token}", "Basic": fake.basic}.get(fake.scheme, given)
        if given == wanted or self.path.startswith("/token"):
            return False
        place = f'{fake.scheme} realm="{fake.realm or here + "/token"}",service="fake",scope="repository:a:pull,push"'
        self._answer(401, json.dumps({"errors": [{"code": "UNAUTHORIZED"}]}).encode(), WWW_Authenticate=place)
        return True

    def do_HEAD(self) -> None:
        if not self._is_refused():
            self._answer(200 if self.path.rpartition("/")[2] in self.fake.blobs else 404)

    def do_POST(self) -> None:
        if self.path == "/oauth2":  # RFC 7523, as google-auth asks for an access token
            self._answer(200, json.dumps({"access_token": "token-of-google", "expires_in": 60}).encode())
        elif not self._is_refused():
            self._answer(202, Location=self.fake.redirect or f"{urlsplit(self.path).path}1?state=x")

    def do_PUT(self) -> None:
        if self._is_refused():
            return
        parts = urlsplit(self.path)
        if "/manifests/" in parts.path:
            self.fake.manifests[parts.path.rpartition("/")[2]] = self.body
        else:
            (digest,) = parse_qs(parts.query)["digest"]
            if digest != "sha256:" + hashlib.sha256(self.body).hexdigest():
                self._answer(400, json.dumps({"errors": [{"code": "DIGEST_INVALID"}]}).encode())
                return
            self.fake.blobs[digest] = self.body
        self._answer(201)

    def do_GET(self) -> None:
        if self._is_refused():
            return
        if self.path.startswith("/token"):
            given = self.headers.get("Authorization", "")
            right = given == (self.fake.basic if self.fake.password else "")
            self._answer(200 if right else 401, json.dumps({"token": self.fake.token}).encode() if right else b"{}")
            return
        data = self.fake.manifests[self.path.rpartition("/")[2]]
        self._answer(200, data + b"\n" if self.fake.changes else data)
