"""Which accepted manifest a broker releases under at a given time, and which one it may accept next."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from mcbn_broker.errors import CeremonyError
from mcbn_broker.moments import moment
from mcbn_protocol.manifest import AgreedManifest, Manifest


@dataclass(frozen=True)
class AcceptedManifest:
    """A manifest that this participant accepted, when (Unix seconds), and whether its epoch key was destroyed since."""

    agreed: AgreedManifest
    accepted_at: int
    retired: bool


class ManifestState(StrEnum):
    """How an accepted manifest stands at one time."""

    CURRENT = "current"
    PREVIOUS = "previous"
    UPCOMING = "upcoming"
    EXPIRED = "expired"
    SUPERSEDED = "superseded"


SERVING = frozenset({ManifestState.CURRENT, ManifestState.PREVIOUS})
OUT_OF_TIME = frozenset({ManifestState.UPCOMING, ManifestState.EXPIRED})


def manifest_state(manifest: Manifest, accepted: Sequence[Manifest], now: int) -> ManifestState:
    """Return how one of the accepted manifests stands.

    The current one is the highest that has begun. The epoch just below it goes on serving during the current one's
    overlap; where an epoch was skipped there is no overlap, because the skipped one may have been a revocation. Nothing
    serves from its `valid_until` on.

    Args:
        manifest: One of `accepted`.
        accepted: All that may still serve, in any order.
        now: Unix seconds.
    """
    if now < manifest.valid_from:
        return ManifestState.UPCOMING
    newest = max((one for one in accepted if one.valid_from <= now), key=lambda one: one.epoch)
    if newest.epoch == manifest.epoch:
        return ManifestState.CURRENT if now < manifest.valid_until else ManifestState.EXPIRED
    return ManifestState.PREVIOUS if now < serves_until(manifest, accepted) else ManifestState.SUPERSEDED


def serves_until(manifest: Manifest, accepted: Sequence[Manifest]) -> int:
    """Return when a manifest stops serving: its own end, or the end of a successor's overlap (Unix seconds)."""
    ends = [
        one.valid_from + (one.overlap_seconds if one.epoch == manifest.epoch + 1 else 0)
        for one in accepted
        if one.epoch > manifest.epoch
    ]
    return min([manifest.valid_until, *ends])


def expiry(epoch: int, valid_until: int, *, following: int) -> str:
    """Return what people are told of an accepted manifest that has expired; `following` is the epoch to agree on."""
    return f"the manifest of epoch {epoch} expired at {moment(valid_until)}: agree on epoch {following}"


def check_unexpired(manifest: Manifest, now: int) -> None:
    """Check that a manifest can still serve: signing or accepting it later would only put out the one in force.

    Args:
        manifest: Of any epoch.
        now: Unix seconds.

    Raises:
        CeremonyError: Its time is over.
    """
    if now >= manifest.valid_until:
        raise CeremonyError(f"this manifest expired at {moment(manifest.valid_until)}: draft the next epoch")


def check_acceptable(
    candidate: AgreedManifest,
    accepted: Sequence[AcceptedManifest],
    *,
    lowest_epoch: int,
    participant: str,
    own_commitment: bytes | None,
    now: int,
) -> None:
    """Check that a manifest, whose signatures were verified, may become the highest accepted one.

    Its time is not over. Its epoch is above every accepted one. The next one names the highest accepted one's hash. A
    later one may skip epochs: nobody signs two manifests of one epoch, so a draft that only some signed uses its epoch
    up; and a participant that lost its database joins again at a new epoch. Everyone, we too, signed that it follows.

    Args:
        candidate: The manifest.
        accepted: All that were ever accepted, in ascending order.
        lowest_epoch: What the anchor outside of the database remembers as the highest epoch; nothing below is accepted.
        participant: Whose broker this is.
        own_commitment: The commitment to our share for the candidate's epoch, or None if we made none.
        now: Unix seconds.

    Raises:
        CeremonyError: A rule is broken.
    """
    manifest = candidate.manifest
    check_unexpired(manifest, now)
    _check_order(candidate, accepted, lowest_epoch)
    if own_commitment is None:
        raise CeremonyError(f"no share was made here for epoch {manifest.epoch}: run `mcbn-broker share new` first")
    if manifest.commitments[participant] != own_commitment:
        raise CeremonyError(
            f"the manifest's commitment of {participant} is not that of the share made here: draft it anew with the "
            "commitment card that `mcbn-broker share new` gives"
        )
    _check_fresh(manifest.commitments, accepted)


def _check_order(candidate: AgreedManifest, accepted: Sequence[AcceptedManifest], lowest_epoch: int) -> None:
    epoch = candidate.manifest.epoch
    if epoch < lowest_epoch:
        raise CeremonyError(
            f"epoch {epoch} is below {lowest_epoch}, which was accepted before the database was replaced"
        )
    if not accepted:
        return
    highest = accepted[-1].agreed
    if epoch <= highest.manifest.epoch:
        raise CeremonyError(
            f"the manifest's epoch is {epoch}, but {highest.manifest.epoch} was accepted already: draft a later one"
        )
    if epoch == highest.manifest.epoch + 1 and candidate.manifest.previous != highest.hash:
        raise CeremonyError("the manifest does not name the accepted one as its previous: draft it with --previous")


def _check_fresh(commitments: Mapping[str, bytes], accepted: Sequence[AcceptedManifest]) -> None:
    used = {value: one.agreed.manifest.epoch for one in accepted for value in one.agreed.manifest.commitments.values()}
    for name, value in commitments.items():
        if value in used:
            raise CeremonyError(
                f"{name} repeats a commitment of epoch {used[value]}: each epoch needs fresh shares, else those who "
                "held the old keys can compute the new ones"
            )
