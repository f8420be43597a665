"""A broker's own challenges, which come back from anybody: 41 bytes, the last 16 of them a MAC."""

from contextlib import suppress

from mcbn_broker.errors import Refused
from mcbn_broker.keystore.home import ChallengeKey
from mcbn_broker.release.challenges import ChallengeContext, Challenges
from mcbn_protocol.encoding import b64u_encode
from mcbn_protocol.identifiers import ManifestHash, Role
from tests.fuzz.documents import ALICE, ROSTER

MAX_BYTES = 64
CHALLENGES = Challenges(ChallengeKey(bytes(range(32))), bytes)
CONTEXT = ChallengeContext(bytes(16), ROSTER.hash, ALICE, Role.CLIENT, ManifestHash(bytes(32)))
ISSUED = CHALLENGES.issue(CONTEXT, expires_at=1_800_000_000).challenge


def seeds() -> list[bytes]:
    return [ISSUED.encode(), b"A" * 55, bytes(41)]


def target(data: bytes) -> None:
    for text in (data.decode("utf-8", "surrogateescape"), b64u_encode(data[:41].ljust(41, b"\0"))):
        with suppress(Refused):
            assert CHALLENGES.recognise(text, CONTEXT).text == ISSUED
