"""The rules of a signature: who may sign this draft, and as what."""

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mcbn_broker.ceremony.drafts import Draft
from mcbn_broker.ceremony.signature_files import ManifestSignature
from mcbn_broker.errors import CeremonyError
from mcbn_protocol.roster import Roster
from mcbn_protocol.shares import CommitmentCard
from mcbn_protocol.signatures import Label, sign


def signer_of(draft: Draft, roster: Roster, consent_key: bytes) -> str:
    """Return the participant whose consent key (32 public bytes) this is.

    Raises:
        ManifestError: The draft belongs to another roster.
        CeremonyError: No participant of the roster has this key.
    """
    draft.manifest.check_roster(roster)
    for one in roster.participants:
        if one.consent_key == consent_key:
            return one.name
    raise CeremonyError(
        f"no participant of {roster.network} has this consent key: check --roster and --consent-key, "
        "and that it is not the key of another network"
    )


def check_own_commitment(draft: Draft, signer: str, card: CommitmentCard) -> None:
    """Check that the draft commits the signer to the share that its own broker made.

    Raises:
        CeremonyError: The card is another participant's or epoch's, or the draft has another commitment.
    """
    if (card.participant, card.epoch) != (signer, draft.manifest.epoch):
        raise CeremonyError(
            f"--commitment is the card of {card.participant} for epoch {card.epoch}; "
            f"{signer}'s card for epoch {draft.manifest.epoch} is needed"
        )
    if draft.manifest.commitments[signer] != card.commitment:
        raise CeremonyError(f"the draft has another commitment of {signer} than your card: do not sign it")


def sign_draft(draft: Draft, *, signer: str, roster: Roster, private_key: Ed25519PrivateKey) -> ManifestSignature:
    """Sign a draft that `signer_of` and the signing journal admitted."""
    envelope = sign(private_key, signer, Label.MANIFEST, roster.hash, draft.payload)
    return ManifestSignature(signer, draft.hash, envelope.sole_signature(signer))
