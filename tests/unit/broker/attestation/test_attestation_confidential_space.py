import base64
import datetime as dt
import json
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives import hmac as crypto_hmac
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from mcbn_broker.attestation import token_checks
from mcbn_broker.attestation.anchors import TrustAnchors
from mcbn_broker.attestation.confidential_space import ConfidentialSpaceVerifier
from mcbn_broker.attestation.errors import AttestationError, KeysUnavailable, NotAuthentic
from mcbn_broker.attestation.result import AttestationResult
from mcbn_broker.attestation.verifier import Verifier
from mcbn_broker.errors import BrokerError
from mcbn_protocol.reference_values import EvidenceKind

NOW = 1_800_000_000
ISSUER = "https://attestation.example"
AUDIENCE = "mcbn:v1:" + "ab" * 32 + ":alice"
NONCES = ("C" * 55, "B" * 43)


def b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


async def test_a_genuine_token_gives_its_claims(mint: Any, verify: Any, keys: Any) -> None:
    result = await verify(mint.token())
    assert result.kind is EvidenceKind.CONFIDENTIAL_SPACE
    assert result.issuer == ISSUER
    assert dict(result.claims) == mint.claims()
    assert result.instance_id == "42"
    assert len(keys.asked) == 1
    assert "eat_nonce" not in repr(result)


async def test_it_is_a_verifier(verifier: ConfidentialSpaceVerifier) -> None:
    seam: Verifier = verifier
    assert seam.verify is not None


async def test_pyjwt_with_everything_explicit_agrees(mint: Any, verify: Any, private_key: RSAPrivateKey) -> None:
    """What is accepted here is also accepted by PyJWT's own decode; its clock is the real one."""
    now = int(dt.datetime.now(tz=dt.UTC).timestamp())
    token = mint.token(iat=now, nbf=now, exp=now + 3600)
    result = await verify(token, now=now)
    claims = jwt.decode(
        token,
        private_key.public_key(),
        algorithms=["RS256"],
        audience=AUDIENCE,
        issuer=ISSUER,
        leeway=60,
        options={"require": ["exp", "iat", "nbf"], "strict_aud": True, "enforce_minimum_key_length": True},
    )
    assert claims == dict(result.claims)


@pytest.mark.parametrize("nonces", [list(NONCES), list(reversed(NONCES))])
async def test_nonces_in_any_order(mint: Any, verify: Any, nonces: list[str]) -> None:
    assert await verify(mint.token(eat_nonce=nonces))


async def test_a_single_nonce_is_a_string(mint: Any, verify: Any, refused: Any) -> None:
    assert await verify(mint.token(eat_nonce="only-nonce"), nonces=("only-nonce",))
    assert await verify(mint.token(eat_nonce=["only-nonce"]), nonces=("only-nonce",))


OTHER_NONCES: list[Any] = [
    ...,
    None,
    "",
    [],
    NONCES[0],
    "".join(NONCES),
    [NONCES[0]],
    [NONCES[0], NONCES[0]],
    [*NONCES, "one-nonce-more"],
    [*NONCES, NONCES[0]],
    [NONCES[0], NONCES[1].lower()],
    [NONCES[0], NONCES[1] + " "],
    [NONCES[0], 1],
    [list(NONCES)],
    {"0": NONCES[0], "1": NONCES[1]},
    7,
]


@pytest.mark.parametrize("nonces", OTHER_NONCES)
async def test_any_other_set_of_nonces_is_refused(mint: Any, refused: Any, keys: Any, nonces: Any) -> None:
    assert await refused(mint.token(eat_nonce=nonces)) == "token.nonces"
    assert keys.asked == []


async def test_no_expected_nonce_never_matches(mint: Any, refused: Any) -> None:
    nothing: list[Any] = [..., None, []]
    for nonces in nothing:
        assert await refused(mint.token(eat_nonce=nonces), nonces=()) == "token.nonces"


@pytest.mark.parametrize(
    "audience",
    [
        ...,
        None,
        "",
        "https://sts.googleapis.com",
        AUDIENCE.replace("alice", "bob"),
        AUDIENCE.upper(),
        AUDIENCE + "/",
        AUDIENCE.replace("alice", "аlice"),  # noqa: RUF001  # the look-alike is the attack
        [AUDIENCE],
        [AUDIENCE, "https://sts.googleapis.com"],
        {"aud": AUDIENCE},
        1,
    ],
)
async def test_another_audience_is_refused_without_asking_for_a_key(
    mint: Any, refused: Any, keys: Any, audience: Any
) -> None:
    assert await refused(mint.token(aud=audience)) == "token.audience"
    assert keys.asked == []


@pytest.mark.parametrize(
    "issuer", [..., None, "", ISSUER + "/", ISSUER.upper(), "https://attacker.example", [ISSUER], 1]
)
async def test_another_issuer_is_refused_without_asking_for_a_key(
    mint: Any, refused: Any, keys: Any, issuer: Any
) -> None:
    assert await refused(mint.token(iss=issuer)) == "token.issuer"
    assert keys.asked == []


async def test_no_issuer_is_trusted_by_default(mint: Any, refused: Any) -> None:
    assert await refused(mint.token(), anchors=TrustAnchors(frozenset({"https://other.example"}), {})) == "token.issuer"


async def test_headers_that_name_a_key_make_no_connection(mint: Any, refused: Any, keys: Any) -> None:
    for member in ("jku", "x5u", "jwk", "x5c"):
        assert await refused(mint.headed(**{member: "https://attacker.example/keys"})) == "token.header"
    assert keys.asked == []


async def test_an_unknown_key_is_refused(mint: Any, refused: Any) -> None:
    assert await refused(mint.headed(kid="another")) == "token.key"


async def test_every_flipped_bit_of_the_signature_is_refused(mint: Any, refused: Any) -> None:
    signed, _, signature = mint.token().rpartition(".")
    raw = base64.urlsafe_b64decode(signature + "==")
    for bit in range(0, len(raw) * 8, 97):
        flipped = bytearray(raw)
        flipped[bit // 8] ^= 1 << bit % 8
        assert await refused(f"{signed}.{b64(bytes(flipped))}") == "token.signature"
    for other in (raw[:-1], raw + b"\x00", b"\x00" + raw, b"\x00"):
        assert await refused(f"{signed}.{b64(other)}") == "token.signature"


async def test_a_changed_payload_is_refused(mint: Any, refused: Any) -> None:
    header, _, signature = mint.token().split(".")
    payload = b64(json.dumps(mint.claims(exp=NOW + 3596)).encode())
    assert await refused(f"{header}.{payload}.{signature}") == "token.signature"


async def test_another_key_under_the_same_id_is_refused(
    mint: Any, refused: Any, keys: Any, other_private_key: RSAPrivateKey
) -> None:
    keys.by_id = dict.fromkeys(keys.by_id, other_private_key.public_key())
    assert await refused(mint.token()) == "token.signature"


async def test_a_signature_by_another_algorithm_under_an_rs256_header_is_refused(
    mint: Any, refused: Any, private_key: RSAPrivateKey
) -> None:
    signed = mint.token().rpartition(".")[0]
    pss = padding.PSS(padding.MGF1(hashes.SHA256()), 32)
    public = private_key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    mac = crypto_hmac.HMAC(public, hashes.SHA256())
    mac.update(signed.encode())
    signatures = [
        private_key.sign(signed.encode(), pss, hashes.SHA256()),
        private_key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA384()),
        ec.generate_private_key(ec.SECP256R1()).sign(signed.encode(), ec.ECDSA(hashes.SHA256())),
        mac.finalize(),
    ]
    for signature in signatures:
        assert await refused(f"{signed}.{b64(signature)}") == "token.signature"


async def test_a_weak_key_is_refused_even_if_a_source_gives_it(mint: Any, refused: Any, keys: Any) -> None:
    mint.key = generate_private_key(65537, 1024)  # noqa: S505  # its weakness is the point
    keys.by_id = dict.fromkeys(keys.by_id, mint.key.public_key())
    assert await refused(mint.token()) == "token.signature"


async def test_hs256_with_the_public_key_is_refused(mint: Any, refused: Any, keys: Any) -> None:
    assert await refused(mint.headed(alg="HS256")) == "token.algorithm"
    assert keys.asked == []


@pytest.mark.parametrize("name", ["iat", "exp", "nbf"])
@pytest.mark.parametrize(
    "value", [..., None, "1800000000", True, False, 0, -1, 1800000000.0, 253_402_300_800, 2**53 - 1, [NOW], {"t": NOW}]
)
async def test_times_are_whole_seconds(mint: Any, refused: Any, name: str, value: Any) -> None:
    assert await refused(mint.token(**{name: value})) == "token.times"


@pytest.mark.parametrize(
    ("iat", "exp"), [(NOW, NOW), (NOW, NOW - 1), (NOW, NOW + 7201), (NOW, NOW + 10**9), (NOW + 100, NOW + 50)]
)
async def test_a_lifetime_that_cannot_be_is_refused(mint: Any, refused: Any, iat: int, exp: int) -> None:
    assert await refused(mint.token(iat=iat, exp=exp)) == "token.times"


@pytest.mark.parametrize(
    ("offset", "check"),
    [(60, None), (61, "token.not_yet_valid"), (-300, None), (-301, "token.age"), (-7200, "token.expired")],
)
async def test_the_edges_of_time(mint: Any, verify: Any, refused: Any, offset: int, check: str | None) -> None:
    token = mint.token(iat=NOW + offset, nbf=NOW + offset, exp=NOW + offset + 3600)
    if check is None:
        assert await verify(token)
    else:
        assert await refused(token) == check


async def test_expiry_has_its_leeway_and_no_more(mint: Any, verify: Any, refused: Any) -> None:
    assert await verify(mint.token(iat=NOW - 200, nbf=NOW - 200, exp=NOW - 59))
    assert await refused(mint.token(iat=NOW - 200, nbf=NOW - 200, exp=NOW - 60)) == "token.expired"


async def test_not_before_is_looked_at_by_itself(mint: Any, refused: Any) -> None:
    assert await refused(mint.token(nbf=NOW + 61)) == "token.not_yet_valid"


@pytest.mark.parametrize(
    "payload", [b'{"aud":"x","aud":"y"}', b'{"iat":1e400}', b'{"aud":"\\ud800"}', b"[]", b'{"a":NaN}', b"\xff"]
)
async def test_a_signed_token_with_ambiguous_json_is_refused(mint: Any, refused: Any, payload: bytes) -> None:
    assert await refused(mint.raw(payload=payload)) == "token.form"
    assert await refused(mint.raw(header=payload)) == "token.form"


async def test_a_fraction_in_an_unknown_claim_is_no_reason_to_refuse(mint: Any, verify: Any) -> None:
    assert (await verify(mint.token(confidence=0.5))).claims["confidence"] == 0.5


def _foreign_errors() -> list[type[Exception]]:
    own = [one for one in vars(jwt.exceptions).values() if isinstance(one, type) and issubclass(one, jwt.PyJWTError)]
    return [*own, ValueError, TypeError]


@pytest.mark.parametrize("kind", _foreign_errors(), ids=lambda kind: kind.__name__)
async def test_every_error_of_the_signature_library_is_a_refusal(
    mint: Any, refused: Any, monkeypatch: pytest.MonkeyPatch, kind: type[Exception]
) -> None:
    def fail(*_arguments: Any) -> bool:
        raise kind("claim" if kind is jwt.MissingRequiredClaimError else "detail of a library")

    monkeypatch.setattr(token_checks._RS256, "verify", fail)
    assert await refused(mint.token()) == "token.signature"


async def test_a_key_that_is_no_key_is_a_refusal(mint: Any, refused: Any, keys: Any) -> None:
    keys.by_id = dict.fromkeys(keys.by_id, None)
    assert await refused(mint.token()) == "token.signature"
    keys.by_id = dict.fromkeys(keys.by_id, b"ssh-rsa nonsense")
    assert await refused(mint.token()) == "token.signature"


def test_the_errors_have_one_root_and_stable_codes() -> None:
    assert issubclass(NotAuthentic, AttestationError)
    assert issubclass(KeysUnavailable, AttestationError)
    assert issubclass(AttestationError, BrokerError)
    assert (NotAuthentic.code, KeysUnavailable.code) == ("token_not_authentic", "keys_unavailable")


@pytest.mark.parametrize(
    "claims", [{}, {"submods": None}, {"submods": {"gce": []}}, {"submods": {"gce": {"instance_id": 5}}}]
)
def test_a_token_without_an_instance_has_an_empty_instance_id(claims: dict[str, Any]) -> None:
    assert AttestationResult(EvidenceKind.CONFIDENTIAL_SPACE, ISSUER, None, claims).instance_id == ""


def test_claims_of_a_result_cannot_be_replaced() -> None:
    result = AttestationResult(EvidenceKind.CONFIDENTIAL_SPACE, ISSUER, None, {"a": 1})
    with pytest.raises(TypeError):
        result.claims["a"] = 2  # type: ignore[index]  # that it is not allowed is the point
