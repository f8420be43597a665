"""Makes a roster of cards, and says what is wrong with them in the words of whoever collected them."""

from collections.abc import Sequence

from mcbn_broker.errors import CeremonyError
from mcbn_protocol.participants import ParticipantCard
from mcbn_protocol.roster import THRESHOLD_MIN, Roster, build_roster


def make_roster(cards: Sequence[ParticipantCard], *, threshold: int | None) -> Roster:
    """Return the roster of these participants.

    Args:
        cards: One of each participant, in any order.
        threshold: None or the number of cards: every scheme of this version combines all shares.

    Raises:
        CeremonyError: Fewer than two cards, two of one participant, or a lower threshold.
        RosterError: Cards of several networks, or another rule of the roster is broken.
    """
    names = [one.name for one in cards]
    twice = ", ".join(sorted({name for name in names if names.count(name) > 1}))
    if twice:
        raise CeremonyError(f"two cards are of {twice}: give one for each participant")
    if len(cards) < THRESHOLD_MIN:
        raise CeremonyError("a roster needs at least two participants: give every participant's card")
    if threshold is not None and threshold < len(cards):
        raise CeremonyError("this version combines all shares: leave out --threshold")
    return build_roster(cards, threshold=threshold)
