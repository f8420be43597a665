"""Three participants with keys, cards and a roster, and terms that they could agree on."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mcbn_broker.ceremony.drafting import draft_manifest
from mcbn_broker.ceremony.drafts import Draft
from mcbn_broker.ceremony.predecessor import Predecessor
from mcbn_broker.ceremony.signing import sign_draft
from mcbn_broker.ceremony.template import terms_template
from mcbn_broker.ceremony.terms import Terms
from mcbn_protocol.participants import ParticipantCard
from mcbn_protocol.roster import Roster, build_roster
from mcbn_protocol.shares import CommitmentCard, Share, commitment

CERTIFICATE = (Path(__file__).parents[3] / "authority.pem").read_text()
FILES = {"bob.pem": CERTIFICATE}
NETWORK = "demo"
NAMES = ("alice", "bob", "carol")
NOW = 1_900_000_000
FILLED = {
    "FILL_IN_CLIENT_IMAGE_DIGEST": "sha256:" + "c1" * 32,
    "FILL_IN_SERVER_IMAGE_DIGEST": "sha256:" + "5e" * 32,
    "FILL_IN_CLIENT_ENTRYPOINT": "/usr/local/bin/mcbn-workload",
    "FILL_IN_SERVER_ENTRYPOINT": "/usr/local/bin/mcbn-workload",
    "FILL_IN_PROJECT_NUMBER": "100000000001",
}


@dataclass(frozen=True)
class Person:
    """A participant's two private keys and its card."""

    name: str
    consent_key: Ed25519PrivateKey
    release_key: Ed25519PrivateKey
    url: str = "https://broker.{}.example"

    @property
    def consent_public(self) -> bytes:
        return self.consent_key.public_key().public_bytes_raw()

    @property
    def card(self) -> ParticipantCard:
        release_public = self.release_key.public_key().public_bytes_raw()
        return ParticipantCard(NETWORK, self.name, self.consent_public, release_public, self.url.format(self.name))


@dataclass(frozen=True)
class Ceremony:
    """What all three know, and short cuts to each step."""

    people: dict[str, Person]
    roster: Roster

    @property
    def cards(self) -> list[ParticipantCard]:
        return [one.card for one in self.people.values()]

    def commitments(self, epoch: int = 1) -> list[CommitmentCard]:
        return [CommitmentCard(name, epoch, commitment(NETWORK, name, epoch, Share(os.urandom(32)))) for name in NAMES]

    def terms(self, text: str | None = None, files: Mapping[str, str] = FILES) -> Terms:
        return Terms.parse((text or filled_template()).encode(), read_text=files.__getitem__)

    def draft(self, previous: Predecessor | None = None, **changes) -> Draft:
        epoch = 1 if previous is None else previous.epoch + 1
        arguments: dict[str, Any] = {"cards": self.cards, "commitments": self.commitments(epoch), "now": NOW} | changes
        return draft_manifest(self.roster, arguments.pop("terms", None) or self.terms(), previous=previous, **arguments)

    def signatures(self, draft: Draft, names=NAMES):
        return [
            sign_draft(draft, signer=name, roster=self.roster, private_key=self.people[name].consent_key)
            for name in names
        ]


def filled_template(simulated: str | None = None) -> str:
    text = terms_template(simulated)
    for placeholder, value in FILLED.items():
        text = text.replace(placeholder, value)
    return text


@pytest.fixture
def ceremony() -> Ceremony:
    people = {name: Person(name, Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()) for name in NAMES}
    return Ceremony(people, build_roster([one.card for one in people.values()], threshold=None))


@pytest.fixture
def template_text():
    """Give `template_text(simulated=None)`: the template with every placeholder replaced."""
    return filled_template
