"""A participant's share, its commitment, and the signed card that carries a commitment to the others."""

import hmac
from dataclasses import dataclass
from typing import Final, Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mcbn_protocol import limits
from mcbn_protocol.encoding import JsonObject, lp, u64be
from mcbn_protocol.errors import KeyScheduleError, ShareMismatchError
from mcbn_protocol.fields import Fields
from mcbn_protocol.identifiers import check_name, sha256
from mcbn_protocol.limits import SHARE_BYTES
from mcbn_protocol.roster import Roster
from mcbn_protocol.secret import Secret
from mcbn_protocol.signatures import Envelope, Label, sign, verify

COMMIT_LABEL: Final = "mcbn/commit/v1"
CARD_FORMAT: Final = "mcbn-share-commitment-v1"


class Share(Secret):
    """One participant's 32 random bytes for one epoch.

    Raises:
        KeyScheduleError: Another length, or all bytes equal (a share that was never drawn at random).
    """

    __slots__ = ()

    def __init__(self, value: bytes) -> None:
        if len(value) != SHARE_BYTES:
            raise KeyScheduleError(f"a share has {SHARE_BYTES} bytes, not {len(value)}")
        if len(set(value)) == 1:
            raise KeyScheduleError("a share whose bytes are all equal was not drawn at random")
        super().__init__(value)


def commitment(network: str, participant: str, epoch: int, share: Share) -> bytes:
    """Return SHA-256(LP("mcbn/commit/v1") || LP(network) || LP(participant) || u64be(epoch) || LP(share)), 32 bytes.

    The share is 32 random bytes, so the hash hides it; the hash binds it, so its owner cannot change it later.
    """
    return sha256(lp(COMMIT_LABEL) + lp(network) + lp(participant) + u64be(epoch) + lp(share.reveal()))


def check_share(network: str, participant: str, epoch: int, share: Share, committed: bytes) -> None:
    """Check a share against the commitment of the signed manifest.

    Raises:
        ShareMismatchError: It is not the share that its participant committed to.
    """
    if not hmac.compare_digest(commitment(network, participant, epoch, share), committed):
        raise ShareMismatchError(participant)


@dataclass(frozen=True)
class CommitmentCard:
    """A participant's commitment (32 bytes) to its share for one epoch."""

    participant: str
    epoch: int
    commitment: bytes

    def sign(self, release_key: Ed25519PrivateKey, roster: Roster) -> Envelope:
        """Return the card signed with the broker's release key."""
        payload: JsonObject = {
            "format": CARD_FORMAT,
            "participant": self.participant,
            "epoch": self.epoch,
            "commitment": self.commitment.hex(),
        }
        return sign(release_key, self.participant, Label.SHARE_COMMITMENT, roster.hash, payload)

    @classmethod
    def parse(cls, data: bytes, roster: Roster) -> Self:
        """Read a commitment card and verify it under the roster's release key.

        Raises:
            MalformedError: Not a commitment card.
            RosterError: Its participant is not in the roster.
            SignatureInvalidError: Another key signed it.
        """
        envelope = Envelope.parse(data, limit=limits.CARD_BYTES)
        with Fields(envelope.payload, "commitment card") as fields:
            fields.exactly("format", CARD_FORMAT)
            card = cls(
                participant=fields.decoded("participant", check_name),
                epoch=fields.integer("epoch", minimum=1, maximum=limits.EPOCH_MAX),
                commitment=fields.hash("commitment"),
            )
        verify(
            roster.participant(card.participant).release_key,
            envelope.sole_signature(card.participant),
            label=Label.SHARE_COMMITMENT,
            roster_hash=roster.hash,
            payload_bytes=envelope.payload_bytes,
            participant=card.participant,
            what="commitment card",
        )
        return card
