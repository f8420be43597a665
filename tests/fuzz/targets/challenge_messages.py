"""Asking for a challenge, and the answer."""

from contextlib import suppress

from mcbn_protocol.errors import MalformedError
from mcbn_protocol.messages import Challenge, ChallengeRequest
from tests.fuzz.material import texts

JSON = True
MAX_BYTES = 1024
WORDS = (b"client", b"server", b"role", b"manifest_hash", b"challenge", b"expires_at")


def seeds() -> list[bytes]:
    return [one for one in texts("messages", "body", "output") if len(one) < 200]


def target(data: bytes) -> None:
    with suppress(MalformedError):
        request = ChallengeRequest.parse(data)
        assert ChallengeRequest.parse(request.to_bytes()) == request
    with suppress(MalformedError):
        answer = Challenge.parse(data)
        assert Challenge.parse(answer.to_bytes()) == answer
