"""A refusal as a workload reads it: the problem around it, which nobody signed, and the part that blames."""

from contextlib import suppress

from mcbn_protocol import limits
from mcbn_protocol.errors import MalformedError, RosterError, SignatureInvalidError
from mcbn_protocol.messages import Problem, Refusal
from mcbn_protocol.signatures import Envelope, Label
from tests.fuzz.documents import ALICE, ROSTER, payloads, release_key, signed
from tests.fuzz.material import json_object, texts

JSON = True
WORDS = (
    b"consent_paused",
    b"appraisal_failed",
    b"token_not_authentic",
    b"urn:mcbn:refusal:consent_paused",
    b"check",
    b"refusal",
)
GENUINE = {Envelope.parse(one, limit=limits.RESPONSE_BYTES) for one in texts("refusal", "document", "output")}
KINDS = (MalformedError, RosterError, SignatureInvalidError)


def seeds() -> list[bytes]:
    problems = [one for one in texts("messages", "body", "output") if b"urn:mcbn" in one]
    return [*problems, *(one.to_bytes() for one in GENUINE), *payloads("refusal")]


def target(data: bytes) -> None:
    with suppress(MalformedError):
        problem = Problem.parse(data)
        assert Problem.parse(problem.to_bytes()) == problem
        if problem.unverified_refusal is not None:
            judge(problem.unverified_refusal)
    with suppress(MalformedError):
        judge(Envelope.parse(data, limit=limits.RESPONSE_BYTES))
    payload = json_object(data)
    if payload is not None:
        with suppress(MalformedError):
            envelope = Envelope.parse(signed(Label.REFUSAL, ALICE, payload), limit=limits.RESPONSE_BYTES)
            refusal = Refusal.from_envelope(envelope, participant=ALICE, roster=ROSTER)
            assert refusal.sign(release_key(ALICE)) == envelope


def judge(envelope: Envelope) -> None:
    with suppress(*KINDS):
        Refusal.from_envelope(envelope, participant=ALICE, roster=ROSTER)
        assert envelope in GENUINE, "nobody signed it"
