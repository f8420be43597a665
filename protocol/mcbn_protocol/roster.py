"""The roster: who the participants are, under which keys, and how many of them must answer."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Self

from mcbn_protocol import limits
from mcbn_protocol.encoding import JsonObject, b64u_encode, canonical, parse_canonical
from mcbn_protocol.errors import RosterError
from mcbn_protocol.fields import Fields
from mcbn_protocol.identifiers import RosterHash, check_name, sha256
from mcbn_protocol.participants import ParticipantCard
from mcbn_protocol.signatures import KEY_BYTES, check_public_key

FORMAT: Final = "mcbn-roster-v1"
THRESHOLD_MIN: Final = 2


@dataclass(frozen=True)
class Participant:
    """One participant: its name and its two Ed25519 public keys of 32 bytes."""

    name: str
    consent_key: bytes
    release_key: bytes


@dataclass(frozen=True)
class Roster:
    """The participants in byte order of their names, and the threshold. It is built into the workload images.

    Raises:
        RosterError: Names not ascending, a key that occurs twice (whatever its use), a threshold out of range, or more
            than 100 participants.
    """

    network: str
    participants: tuple[Participant, ...]
    threshold: int

    def __post_init__(self) -> None:
        if list(self.names) != sorted(set(self.names)):
            raise RosterError("roster: the participants must be sorted by name and have different names")
        if len(self.participants) > limits.PARTICIPANTS:
            raise RosterError(f"roster: at most {limits.PARTICIPANTS} participants can agree")
        keys = [key for one in self.participants for key in (one.consent_key, one.release_key)]
        if len(set(keys)) != len(keys):
            raise RosterError("roster: a key occurs twice: every participant needs two keys of its own")
        if not THRESHOLD_MIN <= self.threshold <= len(self.participants):
            raise RosterError(
                f"roster: the threshold is {self.threshold}, but must be from {THRESHOLD_MIN} "
                f"to the number of participants, {len(self.participants)}"
            )

    @property
    def names(self) -> tuple[str, ...]:
        """The participants' names in byte order."""
        return tuple(one.name for one in self.participants)

    @cached_property
    def canonical_bytes(self) -> bytes:
        """The roster file: canonical JSON."""
        return canonical(self._to_json())

    @cached_property
    def hash(self) -> RosterHash:
        """SHA-256 of the canonical bytes."""
        return RosterHash(sha256(self.canonical_bytes))

    def participant(self, name: str) -> Participant:
        """Return a participant by name.

        Raises:
            RosterError: No participant has this name.
        """
        for one in self.participants:
            if one.name == name:
                return one
        raise RosterError(f"{name} is not in the roster of {self.network}")

    def share_index(self, name: str) -> int:
        """Return the 1-based place of a participant in byte order of the names."""
        return self.participants.index(self.participant(name)) + 1

    def _to_json(self) -> JsonObject:
        return {
            "format": FORMAT,
            "network": self.network,
            "participants": [
                {
                    "name": one.name,
                    "consent_key": b64u_encode(one.consent_key),
                    "release_key": b64u_encode(one.release_key),
                }
                for one in self.participants
            ],
            "threshold": self.threshold,
        }

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read a roster file.

        Raises:
            MalformedError: Not canonical JSON of this shape.
            RosterError: A rule of the roster is broken.
        """
        with Fields(parse_canonical(data, limit=limits.ROSTER_BYTES), "roster") as fields:
            fields.exactly("format", FORMAT)
            return cls(
                network=fields.decoded("network", check_name),
                participants=tuple(
                    _participant(item)
                    for item in fields.array("participants", minimum=THRESHOLD_MIN, maximum=limits.PARTICIPANTS)
                ),
                threshold=fields.integer("threshold", minimum=THRESHOLD_MIN, maximum=limits.PARTICIPANTS),
            )


def _participant(value: object) -> Participant:
    with Fields(value, "roster.participants") as fields:
        return Participant(
            name=fields.decoded("name", check_name),
            consent_key=check_public_key(fields.base64url("consent_key", length=KEY_BYTES)),
            release_key=check_public_key(fields.base64url("release_key", length=KEY_BYTES)),
        )


def build_roster(cards: Sequence[ParticipantCard], *, threshold: int | None) -> Roster:
    """Build the roster from all participants' cards. The same cards give the same bytes at everyone.

    Args:
        cards: At least two cards of one network, in any order.
        threshold: How many participants must answer; None means all of them.

    Raises:
        RosterError: Cards of several networks, or a rule of the roster is broken.
    """
    networks = sorted({card.network for card in cards})
    if len(networks) != 1:
        raise RosterError(f"the cards belong to different networks: {', '.join(networks) or 'no card was given'}")
    return Roster(
        network=networks[0],
        participants=tuple(
            Participant(card.name, card.consent_key, card.release_key)
            for card in sorted(cards, key=lambda card: card.name)
        ),
        threshold=len(cards) if threshold is None else threshold,
    )
