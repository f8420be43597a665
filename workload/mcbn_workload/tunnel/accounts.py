"""What a tunnel end counts and logs about its channels, over streams and datagrams alike."""

import logging
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from mcbn_workload.channels.engine import Negotiated

_log: Final = logging.getLogger("mcbn.workload.tunnel")

COMPLETED: Final = "completed"
CANCELLED: Final = "cancelled"


@dataclass(slots=True)
class TunnelStats:
    """Counters of one tunnel end since its start.

    Attributes:
        open: connections, or application peers over datagrams, being forwarded now.
        sent: bytes taken from applications and written to channels.
        received: bytes read from channels and handed to applications.
        refused: datagrams of applications that no channel carries: empty, or larger than fit in one.
        dropped: datagrams that could not be handed on in time.
        ended: how many connections ended for each reason: `completed`, `cancelled`, or an error's code.
    """

    open: int = 0
    sent: int = 0
    received: int = 0
    refused: int = 0
    dropped: int = 0
    ended: Counter[str] = field(default_factory=Counter)


def log_open(peer: str, agreed: Negotiated, epoch: int | None) -> None:
    """Log what was agreed with a peer, and under which epoch's key."""
    _log.info(
        "channel with %s: %s",
        peer,
        ", ".join(one for one in (agreed.protocol, agreed.suite, agreed.group) if one),
        extra={
            "event": "channel_open",
            "peer": peer,
            "protocol": agreed.protocol,
            "suite": agreed.suite,
            "group": agreed.group,
            "identity": agreed.identity,
            "epoch": epoch,
        },
    )


def log_end(peer: str, code: str, text: str, *, sent: int, received: int) -> None:
    """Log why forwarding ended, and how many bytes it was."""
    _log.info(
        "forwarding with %s ended: %s",
        peer,
        text,
        extra={"event": "channel_ended", "peer": peer, "code": code, "sent": sent, "received": received},
    )
