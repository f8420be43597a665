"""The body of `POST /v1/releases`, from whoever reaches the broker."""

from contextlib import suppress

from mcbn_protocol.errors import MalformedError
from mcbn_protocol.messages import ReleaseRequest
from tests.fuzz.documents import ALICE, ROSTER
from tests.fuzz.material import texts

JSON = True
WORDS = (b"confidential-space", b"x25519", b"mlkem768-x25519", b"client", b"server", b"audit_heads", b"evidence")


def seeds() -> list[bytes]:
    return [one for one in texts("messages", "body", "output") if b"evidence" in one]


def target(data: bytes) -> None:
    with suppress(MalformedError):
        request = ReleaseRequest.parse(data)
        assert ReleaseRequest.parse(request.to_bytes()) == request
        assert len(request.binding(ROSTER.hash, ALICE)) == 32
