"""Audit heads: a broker reads them from workloads, a workload from brokers, and people from files."""

from contextlib import suppress

from mcbn_broker.audit.heads import parse_signed_head
from mcbn_broker.errors import CeremonyError
from mcbn_protocol import limits
from mcbn_protocol.errors import MalformedError, ProtocolError, RosterError, SignatureInvalidError
from mcbn_protocol.messages import AuditHead
from mcbn_protocol.signatures import Envelope, Label
from tests.fuzz.documents import ROSTER, payloads, release_key, signed
from tests.fuzz.material import json_object, texts

JSON = True
WORDS = (b"alice", b"bob", b"carol", b"audit_sequence", b"incarnation")
BOB = "bob"
GENUINE = {*texts("audit-head", "document", "output"), *texts("release", "document", "output")}


def seeds() -> list[bytes]:
    return [*GENUINE, *texts("audit-head", "document"), *payloads("audit-head")]


def target(data: bytes) -> None:
    with suppress(ProtocolError, CeremonyError):
        parse_signed_head(data, participant=BOB, roster=ROSTER)
        assert data in GENUINE, "nobody signed it"
    payload = json_object(data)
    if payload is not None:
        with suppress(MalformedError, RosterError, SignatureInvalidError):
            envelope = Envelope.parse(signed(Label.AUDIT_HEAD, BOB, payload), limit=limits.CARD_BYTES)
            head = AuditHead.from_envelope(envelope, roster=ROSTER)
            assert head.participant == BOB
            assert head.sign(release_key(BOB)) == envelope
