"""From shares to keys: combining schemes, the epoch secret, a closed table of purposes, and PSK identities."""

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Final

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

from mcbn_protocol.encoding import b64u_encode, lp, u32be, u64be
from mcbn_protocol.errors import KeyScheduleError
from mcbn_protocol.identifiers import ManifestHash, sha256
from mcbn_protocol.limits import HASH_BYTES
from mcbn_protocol.secret import Secret
from mcbn_protocol.shares import Share

KEY_BYTES: Final = 32
CONTEXT_LABEL: Final = "mcbn/v1"
COMBINE_SALT: Final = b"mcbn/combine/all-of-n/v1"
LEGACY_SALT: Final = b"mcbn/combine/legacy/v1"
IDENTITY_LABEL: Final = "mcbn/psk-identity/v1"
IDENTITY_PREFIX: Final = "mcbn1."
_IDENTITY_HASH_BYTES: Final = 16


class Scheme(StrEnum):
    """How all n shares become one secret. Only the first is ours; the others are kept for compatibility."""

    HKDF_SHA256 = "hkdf-sha256"
    SHA256_CONCAT = "sha256-concat"
    HMAC_SHA256_CHAIN = "hmac-sha256-chain"


LEGACY_SCHEMES: Final = frozenset({Scheme.SHA256_CONCAT, Scheme.HMAC_SHA256_CHAIN})


class Purpose(StrEnum):
    """What a key is for: direction, role and transport. Closed: a new use needs a purpose of its own (RFC 9257)."""

    TLS13_PSK = "client>server/tls13-psk"
    TLS12_PSK = "client>server/tls12-psk"
    DTLS12_PSK = "client>server/dtls12-psk"
    SERVER_RSA_SEED = "server/rsa-seed"
    CLIENT_RSA_SEED = "client/rsa-seed"
    SHARED_RSA_SEED = "client+server/rsa-seed"
    CA_RSA_SEED = "ca/rsa-seed"
    SERVER_ED25519_SEED = "server/ed25519-seed"
    CLIENT_ED25519_SEED = "client/ed25519-seed"
    CA_ED25519_SEED = "ca/ed25519-seed"
    KEY_CHECK = "key-check"


class EpochSecret(Secret):
    """HKDF's pseudorandom key (32 bytes) of one epoch's shares."""

    __slots__ = ()


class CombinedKey(Secret):
    """The raw output (32 bytes) of a legacy combination. Never used as a key: it is input to the schedule."""

    __slots__ = ()


class Psk(Secret):
    """A key (32 bytes) for one purpose of one epoch."""

    __slots__ = ()


def _refuse_degenerate(shares: Sequence[Share]) -> None:
    if not shares:
        raise KeyScheduleError("no share was given")
    if len({hashlib.sha256(share.reveal()).digest() for share in shares}) != len(shares):
        raise KeyScheduleError("two shares are equal: a participant copied another's, or a file was given twice")


def _refuse_equal(names: Sequence[str], shares: Mapping[str, Share]) -> None:
    for place, name in enumerate(names):
        for other in names[place + 1 :]:
            if shares[name] == shares[other]:
                raise KeyScheduleError(f"the shares of {name} and {other} are equal: one copied the other's")


def epoch_secret(scheme: Scheme, shares: Mapping[str, Share]) -> EpochSecret:
    """Combine all participants' shares into the epoch secret (HKDF-Extract, RFC 5869 section 2.2).

    `hkdf-sha256`: salt "mcbn/combine/all-of-n/v1", IKM = u32be(n) || for each participant in byte order of names
    LP(name) || LP(share). A legacy scheme: salt "mcbn/combine/legacy/v1", IKM = LP(scheme) || LP(its raw output), the
    shares being taken in byte order of the names.

    Args:
        scheme: The manifest's scheme.
        shares: The share of each participant of the roster, by name, each already checked against its commitment.

    Raises:
        KeyScheduleError: No shares, or two equal ones, with their participants' names.
    """
    names = sorted(shares)
    _refuse_equal(names, shares)
    _refuse_degenerate(list(shares.values()))
    if scheme is Scheme.HKDF_SHA256:
        salt = COMBINE_SALT
        material = u32be(len(names)) + b"".join(lp(name) + lp(shares[name].reveal()) for name in names)
    else:
        salt = LEGACY_SALT
        material = lp(scheme.value) + lp(legacy_combination(scheme, [shares[name] for name in names]).reveal())
    return EpochSecret(HKDF.extract(SHA256(), salt, material))


def legacy_combination(scheme: Scheme, shares: Sequence[Share]) -> CombinedKey:
    """Return the raw output of a legacy combination: the order of `shares` matters.

    `sha256-concat`: SHA-256 of the concatenated lower-case hex strings. `hmac-sha256-chain`: the first hex string is
    the running value; each next hex string is the key of an HMAC-SHA-256 over it, whose hex is the next running value.

    Raises:
        KeyScheduleError: Not a legacy scheme, no shares, or two equal ones.
    """
    _refuse_degenerate(shares)
    texts = [share.reveal().hex().encode("ascii") for share in shares]
    if scheme is Scheme.SHA256_CONCAT:
        return CombinedKey(sha256(b"".join(texts)))
    if scheme is Scheme.HMAC_SHA256_CHAIN:
        running = texts[0]
        for key in texts[1:]:
            running = hmac.new(key, running, hashlib.sha256).hexdigest().encode("ascii")
        return CombinedKey(bytes.fromhex(running.decode("ascii")))
    raise KeyScheduleError(f"{scheme} is not a legacy combination")


def expand(secret: EpochSecret, label: str, manifest_hash: ManifestHash, epoch: int) -> bytes:
    """Return 32 bytes of HKDF-Expand (RFC 5869 section 2.3).

    info = LP("mcbn/v1") || LP(label) || LP(manifest hash) || u64be(epoch). The manifest hash commits to the roster hash
    and to every term of the agreement.

    Raises:
        KeyScheduleError: The secret or the manifest hash does not have 32 bytes.
    """
    if len(secret.reveal()) != KEY_BYTES or len(manifest_hash) != HASH_BYTES:
        raise KeyScheduleError("an epoch secret and a manifest hash have 32 bytes each")
    info = lp(CONTEXT_LABEL) + lp(label) + lp(manifest_hash) + u64be(epoch)
    return HKDFExpand(SHA256(), KEY_BYTES, info).derive(secret.reveal())


def derive(secret: EpochSecret, purpose: Purpose, manifest_hash: ManifestHash, epoch: int) -> Psk:
    """Return the key of one purpose, 32 bytes, bound to the manifest and its epoch.

    Raises:
        KeyScheduleError: The purpose is `key-check`, whose output is public and so never a key.
    """
    if purpose is Purpose.KEY_CHECK:
        raise KeyScheduleError("the key-check value is public: it is no key")
    return Psk(expand(secret, purpose.value, manifest_hash, epoch))


def key_check(secret: EpochSecret, manifest_hash: ManifestHash, epoch: int) -> str:
    """Return a value (64 hex digits) that two ends may show to compare their secrets; it says nothing about any key."""
    return expand(secret, Purpose.KEY_CHECK.value, manifest_hash, epoch).hex()


def psk_identity(manifest_hash: ManifestHash, epoch: int, purpose: Purpose) -> str:
    """Return the public name of a key: "mcbn1." || base64url of 16 bytes of a hash; 28 characters, no ":", "#", space.

    The hash is SHA-256(LP("mcbn/psk-identity/v1") || LP(manifest hash) || u64be(epoch) || LP(purpose)).
    """
    digest = sha256(lp(IDENTITY_LABEL) + lp(manifest_hash) + u64be(epoch) + lp(purpose.value))
    return IDENTITY_PREFIX + b64u_encode(digest[:_IDENTITY_HASH_BYTES])
