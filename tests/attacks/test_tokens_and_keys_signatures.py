"""Who writes or changes a token without the attestation service's key gets nothing, however the token is written."""

import functools
import hmac
from collections.abc import Callable
from typing import Any, Final

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from mcbn_protocol.messages import ReleaseRequest
from tests.attacks.lab_brokers import ISSUER, Handler, issuer, new_lab
from tests.attacks.lab_tokens import (
    Signer,
    certificates,
    forged,
    franks_key,
    genuine_signer,
    is_malformed,
    is_not_authentic,
    outbound,
    rs256,
    taken_apart,
    with_token,
)

FAMILY: Final = "Tokens and keys"
FRANKS_ADDRESS: Final = "https://frank.example/keys"


@pytest.fixture
async def lab(tmp_path):
    async with new_lab(tmp_path, "alice") as lab:
        lab.road.hosts["frank.example"] = Handler(lambda _request: pytest.fail("the broker talked to Frank"))
        yield lab


async def genuine(lab: Any) -> tuple[Any, ReleaseRequest]:
    workload = lab.workload()
    return workload, workload.request(await workload.challenge())


# -- algorithms


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "nOnE", "", None])
async def test_token_without_a_signature(lab, algorithm):
    """Frank writes a token himself, names no algorithm, and puts nothing or anything in the signature's place.

    Known as: `alg: none` (RFC 8725 section 2.1; CVE-2015-9235 in jsonwebtoken).
    """
    workload, request = await genuine(lab)
    unsigned = forged(request, header={"alg": algorithm}, sign=lambda _data: b"")
    await is_malformed(lab, unsigned.to_bytes())
    anything = forged(request, header={"alg": algorithm}, sign=lambda _data: b"\x00")
    await is_not_authentic(lab, workload, anything, "token.algorithm")


PUBLIC_KEY_FORMS: Final = {
    "PEM": (Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
    "DER": (Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
    "PKCS #1": (Encoding.PEM, PublicFormat.PKCS1),
    "SSH": (Encoding.OpenSSH, PublicFormat.OpenSSH),
}


@pytest.mark.parametrize("form", PUBLIC_KEY_FORMS.values(), ids=PUBLIC_KEY_FORMS)
@pytest.mark.parametrize("bits", [256, 384, 512])
async def test_public_key_as_a_shared_secret(lab, form, bits):
    """Frank signs a token of his own with HMAC, using the service's public key, which everybody has, as the secret.

    Known as: algorithm confusion (RFC 8725 section 2.1; CVE-2015-9235 in jsonwebtoken, CVE-2022-29217 in PyJWT).
    """
    workload, request = await genuine(lab)
    secret = issuer(ISSUER).signing_key.private_key.public_key().public_bytes(*form)

    def sign(data: bytes) -> bytes:
        return hmac.new(secret, data, f"sha{bits}").digest()

    await is_not_authentic(lab, workload, forged(request, header={"alg": f"HS{bits}"}, sign=sign), "token.algorithm")


def _services_rsa(scheme: Any, digest: hashes.HashAlgorithm) -> Signer:
    return lambda data: issuer(ISSUER).signing_key.private_key.sign(data, scheme, digest)


@functools.cache
def _franks_curve_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def _franks_es256(data: bytes) -> bytes:
    """RFC 7518 section 3.4: both numbers in 32 bytes each."""
    numbers = decode_dss_signature(_franks_curve_key().sign(data, ec.ECDSA(hashes.SHA256())))
    return b"".join(number.to_bytes(32, "big") for number in numbers)


PSS: Final = padding.PSS(padding.MGF1(hashes.SHA256()), 32)
OTHER_ALGORITHMS: Final[dict[str, tuple[Any, Callable[[], Signer], str]]] = {
    "RS384, by the service": ("RS384", lambda: _services_rsa(padding.PKCS1v15(), hashes.SHA384()), "token.algorithm"),
    "RS512, by the service": ("RS512", lambda: _services_rsa(padding.PKCS1v15(), hashes.SHA512()), "token.algorithm"),
    "PS256, by the service": ("PS256", lambda: _services_rsa(PSS, hashes.SHA256()), "token.algorithm"),
    "ES256, by Frank": ("ES256", lambda: _franks_es256, "token.algorithm"),
    "EdDSA, by Frank": ("EdDSA", lambda: Ed25519PrivateKey.generate().sign, "token.algorithm"),
    "rs256 in small letters": ("rs256", genuine_signer, "token.algorithm"),
    "a list with RS256": (["RS256"], genuine_signer, "token.algorithm"),
    "PS256 that says RS256": ("RS256", lambda: _services_rsa(PSS, hashes.SHA256()), "token.signature"),
    "RS384 that says RS256": ("RS256", lambda: _services_rsa(padding.PKCS1v15(), hashes.SHA384()), "token.signature"),
    "ES256 that says RS256": ("RS256", lambda: _franks_es256, "token.signature"),
}  # fmt: skip


@pytest.mark.parametrize(("named", "signer", "check"), OTHER_ALGORITHMS.values(), ids=OTHER_ALGORITHMS)
async def test_another_algorithm_of_a_right_or_wrong_key(lab, named, signer, check):
    """Frank swaps RS256 for another algorithm, in the header, in the signature or in both, to reach weaker code.

    Known as: algorithm confusion (RFC 8725 sections 2.1 and 3.1).
    """
    workload, request = await genuine(lab)
    await is_not_authentic(lab, workload, forged(request, header={"alg": named}, sign=signer()), check)


async def test_changed_claims_under_a_genuine_signature(lab):
    """Frank takes a genuine token, changes one claim, and keeps the signature."""
    workload, request = await genuine(lab)
    _, claims = taken_apart(request.unverified_token)
    claims["submods"]["container"]["image_digest"] = "sha256:" + "f0" * 32
    signature = request.unverified_token.rpartition(".")[2]
    header, altered, _ = forged(request, claims=claims).unverified_token.split(".")
    await is_not_authentic(lab, workload, with_token(request, f"{header}.{altered}.{signature}"), "token.signature")


async def test_franks_signature_under_the_services_key_id(lab):
    """Frank signs a token of his own with a key of his own under the key id that the service publishes."""
    workload, request = await genuine(lab)
    await is_not_authentic(lab, workload, forged(request, sign=rs256(franks_key().private_key)), "token.signature")


# -- headers that name their own judge


def _chain() -> list[str]:
    return certificates("frank").chain(franks_key().private_key)


OWN_JUDGES: Final[dict[str, Callable[[], dict[str, Any]]]] = {
    "jku": lambda: {"jku": FRANKS_ADDRESS},
    "x5u": lambda: {"x5u": FRANKS_ADDRESS},
    "jwk": lambda: {"jwk": franks_key().jwk()},
    "x5c": lambda: {"x5c": _chain()},
    "jku of the service": lambda: {"jku": issuer(ISSUER).discovery()["jwks_uri"]},
    "jku that is null": lambda: {"jku": None},
    "all at once": lambda: {"jku": FRANKS_ADDRESS, "x5u": FRANKS_ADDRESS, "jwk": franks_key().jwk(), "x5c": _chain()},
}


@pytest.mark.parametrize("header", OWN_JUDGES.values(), ids=OWN_JUDGES)
async def test_header_that_brings_its_own_key(lab, header):
    """Frank signs a token with his own key and lets its header say where that key is, or what it is.

    Known as: key injection by jwk and server-side requests by jku and x5u (RFC 8725 sections 2.9 and 3.10;
    CVE-2018-0114 in node-jose).
    """
    workload, request = await genuine(lab)
    members = {"kid": franks_key().kid, **header()}
    hostile = forged(request, header=members, sign=rs256(franks_key().private_key))
    lab.refused(await workload.send(hostile), "token_not_authentic", check="token.header", signed_over=hostile)
    assert outbound(lab) == []
    await is_not_authentic(lab, workload, hostile, "token.header")


@pytest.mark.parametrize("extension", [{"crit": ["b64"], "b64": False}, {"crit": []}, {"b64": True}, {"crit": ["exp"]}])
async def test_header_that_asks_for_an_extension(lab, extension):
    """Frank has the header demand an extension that changes what the signature covers, hoping that it is overlooked.

    Known as: unknown critical extensions accepted (RFC 7515 section 4.1.11; CVE-2026-32597 in PyJWT).
    """
    workload, request = await genuine(lab)
    await is_not_authentic(lab, workload, forged(request, header=extension), "token.header")


KEY_IDS: Final[dict[str, Any]] = {
    "path upwards": "../../../../dev/null", "path": "/etc/passwd", "address": FRANKS_ADDRESS,
    "SQL": "' OR 1=1; --", "SQL union": "x' UNION SELECT 'key", "command": "$(id)", "new line": "key\nid",
    "NUL": "key\x00", "empty": "", "too long": "k" * 129, "long": "k" * 8_000, "other letters": "кey",
    "integer": 1, "null": None, "missing": ..., "true": True, "list": ["key"], "object": {"kid": "key"},
}  # fmt: skip


@pytest.mark.parametrize("key_id", KEY_IDS.values(), ids=KEY_IDS)
async def test_key_id_that_is_no_key_id(lab, key_id):
    """Frank writes a path, a query, a command or another type into the key id, to have it looked up somewhere.

    Known as: indirect attacks on the server through kid (RFC 8725 sections 2.9 and 3.10).
    """
    workload, request = await genuine(lab)
    hostile = forged(request, header={"kid": key_id})
    lab.refused(await workload.send(hostile), "token_not_authentic", check="token.header", signed_over=hostile)
    assert outbound(lab) == []
    await is_not_authentic(lab, workload, hostile, "token.header")


async def test_key_id_of_a_megabyte(lab):
    """Frank sends a key id of a megabyte, and one that fills just what a request or a token may have."""
    workload, request = await genuine(lab)
    await is_malformed(lab, forged(request, header={"kid": "k" * 1_000_000}).to_bytes(), "too_large")
    await is_malformed(lab, forged(request, header={"kid": "k" * 30_000}).to_bytes())
    await is_not_authentic(lab, workload, forged(request, header={"kid": "k" * 14_000}), "token.size")
