"""The page of foreign peers: whom our ends met in a run, and whom they must have met before it is written."""

from collections.abc import Collection, Iterable
from typing import Final, NamedTuple


class Meeting(NamedTuple):
    """One foreign peer, and our end that talked with it."""

    peer: str
    channel: str
    suite: str
    ours: str
    engine: str


_BOTH: Final = ("client", "server")
REQUIRED: Final = frozenset(
    (peer, channel, ours)
    for channel, peers, ends in (
        ("TLS 1.3 PSK", ("openssl", "Node.js", "stunnel", "GnuTLS", "Bouncy Castle"), _BOTH),
        ("TLS 1.3 PSK", ("C program on libssl",), ("server",)),
        ("TLS 1.2 PSK", ("openssl", "Node.js", "stunnel", "GnuTLS"), _BOTH),
        ("DTLS 1.2 PSK", ("openssl", "pion"), _BOTH),
        ("mutual TLS 1.3", ("openssl",), _BOTH),
        ("mutual TLS 1.3", ("curl",), ("server",)),
    )
    for peer in peers
    for ours in ends
)
"""Peer, channel and our end: without any of these the page is not written."""

_ENGINES: Final = ("pyopenssl", "mbedtls")
_OLD_SUITES: Final = ("ECDHE-PSK-CHACHA20-POLY1305", "PSK-AES128-GCM-SHA256", "PSK-AES128-CCM8")
REQUIRED_ROWS: Final = frozenset(
    Meeting("openssl", channel, suite, ours, engine)
    for channel in ("TLS 1.2 PSK", "DTLS 1.2 PSK")
    for suite in _OLD_SUITES
    for ours in _BOTH
    for engine in _ENGINES
) | frozenset(
    Meeting(f"{other} (ours)", channel, _OLD_SUITES[0], "server", engine)
    for channel in ("TLS 1.2 PSK", "DTLS 1.2 PSK")
    for other in _ENGINES
    for engine in _ENGINES
)
"""Whole rows without which it is not written either: every suite on either engine, and each engine with the other."""

_HEAD: Final = """\
<!-- Made by `make interop` from its own run. Do not edit. -->

# Peers that nobody here wrote

`make interop` writes this page after a run in which each of these talked with us, bytes went both ways, and nothing was
skipped. *suite*: what our end negotiated, or what the peer said. The same tests see peers with another key refused.
*ours*: which end of the channel was ours; *engine*: the TLS library at our end. The programs that stand for libraries
are in [`tests/interop/programs`](../../tests/interop/programs).

| peer | channel | suite | ours | engine |
|---|---|---|---|---|
"""


def unmet(met: Collection[Meeting]) -> list[tuple[str, ...]]:
    """Return what is missing before the page may be written."""
    missing: set[tuple[str, ...]] = set(REQUIRED - {(one.peer, one.channel, one.ours) for one in met})
    return sorted(missing | (REQUIRED_ROWS - set(met)))


def page(met: Iterable[Meeting]) -> str:
    """Return the page."""
    return _HEAD + "".join(f"| {' | '.join(one)} |\n" for one in sorted(met, key=lambda one: (one.channel, *one)))


def rows(text: str) -> set[Meeting]:
    """Read a page's rows back."""
    cells = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return {Meeting(*row) for row in cells if row[0] != "peer"}
