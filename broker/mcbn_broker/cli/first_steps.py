"""What comes after `init`, as `init`, `card`, `roster build` and `status` say it."""


def make_card(name: str) -> str:
    """Return how a participant whose broker was made comes to its card."""
    return (
        f"mcbn-broker consent-key new --out {name}.consent-key.json; then "
        f"mcbn-broker card --consent-key {name}.consent-key.json --out {name}.participant.json"
    )


def build_roster(card: str) -> str:
    """Return how a participant whose card is in the file `card` comes to the roster."""
    return (
        f"send {card} to the other participants, compare the fingerprints by telephone, "
        "then: mcbn-broker roster build *.participant.json --out roster.json"
    )


def adopt_roster(name: str, roster: str) -> str:
    """Return how a participant that has the roster comes to its first share."""
    return f"mcbn-broker share new --roster {roster} --out {name}.commitment.json"
