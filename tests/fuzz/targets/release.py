"""A broker's release as a workload reads it: never taken unsigned, and read strictly even if its participant signed."""

from contextlib import suppress

from mcbn_protocol.errors import MalformedError, RosterError, SignatureInvalidError
from mcbn_protocol.messages import Release
from mcbn_protocol.signatures import Label
from tests.fuzz.documents import ALICE, ROSTER, payloads, release_key, signed
from tests.fuzz.material import json_object, texts

JSON = True
WORDS = (b"x25519", b"mlkem768-x25519", b"client", b"server", b"alice", b"bob")
GENUINE = set(texts("release", "document", "output"))


def seeds() -> list[bytes]:
    return [*GENUINE, *texts("release", "document"), *payloads("release")]


def target(data: bytes) -> None:
    with suppress(MalformedError, RosterError, SignatureInvalidError):
        Release.parse(data, participant=ALICE, roster=ROSTER)
        assert data in GENUINE, "nobody signed it"
    payload = json_object(data)
    if payload is not None:
        with suppress(MalformedError):
            document = signed(Label.RELEASE, ALICE, payload)
            release = Release.parse(document, participant=ALICE, roster=ROSTER)
            assert release.sign(release_key(ALICE)).to_bytes() == document
