"""Strict base64url and hex: what is taken has no second spelling."""

from contextlib import suppress

from mcbn_protocol.encoding import b64u_decode, b64u_encode, hex32_decode
from mcbn_protocol.errors import MalformedError
from tests.fuzz.material import texts

MAX_BYTES = 256


def seeds() -> list[bytes]:
    return [*texts("encoding", "base64url"), b"00" * 32, b"ab" * 32, b"AB" * 32]


def target(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    with suppress(MalformedError):
        assert b64u_encode(b64u_decode(text)) == text
    with suppress(MalformedError):
        assert len(b64u_decode(text, length=32)) == 32
    with suppress(MalformedError):
        assert hex32_decode(text).hex() == text
