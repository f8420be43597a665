"""Sealed shares, opened in the TEE, and recipient keys, sealed to by a broker: both come from the network."""

from contextlib import suppress

from mcbn_protocol.encoding import b64u_decode
from mcbn_protocol.errors import SealError
from mcbn_protocol.sealing import PUBLIC_KEY_BYTES, SEALED_BYTES, Kem, RecipientKey, seal, seal_info
from mcbn_protocol.shares import Share
from tests.fuzz.material import vectors

MAX_BYTES = 1300
KEMS = (Kem.X25519, Kem.MLKEM768_X25519)
VECTORS = {kem: vectors(f"sealing-{kem.value}")[0]["input"] for kem in KEMS}
KEYS = {kem: RecipientKey.from_seed(kem, bytes.fromhex(VECTORS[kem]["throwaway_recipient_seed"])) for kem in KEMS}
GENUINE = {kem: b64u_decode(VECTORS[kem]["sealed"]) for kem in KEMS}
INFO = {kem: seal_info(bytes.fromhex(one["binding"]), one["epoch"], one["share_index"]) for kem, one in VECTORS.items()}
SHARE = Share(bytes(range(32)))


def seeds() -> list[bytes]:
    sealed = [bytes([number]) + GENUINE[kem] for number, kem in enumerate(KEMS)]
    return [*sealed, *(bytes([number]) + KEYS[kem].public_bytes for number, kem in enumerate(KEMS)), b"\0", b"\1"]


def target(data: bytes) -> None:
    kem, rest = KEMS[data[0] % 2 if data else 0], data[1:]
    for sealed in (rest, rest[: SEALED_BYTES[kem]].ljust(SEALED_BYTES[kem], b"\0")):
        with suppress(SealError):
            KEYS[kem].open(sealed, info=INFO[kem])
            assert sealed == GENUINE[kem], "opened what was never sealed"
    for key in (rest, rest[: PUBLIC_KEY_BYTES[kem]].ljust(PUBLIC_KEY_BYTES[kem], b"\0")):
        with suppress(SealError):
            assert len(seal(kem, key, info=INFO[kem], share=SHARE)) == SEALED_BYTES[kem]
