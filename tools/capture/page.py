"""Renders what tshark reads into the page for people, between two marks."""

from typing import Final

from capture.decode import Decoded, decode, tshark_version
from capture.sessions import Session

BEGIN: Final = "<!-- Made by `make capture`: do not edit up to the other mark. -->\n"
END: Final = "<!-- The end of what `make capture` makes. -->\n"

_HEAD: Final = """\
| channel | version | cipher suite | PSK identity | certificates | application's bytes |
|---|---|---|---|---|---|
"""
_NOTHING: Final = "nothing"


def both_ways(session: Session) -> tuple[Decoded, Decoded]:
    """Return what tshark reads in a session without its key log and with it."""
    sealed = decode(session.capture, datagrams=session.plan.datagrams)
    return sealed, decode(session.capture, datagrams=session.plan.datagrams, key_log=session.key_log)


def render(sessions: list[Session]) -> str:
    """Return both tables."""
    read = [(session.plan.name, *both_ways(session)) for session in sessions]
    return (
        f"By tshark {tshark_version()}, without the key log:\n\n"
        + _HEAD
        + "".join(_row(name, sealed) for name, sealed, _ in read)
        + "\nand with it:\n\n"
        + _HEAD
        + "".join(_row(name, opened) for name, _, opened in read)
    )


def insert(page: str, made: str) -> str:
    """Return a page with something else between its marks.

    Raises:
        ValueError: It has no marks.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError("the page has lost its two marks: put them back, on lines of their own")
    return f"{before}{BEGIN}\n{made}\n{END}{after}"


def _row(name: str, decoded: Decoded) -> str:
    said = " ".join(f"`{one.data.decode('ascii')}`" for one in decoded.said)
    identity = "" if decoded.identity is None else f"`{decoded.identity}`"
    cells = (f"`{name}`", decoded.version, decoded.suite, identity, ", ".join(decoded.names), said)
    return f"| {' | '.join(cell or _NOTHING for cell in cells)} |\n"
