"""The sans-IO interface of a channel engine, and the facts that a handshake establishes."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from mcbn_workload.channels.errors import HandshakeError


@dataclass(frozen=True, slots=True)
class Negotiated:
    """What the two ends agreed on. Nothing here is secret.

    Attributes:
        protocol: protocol version, such as `TLSv1.3`.
        suite: cipher suite, by its IANA name in TLS 1.3.
        group: key exchange group, or the empty string where the engine cannot tell.
        identity: what names the peer's key: the PSK identity, or a digest of the public key.
        max_datagram: the largest plaintext, in bytes, that one `write` carries; None on a stream.
    """

    protocol: str
    suite: str
    group: str
    identity: str
    max_datagram: int | None = None


class Engine(Protocol):
    """One end of one channel, as a state machine that knows neither sockets, clocks nor event loops.

    Whoever carries the bytes calls `outgoing` after any other method and transmits each item: on a stream in order, on
    datagrams each as one datagram. Failures are `ChannelError`s, are final, and are raised again by each later call;
    what `outgoing` then gives is the alert for the peer. More methods than the usual five, because one interface
    serves streams (end of the transport, half-close) and datagrams (boundaries, retransmission timers).
    """

    @property
    def negotiated(self) -> Negotiated | None:
        """The agreed facts; None until the handshake has completed and the peer is authenticated."""

    def feed(self, ciphertext: bytes | bytearray | memoryview) -> None:
        """Take what arrived: any piece of a stream, or exactly one datagram. The buffer may be reused afterwards."""

    def feed_eof(self) -> None:
        """Take note that the transport ended. Without a close_notify before it, this is a failure for the reader."""

    def handshake(self) -> bool:
        """Go on with the handshake.

        Returns:
            True once it is complete; False when more must be fed first.

        Raises:
            HandshakeError: the peer is not the one that we share the key with, or the transport ended.
        """

    def read(self, size: int) -> bytes | None:
        """Give plaintext: at most `size` bytes, on datagrams the content of one.

        Returns:
            None when what was fed is used up and more must be fed first; `b""` once the peer has sent close_notify.
            Writing is then still possible.

        Raises:
            ChannelClosedError: the handshake is not complete.
            ChannelTruncatedError: the transport ended without close_notify.
            ChannelBrokenError: a record did not verify, or the peer sent a fatal alert.
        """

    def write(self, plaintext: bytes | bytearray | memoryview) -> int:
        """Encrypt; on datagrams all of it in one record.

        Returns:
            The number of bytes taken, at least one of a non-empty buffer.

        Raises:
            ChannelClosedError: the handshake is not complete, or `close` came before.
            ChannelLimitError: more than `Negotiated.max_datagram` bytes.
            ChannelBrokenError: the channel failed before.
        """

    def outgoing(self) -> list[bytes | bytearray]:
        """Hand over what is to be transmitted. The engine keeps no reference to it."""

    def close(self) -> None:
        """Send close_notify: the end of our direction. Reading is then still possible. A second call does nothing.

        Raises:
            ChannelBrokenError: the channel failed before, so that no close_notify can be sent.
        """

    def next_timeout(self) -> float | None:
        """Seconds until `on_timeout` is due; None when no timer runs. Streams have none."""

    def on_timeout(self) -> None:
        """Do what is due, such as retransmitting a flight."""


class DatagramEngine(Engine, Protocol):
    """An engine over datagrams: `feed` takes and `outgoing` gives one each, and timers send lost ones again."""

    def stalled(self) -> HandshakeError:
        """Say why the handshake may not have got to its end in time: over datagrams a wrong key is only silence."""


class Acceptor(Protocol):
    """Turns away, without any state, whoever cannot show that it receives at the address from which it sends."""

    def accept(self, datagram: bytes | bytearray | memoryview, address: bytes) -> DatagramEngine | None:
        """Judge a datagram of a peer that has no engine yet.

        Args:
            datagram: What arrived.
            address: Names the peer's address.

        Returns:
            The engine of a new channel, once a ClientHello shows that it got an earlier answer; go on with
            `handshake`. Else None.
        """

    def outgoing(self) -> list[bytes | bytearray]:
        """Hand over the answers to what was not accepted. Each is no larger than its question."""


EngineFactory = Callable[[], Engine]
"""Makes the engine of one new channel. A factory is made for one role, client or server, and never serves both."""

DatagramEngineFactory = Callable[[], DatagramEngine]
"""The same for a client's channels over datagrams."""

OlderEngine = Callable[[], Engine | None]
"""Makes the engine of a client's second attempt, under an older key; None where no such key is live."""

OlderDatagramEngine = Callable[[], DatagramEngine | None]
"""The same for a client's channels over datagrams."""
