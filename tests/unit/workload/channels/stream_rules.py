"""Two ends of a stream channel in memory, and what holds for every such pair, whatever library and version it is."""

import pytest

from mcbn_workload.channels import errors
from mcbn_workload.channels.engine import Engine


def attempt(engine: Engine) -> Exception | None:
    try:
        engine.handshake()
    except errors.ChannelError as error:
        return error
    return None


def carry(source: Engine, sink: Engine, piece: int | None = None) -> bytes:
    """Deliver what `source` has to send, in pieces of that many bytes, with a handshake step after each."""
    data = b"".join(source.outgoing())
    for start in range(0, len(data), piece or len(data) or 1):
        sink.feed(data[start : start + (piece or len(data))])
        if piece:
            attempt(sink)
    return data


def shake(client: Engine, server: Engine, piece: int | None = None) -> list[bytes]:
    """Run the handshake as far as it goes; return each flight."""
    flights = []
    for _ in range(4):
        for source, sink in ((client, server), (server, client)):
            attempt(source)
            flights.append(carry(source, sink, piece))
    return flights


def shaken(client: Engine, server: Engine) -> tuple[Engine, Engine]:
    """Give both ends after a handshake that has to succeed."""
    shake(client, server)
    assert client.negotiated is not None
    assert server.negotiated is not None
    return client, server


def assert_close_notify_ends_one_direction_only(first: Engine, second: Engine) -> None:
    first.write(b"last words")
    first.close()
    first.close()
    carry(first, second)
    second.feed_eof()
    assert second.read(100) == b"last words"
    assert second.read(100) == b""
    assert second.read(100) == b""
    with pytest.raises(errors.ChannelClosedError):
        first.write(b"more")
    second.write(b"still here")
    carry(second, first)
    assert first.read(100) == b"still here"
    second.close()
    carry(second, first)
    assert first.read(100) == b""


def assert_truncation_is_a_failure_after_what_arrived(client: Engine, server: Engine, cut: int) -> None:
    """The network ends after so many bytes of the second record."""
    client.write(b"first")
    carry(client, server)
    client.write(b"second")
    server.feed(b"".join(client.outgoing())[:cut])
    server.feed_eof()
    assert server.read(100) == b"first"
    for _ in range(2):
        with pytest.raises(errors.ChannelTruncatedError):
            server.read(100)


def assert_a_flipped_bit_breaks_the_channel_for_good(client: Engine, server: Engine) -> Exception:
    """Return the error at the end that sent it, which the other has told."""
    client.write(b"good")
    client.write(b"bad")
    data = bytearray(b"".join(client.outgoing()))
    data[-1] ^= 1
    server.feed(data)
    assert server.read(100) == b"good"
    for call in (lambda: server.read(100), lambda: server.write(b"x"), server.handshake):
        with pytest.raises(errors.ChannelBrokenError):
            call()
    carry(server, client)
    with pytest.raises(errors.ChannelBrokenError) as caught:
        client.read(100)
    return caught.value


def assert_closing_after_a_bad_record_is_a_failure(client: Engine, server: Engine) -> None:
    """A network attacker appends it to a good one, which is read first."""
    client.write(b"good")
    carry(client, server)
    server.feed(b"\x17\x03\x03\x00\x20" + b"x" * 32)
    assert server.read(100) == b"good"
    with pytest.raises(errors.ChannelBrokenError, match="before it was closed"):
        server.close()
    with pytest.raises(errors.ChannelBrokenError):
        server.write(b"x")


def assert_a_replayed_record_breaks_the_channel(client: Engine, server: Engine) -> None:
    client.write(b"once")
    record = carry(client, server)
    assert server.read(100) == b"once"
    server.feed(record)
    with pytest.raises(errors.ChannelBrokenError):
        server.read(100)
