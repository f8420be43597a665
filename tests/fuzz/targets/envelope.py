"""Signed documents in transport form, before any signature is looked at."""

from contextlib import suppress

from mcbn_protocol import limits
from mcbn_protocol.errors import MalformedError
from mcbn_protocol.signatures import Envelope
from tests.fuzz.material import texts

JSON = True
WORDS = (b"payload", b"signatures", b"participant", b"signature", b"alice")


def seeds() -> list[bytes]:
    return [one for name in ("release", "refusal", "audit-head") for one in texts(name, "document", "output")]


def target(data: bytes) -> None:
    with suppress(MalformedError):
        envelope = Envelope.parse(data, limit=limits.CARD_BYTES)
        assert envelope.to_bytes() == data
        assert Envelope.from_json(envelope.to_json(), "document") == envelope
