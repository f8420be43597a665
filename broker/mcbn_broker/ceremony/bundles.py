"""Joins a draft and every participant's signature into the bundle that brokers and workloads accept."""

from collections.abc import Sequence

from mcbn_broker.ceremony.drafts import Draft
from mcbn_broker.ceremony.signature_files import ManifestSignature
from mcbn_broker.errors import CeremonyError
from mcbn_protocol.manifest import AgreedManifest
from mcbn_protocol.roster import Roster
from mcbn_protocol.signatures import Envelope, Signature


def join_bundle(draft: Draft, signatures: Sequence[ManifestSignature], roster: Roster) -> AgreedManifest:
    """Return the agreed manifest, its bundle's bytes included.

    Raises:
        CeremonyError: A signature of another draft, or of a participant who is there twice.
        ManifestError: A signature is missing, or the draft belongs to another roster.
        SignatureInvalidError: A signature does not verify under the roster's consent key.
    """
    for one in signatures:
        if one.manifest_hash != draft.hash:
            raise CeremonyError(
                f"{one.participant} signed the manifest {one.manifest_hash.hex()}, but this draft is "
                f"{draft.hash.hex()}: everybody must sign the same file"
            )
    names = [one.participant for one in signatures]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise CeremonyError(f"two signatures of {', '.join(twice)}: give one file for each participant")
    ordered = sorted(signatures, key=lambda one: one.participant)
    envelope = Envelope(draft.payload, tuple(Signature(one.participant, one.signature) for one in ordered))
    return AgreedManifest.parse(envelope.to_bytes(), roster)
