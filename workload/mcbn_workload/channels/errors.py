"""What can go wrong with a channel: one class for each cause that a reader of the log would act on differently.

The peer learns none of this. It sees one and the same alert; the cause is for this end's application and log.
"""

from mcbn_workload.errors import ExitCode, WorkloadError


class ChannelError(WorkloadError):
    """Root of all failures of a channel."""

    code = "channel_failed"
    exit_code = ExitCode.CHANNEL


class EngineUnavailableError(ChannelError):
    """The TLS library in this image lacks something that the engine needs."""

    code = "channel_engine_unavailable"


class PeerUnreachableError(ChannelError):
    """No transport connection to the far end could be made."""

    code = "channel_peer_unreachable"


class HandshakeError(ChannelError):
    """The handshake failed. The subclasses say why, where this end can know."""

    code = "channel_handshake_failed"


class HandshakeTimeoutError(HandshakeError):
    """The peer did not complete the handshake before the deadline."""

    code = "channel_handshake_timeout"


class HandshakeCutError(HandshakeError):
    """The peer closed the connection before the handshake was complete."""

    code = "channel_handshake_cut"


class PeerRefusedError(HandshakeError):
    """The peer sent a fatal alert. Only the peer's own log knows why."""

    code = "channel_peer_refused"


class PskMismatchError(HandshakeError):
    """Both ends name the same PSK identity, but the peer holds another key."""

    code = "channel_psk_mismatch"


class PskIdentityError(HandshakeError):
    """The peer offers a PSK identity that this end does not hold."""

    code = "channel_psk_identity_unknown"


class PeerKeyError(HandshakeError):
    """The peer's certificate has another key than the other role's of this epoch."""

    code = "channel_peer_key_unknown"


class PeerNotAuthenticatedError(HandshakeError):
    """The peer did not prove that it holds the key: no PSK, a certificate instead of it, or another session's."""

    code = "channel_peer_not_authenticated"


class ProtocolRefusedError(HandshakeError):
    """The peer offers no protocol version, cipher suite or group that this end accepts, or does not speak TLS."""

    code = "channel_protocol_refused"


class ChannelTruncatedError(ChannelError):
    """The transport ended without close_notify: what was read may be only the start of what was sent."""

    code = "channel_truncated"


class ChannelBrokenError(ChannelError):
    """A record that does not verify, a fatal alert, or a transport error, after the handshake."""

    code = "channel_broken"


class ChannelClosedError(ChannelError):
    """This end has closed or aborted the channel, or closed its writing direction."""

    code = "channel_closed"


class ChannelLimitError(ChannelError):
    """This end gave the connection up to stay within its limits (see `streams.Limits`)."""

    code = "channel_limit_reached"


def forget_frames(error: BaseException | None) -> None:
    """Drop the tracebacks of an error that has been dealt with, and of what caused it.

    Their frames hold the channel and the channel holds its reason: a cycle, so that a flood of failing peers would cost
    memory until the next garbage collection.
    """
    while error is not None:
        error.__traceback__ = None
        error = error.__cause__ or error.__context__
