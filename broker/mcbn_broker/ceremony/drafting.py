"""Joins roster, cards, commitments and terms into the draft that everybody signs."""

from collections.abc import Sequence

from mcbn_broker.ceremony.drafts import Draft
from mcbn_broker.ceremony.predecessor import Predecessor
from mcbn_broker.ceremony.terms import Terms
from mcbn_broker.errors import CeremonyError
from mcbn_broker.moments import duration, moment
from mcbn_protocol.encoding import JsonObject
from mcbn_protocol.manifest import FORMAT, Manifest
from mcbn_protocol.participants import ParticipantCard
from mcbn_protocol.roster import Participant, Roster
from mcbn_protocol.shares import CommitmentCard


def draft_manifest(
    roster: Roster,
    terms: Terms,
    *,
    cards: Sequence[ParticipantCard],
    commitments: Sequence[CommitmentCard],
    previous: Predecessor | None,
    now: int,
) -> Draft:
    """Return the draft of the next epoch.

    Args:
        roster: The participants.
        terms: What they agreed on.
        cards: Every participant's card, once.
        commitments: Every participant's commitment card for this epoch, once.
        previous: The manifest of the epoch before, or None for epoch 1.
        now: Unix seconds: `valid_from` where the terms have none.

    Raises:
        CeremonyError: A card is missing, given twice, of another network, of other keys or of another epoch; or the
            terms' times do not fit each other or the present.
        MalformedError: A term has another shape.
        ManifestError: The terms break a rule of the agreement.
    """
    epoch = 1 if previous is None else previous.epoch + 1
    _check_cards(roster, cards)
    _check_commitments(roster, commitments, epoch)
    valid_from, valid_until = terms.validity(now)
    _check_validity(valid_from, valid_until, now)
    _check_overlap(terms, valid_until - valid_from)
    payload: JsonObject = {
        "format": FORMAT,
        "roster_hash": roster.hash.hex(),
        "epoch": epoch,
        "previous": None if previous is None else previous.hash.hex(),
        "valid_from": valid_from,
        "valid_until": valid_until,
        "commitments": {one.participant: one.commitment.hex() for one in commitments},
        "brokers": _brokers(cards, terms),
        **terms.members,
    }
    manifest = Manifest.from_payload(payload)
    manifest.check_roster(roster)
    return Draft.of(manifest)


def _check_validity(valid_from: int, valid_until: int, now: int) -> None:
    if valid_until <= valid_from:
        raise CeremonyError(
            f"the terms' valid_until, {moment(valid_until)}, is not after valid_from, {moment(valid_from)}: "
            "set a later valid_until, or valid_days in its place"
        )
    if valid_until <= now:
        raise CeremonyError(
            f"the terms end in the past, at {moment(valid_until)}: set a later valid_until, or leave out valid_from "
            "and give valid_days"
        )


def _check_overlap(terms: Terms, length: int) -> None:
    overlap = terms.members["overlap_seconds"]
    if isinstance(overlap, int) and overlap > length:
        raise CeremonyError(
            f"the terms' overlap_seconds, {overlap} ({duration(overlap)}), is longer than their validity, {length} "
            f"({duration(length)}): set a shorter overlap_seconds, or more valid_days"
        )


def _check_cards(roster: Roster, cards: Sequence[ParticipantCard]) -> None:
    _check_names("participant card", [one.name for one in cards], roster)
    for card in cards:
        if card.network != roster.network:
            raise CeremonyError(f"the card of {card.name} is for the network {card.network}, not {roster.network}")
        if Participant(card.name, card.consent_key, card.release_key) != roster.participant(card.name):
            raise CeremonyError(f"the card of {card.name} has other keys than the roster: ask for the right one")


def _check_commitments(roster: Roster, commitments: Sequence[CommitmentCard], epoch: int) -> None:
    _check_names("commitment card", [one.participant for one in commitments], roster)
    for one in commitments:
        if one.epoch != epoch:
            raise CeremonyError(
                f"the commitment card of {one.participant} is for epoch {one.epoch}, but this draft opens epoch "
                f"{epoch}: give the accepted bundle with --previous, or ask {one.participant} for a new card"
            )


def _check_names(what: str, names: Sequence[str], roster: Roster) -> None:
    missing = ", ".join(sorted(set(roster.names) - set(names)))
    unknown = ", ".join(sorted(set(names) - set(roster.names)))
    twice = ", ".join(sorted({name for name in names if names.count(name) > 1}))
    for problem, who in (("is missing", missing), ("is not of this roster", unknown), ("is given twice", twice)):
        if who:
            raise CeremonyError(f"the {what} {problem}: {who}")


def _brokers(cards: Sequence[ParticipantCard], terms: Terms) -> JsonObject:
    strangers = ", ".join(sorted(set(terms.brokers) - {card.name for card in cards}))
    if strangers:
        raise CeremonyError(f"terms.brokers: not in the roster: {strangers}")
    brokers: JsonObject = {}
    for card in cards:
        override = terms.brokers.get(card.name)
        address: JsonObject = {"url": (override and override.url) or card.url}
        if override is not None and override.tls_ca is not None:
            address["tls_ca"] = override.tls_ca
        brokers[card.name] = address
    return brokers
