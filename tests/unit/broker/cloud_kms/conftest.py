"""A local Cloud KMS, token endpoint and metadata server that do what Google's documentation says."""

import base64
import hashlib
import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

import google_crc32c
import jwt
import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY = "projects/p-1/locations/europe-west3/keyRings/ring/cryptoKeys/broker-kek"
URI = f"gcp-kms://{KEY}"
EMAIL = "broker@p-1.iam.gserviceaccount.com"
SCOPE = "https://www.googleapis.com/auth/cloudkms"
Answer = tuple[int, bytes]


def _error(status: int, word: str) -> Answer:
    body = {"error": {"code": status, "message": "said by the fake, CANARY", "status": word}}
    return status, json.dumps(body).encode()


class FakeCloud:
    """One project's Cloud KMS with one key; whoever has a token that this cloud gave may use it.

    `spoil` gets an answer's members and changes them; `instead` is what is answered in place of everything.
    """

    def __init__(self) -> None:
        self.account = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.versions = {"1": AESGCM.generate_key(256)}
        self.tokens: set[str] = set()
        self.calls: list[str] = []
        self.allowed = True
        self.spoil: Callable[[dict[str, Any]], object] = lambda _: None
        self.instead: Answer | None = None
        self.token_answer: Answer | None = None
        self.hangs = threading.Event()
        self.hangs.set()  # cleared: nobody gets an answer
        self.address = ""

    def answer(self, method: str, path: str, headers: Any, body: bytes) -> tuple[int, bytes, dict[str, str]]:
        self.calls.append(path)
        flavor = {"Metadata-Flavor": "Google"}
        if path == "/token":
            return *(self.token_answer or self._token(body)), {}
        if path == "/" or path.startswith("/computeMetadata/"):
            if path != "/" and headers["Metadata-Flavor"] != "Google":
                return 403, b"", {}
            return *(self.token_answer or self._metadata(path)), flavor
        self.hangs.wait(60)
        return *(self.instead or self._kms(path, headers, body)), {}

    def _new_token(self) -> bytes:
        token = os.urandom(16).hex()
        self.tokens.add(token)
        return json.dumps({"access_token": token, "expires_in": 3600, "token_type": "Bearer"}).encode()

    def _token(self, body: bytes) -> Answer:
        """RFC 7523: a service account's signed assertion for an access token."""
        form = parse_qs(body.decode())
        assert form["grant_type"] == ["urn:ietf:params:oauth:grant-type:jwt-bearer"]
        key = self.account.public_key()
        claims = jwt.decode(form["assertion"][0], key, ["RS256"], audience="https://oauth2.googleapis.com/token")
        assert (claims["iss"], claims["scope"]) == (EMAIL, SCOPE)
        return 200, self._new_token()

    def _metadata(self, path: str) -> Answer:
        if path == "/":
            return 200, b"computeMetadata/"
        if path.startswith("/computeMetadata/v1/project/project-id"):
            return 200, b"p-1"
        if path.startswith("/computeMetadata/v1/instance/service-accounts/default/token"):
            return 200, self._new_token()
        account = {"email": EMAIL, "aliases": ["default"], "scopes": [SCOPE]}
        return 200, json.dumps(account).encode()

    def _kms(self, path: str, headers: Any, body: bytes) -> Answer:
        if str(headers["Authorization"]).removeprefix("Bearer ") not in self.tokens:
            return _error(401, "UNAUTHENTICATED")
        name, _, verb = path.removeprefix("/v1/").rpartition(":")
        if name != KEY:
            return _error(404, "NOT_FOUND")
        if not self.allowed:
            return _error(403, "PERMISSION_DENIED")
        asked = json.loads(body)
        given = "plaintext" if verb == "encrypt" else "ciphertext"
        data, aad = (base64.b64decode(asked[one]) for one in (given, "additionalAuthenticatedData"))
        for one, value in ((given, data), ("additionalAuthenticatedData", aad)):
            if asked[f"{one}Crc32c"] != str(google_crc32c.value(value)):
                return _error(400, "INVALID_ARGUMENT")
        answer = self._encrypt(data, aad) if verb == "encrypt" else self._decrypt(data, aad)
        if answer is None:
            return _error(400, "INVALID_ARGUMENT")
        self.spoil(answer)
        return 200, json.dumps(answer).encode()

    def _encrypt(self, plaintext: bytes, aad: bytes) -> dict[str, Any] | None:
        version = max(self.versions, default=None)
        if version is None:
            return None
        nonce = os.urandom(12)
        ciphertext = version.encode() + nonce + AESGCM(self.versions[version]).encrypt(nonce, plaintext, aad)
        return {
            "name": f"{KEY}/cryptoKeyVersions/{version}",
            "ciphertext": base64.b64encode(ciphertext).decode(),
            "ciphertextCrc32c": str(google_crc32c.value(ciphertext)),
            "verifiedPlaintextCrc32c": True,
            "verifiedAdditionalAuthenticatedDataCrc32c": True,
            "protectionLevel": "SOFTWARE",
        }

    def _decrypt(self, ciphertext: bytes, aad: bytes) -> dict[str, Any] | None:
        version = ciphertext[:1].decode()
        if version not in self.versions:
            return None
        try:
            plaintext = AESGCM(self.versions[version]).decrypt(ciphertext[1:13], ciphertext[13:], aad)
        except InvalidTag:  # as the service: whatever is wrong with it, it is an invalid argument
            return None
        return {
            "plaintext": base64.b64encode(plaintext).decode(),
            "plaintextCrc32c": str(google_crc32c.value(plaintext)),
            "usedPrimary": version == max(self.versions),
            "protectionLevel": "SOFTWARE",
        }

    def service_account_file(self) -> dict[str, str]:
        private = self.account.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return {
            "type": "service_account",
            "project_id": "p-1",
            "private_key_id": hashlib.sha256(private).hexdigest()[:40],
            "private_key": private.decode(),
            "client_email": EMAIL,
            "token_uri": f"{self.address}/token",
        }


@contextmanager
def serving(cloud: FakeCloud) -> Iterator[None]:
    class Handler(BaseHTTPRequestHandler):
        def _any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, data, headers = cloud.answer(self.command, self.path, self.headers, body)
            self.send_response(status)
            headers = {"Content-Type": "application/json", "Content-Length": str(len(data))} | headers
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = _any  # noqa: N815  # the names are the library's

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """A client that went away, which is what some tests are about."""

    server = Server(("127.0.0.1", 0), Handler)
    cloud.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield
    finally:
        cloud.hangs.set()
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def cloud(tmp_path, monkeypatch) -> Iterator[FakeCloud]:
    """The cloud, and a service account's key file in the environment."""
    cloud = FakeCloud()
    with serving(cloud):
        file = tmp_path / "service-account.json"
        file.write_text(json.dumps(cloud.service_account_file()))
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(file))
        monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path / "no-gcloud"))
        yield cloud
