"""What a channel keeps in place of its engine once it has ended."""

from mcbn_workload.channels.engine import Negotiated
from mcbn_workload.channels.errors import ChannelClosedError, HandshakeError, HandshakeTimeoutError


class EndedEngine:
    """An engine without keys, so that whoever still holds the ended channel holds no PSK and no session.

    It sends nothing and drops what it is fed. Only the facts of the handshake remain.
    """

    def __init__(self, negotiated: Negotiated | None) -> None:
        self.negotiated = negotiated

    def feed(self, ciphertext: bytes | bytearray | memoryview) -> None:
        """Drop it."""

    def feed_eof(self) -> None:
        """Do nothing."""

    def handshake(self) -> bool:
        """Say that there is none.

        Raises:
            ChannelClosedError: always.
        """
        raise ChannelClosedError("the channel has ended")

    def read(self, size: int) -> bytes | None:
        """Give nothing.

        Raises:
            ChannelClosedError: always.
        """
        raise ChannelClosedError(f"the channel has ended: there are no {size} bytes to read")

    def write(self, plaintext: bytes | bytearray | memoryview) -> int:
        """Take nothing.

        Raises:
            ChannelClosedError: always.
        """
        raise ChannelClosedError(f"the channel has ended: {len(plaintext)} bytes cannot be sent")

    def outgoing(self) -> list[bytes | bytearray]:
        """Return nothing."""
        return []

    def close(self) -> None:
        """Do nothing."""

    def next_timeout(self) -> float | None:
        """Return None: no timer runs."""
        return None

    def on_timeout(self) -> None:
        """Do nothing."""

    def stalled(self) -> HandshakeError:
        """Return what a handshake that ran out of time gets; its channel has a better reason."""
        return HandshakeTimeoutError("the channel has ended")
