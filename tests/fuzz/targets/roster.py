"""Rosters, and the cards that participants send each other before there is one."""

from contextlib import suppress

from mcbn_protocol.errors import MalformedError, RosterError, SignatureInvalidError
from mcbn_protocol.participants import ParticipantCard, fingerprint, parse_card
from mcbn_protocol.roster import Roster
from mcbn_protocol.shares import CommitmentCard
from mcbn_protocol.signatures import Label
from tests.fuzz.documents import ROSTER, consent_key, payloads, release_key, signed
from tests.fuzz.material import json_object, texts

JSON = True
KINDS = (MalformedError, RosterError, SignatureInvalidError)
WORDS = (b"participants", b"threshold", b"network", b"consent_key", b"release_key", b"alice", b"https://a.example:1/x")
BOB = "bob"


def seeds() -> list[bytes]:
    cards = [*texts("participant-card", "document", "output"), *texts("commitment-card", "document", "output")]
    return [*texts("roster", "roster"), *cards, *payloads("participant-card"), *payloads("commitment-card")]


def target(data: bytes) -> None:
    with suppress(MalformedError, RosterError):
        assert Roster.parse(data).canonical_bytes == data
    with suppress(*KINDS):
        assert len(fingerprint(parse_card(data))) == 79
    with suppress(*KINDS):
        CommitmentCard.parse(data, ROSTER)
    payload = json_object(data)
    if payload is not None:
        with suppress(*KINDS):
            assert ParticipantCard.from_payload(payload).to_payload() == payload
            parse_card(ParticipantCard.from_payload(payload).sign(consent_key(BOB), release_key(BOB)).to_bytes())
        with suppress(*KINDS):
            document = signed(Label.SHARE_COMMITMENT, BOB, payload)
            assert CommitmentCard.parse(document, ROSTER).sign(release_key(BOB), ROSTER).to_bytes() == document
