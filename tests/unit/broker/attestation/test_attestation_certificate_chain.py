"""PKI tokens: exactly three certificates up to the pinned root, and nothing else that looks like it."""

import base64
import datetime as dt
import hashlib
import types
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from mcbn_broker.attestation.anchors import TrustAnchors
from mcbn_broker.attestation.certificate_chain import CERTIFICATE_CHARS, certificates, leaf_key, root_hash
from mcbn_broker.attestation.confidential_space import ConfidentialSpaceVerifier
from mcbn_broker.attestation.errors import NotAuthentic
from mcbn_simulator.claims import claims_for
from mcbn_simulator.issuer import Issuer
from mcbn_simulator.machine import SimulatedMachine
from mcbn_simulator.token_options import TokenOptions

NOW = 1_800_000_000
DAY = dt.timedelta(days=1)
NONCES = ("c" * 55, "b" * 43)
AUDIENCE = "mcbn:v1:x:alice"
MACHINE = SimulatedMachine(image_digest="sha256:" + "ab" * 32)
KEYS = [rsa.generate_private_key(65537, 2048) for _ in range(3)]
CA = x509.BasicConstraints(ca=True, path_length=None)
NO_CA = x509.BasicConstraints(ca=False, path_length=None)
UNKNOWN = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.11129.9.9"), b"\x05\x00")


def name(text):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def usage(*, sign: bool, certificates: bool):
    return x509.KeyUsage(sign, False, False, False, False, certificates, False, False, False)


def certificate(
    subject: str,
    key: Any,
    issuer: str,
    issuer_key: Any,
    *extensions: tuple[Any, bool],
    start: dt.timedelta = -DAY,
    end: dt.timedelta = DAY,
    rsa_padding: Any = None,
) -> bytes:
    moment = dt.datetime.fromtimestamp(NOW, dt.UTC)
    builder = x509.CertificateBuilder(
        name(issuer), name(subject), key.public_key(), x509.random_serial_number(), moment + start, moment + end
    )
    for value, critical in extensions:
        builder = builder.add_extension(value, critical)
    return builder.sign(issuer_key, SHA256(), rsa_padding=rsa_padding).public_bytes(Encoding.DER)


def root(key=KEYS[0], subject="root", **changes):
    return certificate(subject, key, subject, key, (CA, True), **changes)


def intermediate(*extensions, key=KEYS[1], issuer_key=KEYS[0], **changes):
    return certificate("intermediate", key, "root", issuer_key, *(extensions or ((CA, True),)), **changes)


def leaf(*extensions, key=KEYS[2], issuer_key=KEYS[1], issuer="intermediate", **changes):
    return certificate("leaf", key, issuer, issuer_key, *(extensions or ((NO_CA, True),)), **changes)


ROOT, INTERMEDIATE, LEAF = root(), intermediate(), leaf()
PINNED = hashlib.sha256(ROOT).digest()


def b64(der: bytes) -> str:
    return base64.b64encode(der).decode("ascii")


def judge(*chain: bytes, now: int = NOW, pinned: bytes = PINNED) -> rsa.RSAPublicKey:
    return leaf_key(certificates({"x5c": [b64(one) for one in chain]}), roots={pinned}, now=now)


def refused(*chain: bytes, match: str, **changes: Any) -> None:
    with pytest.raises(NotAuthentic, match=match) as caught:
        judge(*chain, **changes)
    assert caught.value.check == "token.chain"


def test_a_genuine_chain_gives_the_leafs_key():
    assert judge(LEAF, INTERMEDIATE, ROOT) == KEYS[2].public_key()
    assert root_hash(ROOT) == PINNED


@pytest.mark.parametrize("there", [True, False])
def test_path_length_and_key_usage_are_fine_when_they_fit(there):
    authority = (x509.BasicConstraints(ca=True, path_length=0), True)
    above = intermediate(authority, (usage(sign=False, certificates=True), there))
    below = leaf((NO_CA, there), (usage(sign=True, certificates=False), there))
    assert judge(below, above, ROOT) == KEYS[2].public_key()


@pytest.mark.parametrize(
    "x5c",
    [
        None, "x", {}, [], [b64(LEAF)], [b64(LEAF), b64(INTERMEDIATE)],
        [b64(LEAF), b64(INTERMEDIATE), b64(ROOT), b64(ROOT)],
        [b64(LEAF), b64(INTERMEDIATE), None], [b64(LEAF), b64(INTERMEDIATE), ""], [1, 2, 3],
        [b64(LEAF), b64(INTERMEDIATE), b64(ROOT) + "\n"],
        [b64(LEAF), b64(INTERMEDIATE), base64.urlsafe_b64encode(b"\xfb\xff" * 40).decode()],
        [b64(LEAF), b64(INTERMEDIATE), b64(ROOT).rstrip("=") + "=" * 3],
        [b64(LEAF), b64(INTERMEDIATE), "A" * (CERTIFICATE_CHARS + 4)],
        [b64(LEAF), b64(INTERMEDIATE), "QUJDR="], [b64(LEAF), b64(INTERMEDIATE), "QR=="],
        [b64(LEAF), b64(INTERMEDIATE), "é" * 8],
        [b64(LEAF), b64(INTERMEDIATE), b64(INTERMEDIATE)],
    ],
)  # fmt: skip
def test_another_form_of_x5c_is_refused(x5c):
    with pytest.raises(NotAuthentic) as caught:
        certificates({"x5c": x5c})
    assert caught.value.check == "token.chain"


def test_a_chain_that_ends_elsewhere_is_refused_whatever_its_names_say():
    other = root(KEYS[1])
    refused(LEAF, INTERMEDIATE, other, match="not at a pinned one")
    mine = intermediate(issuer_key=KEYS[1], key=KEYS[2])
    refused(leaf(issuer_key=KEYS[2]), mine, other, match="not at a pinned one")
    refused(leaf(issuer_key=KEYS[2]), mine, ROOT, match="intermediate: the next certificate did not issue it")


def test_an_intermediate_is_no_leaf():
    second = certificate("second", KEYS[2], "intermediate", KEYS[1], (CA, True))
    refused(second, INTERMEDIATE, ROOT, match="leaf: basic constraints")


def test_the_order_matters():
    refused(INTERMEDIATE, LEAF, ROOT, match="did not issue")
    refused(ROOT, INTERMEDIATE, LEAF, match="not at a pinned one")


@pytest.mark.filterwarnings("default::cryptography.utils.CryptographyDeprecationWarning")  # a flip may hit a serial
@pytest.mark.parametrize("place", range(3))
def test_a_flipped_bit_anywhere_is_refused(place):
    chain = [LEAF, INTERMEDIATE, ROOT]
    for at in range(0, len(chain[place]), 7):
        broken = bytearray(chain[place])
        broken[at] ^= 1
        changed = [*chain[:place], bytes(broken), *chain[place + 1 :]]
        with pytest.raises(NotAuthentic):
            judge(*changed)


def test_a_signature_with_unused_bits_is_refused():
    """Its last bit is 0, so a parser takes it as well with one bit declared unused: two certificates for one."""
    while (broken := bytearray(leaf()))[-1] & 1:
        pass
    assert broken[-257] == 0
    broken[-257] = 1
    assert x509.load_der_x509_certificate(bytes(broken)).signature == broken[-256:]
    refused(bytes(broken), INTERMEDIATE, ROOT, match="whole number of bytes")


@pytest.mark.parametrize("place", range(3))
def test_bytes_after_a_certificate_are_refused(place):
    chain = [LEAF, INTERMEDIATE, ROOT]
    chain[place] += b"\x00"
    with pytest.raises(NotAuthentic):
        judge(*chain, pinned=hashlib.sha256(chain[2]).digest())


@pytest.mark.parametrize(
    ("chain", "match"),
    [
        ([leaf((CA, True)), INTERMEDIATE, ROOT], "leaf: basic constraints"),
        ([leaf((usage(sign=True, certificates=False), True)), INTERMEDIATE, ROOT], "leaf: basic constraints"),
        ([leaf((NO_CA, True), (usage(sign=False, certificates=True), True)), INTERMEDIATE, ROOT], "signing tokens"),
        ([leaf((NO_CA, True), (UNKNOWN, True)), INTERMEDIATE, ROOT], "leaf: unknown critical extension 1.3.6.1"),
        ([LEAF, intermediate((CA, True), (UNKNOWN, True)), ROOT], "intermediate: unknown critical extension"),
        ([LEAF, intermediate((NO_CA, True)), ROOT], "intermediate: basic constraints"),
        ([LEAF, intermediate((CA, False)), ROOT], "intermediate: basic constraints"),
        ([LEAF, intermediate((usage(sign=False, certificates=True), True)), ROOT], "intermediate: basic constraints"),
        ([LEAF, intermediate((CA, True), (usage(sign=True, certificates=False), True)), ROOT], "signing certificates"),
        ([leaf(issuer="another"), INTERMEDIATE, ROOT], "leaf: the next certificate did not issue it"),
        ([leaf(issuer_key=KEYS[0]), INTERMEDIATE, ROOT], "leaf: the next certificate did not issue it"),
        ([leaf(key=ec.generate_private_key(ec.SECP256R1())), INTERMEDIATE, ROOT], "leaf: its key is not RSA"),
        ([b"\x30\x03\x02\x01\x00", INTERMEDIATE, ROOT], r"leaf: no X\.509 certificate"),
    ],
)  # fmt: skip
def test_a_certificate_unfit_for_its_place_is_refused(chain, match):
    refused(*chain, match=match)


def test_a_noncritical_extension_that_nobody_understands_is_let_pass():
    assert judge(leaf((NO_CA, True), (UNKNOWN, False)), INTERMEDIATE, ROOT) == KEYS[2].public_key()


def test_weak_keys_and_signatures_are_refused():
    weak = rsa.generate_private_key(65537, 1024)  # noqa: S505  # what must be refused
    refused(leaf(key=weak), INTERMEDIATE, ROOT, match="leaf: its key is not RSA of 2048")
    refused(leaf(issuer_key=weak), intermediate(key=weak), ROOT, match="intermediate: its key is not RSA of 2048")
    salted = leaf(rsa_padding=padding.PSS(padding.MGF1(SHA256()), 32))
    refused(salted, INTERMEDIATE, ROOT, match="leaf: signed by")
    curve = ec.generate_private_key(ec.SECP256R1())
    by_curve = leaf(issuer_key=curve)
    refused(by_curve, intermediate(key=curve), ROOT, match="intermediate: its key is not RSA")


@pytest.mark.parametrize("length", [0])
def test_a_root_whose_path_length_admits_no_intermediate_is_refused(length):
    short = certificate("root", KEYS[0], "root", KEYS[0], (x509.BasicConstraints(True, length), True))
    refused(LEAF, INTERMEDIATE, short, match="path length 0", pinned=hashlib.sha256(short).digest())
    with pytest.raises(NotAuthentic, match="path length 0"):
        root_hash(short)


def test_a_leaf_with_an_extension_that_cannot_be_read_is_refused():
    junk = x509.UnrecognizedExtension(x509.KeyUsage.oid, b"\x30\x80")
    refused(leaf((NO_CA, True), (junk, True)), INTERMEDIATE, ROOT, match="leaf: its extensions cannot be read")


@pytest.mark.parametrize("der", [b"", b"junk", LEAF, INTERMEDIATE])
def test_what_is_no_root_cannot_be_pinned(der):
    with pytest.raises(NotAuthentic):
        root_hash(der)


@pytest.mark.parametrize("place", range(3))
@pytest.mark.parametrize("times", [{"start": -3 * DAY, "end": -2 * DAY}, {"start": DAY, "end": 2 * DAY}])
def test_every_certificate_must_be_valid_now(place, times):
    makers = [leaf, intermediate, root]
    chain = [make(**(times if at == place else {})) for at, make in enumerate(makers)]
    refused(*chain, match="compare clocks", pinned=hashlib.sha256(chain[2]).digest())


def test_times_are_looked_at_at_each_use():
    assert judge(LEAF, INTERMEDIATE, ROOT, now=NOW) == judge(LEAF, INTERMEDIATE, ROOT, now=NOW + 86_400)
    for now in (NOW - 86_401, NOW + 86_401):
        refused(LEAF, INTERMEDIATE, ROOT, match="compare clocks", now=now)


def test_anchors_are_what_reference_values_name():
    def reference(issuer: str, root: bytes | None) -> Any:
        return types.SimpleNamespace(issuer=issuer, root=root)

    named = [reference("a", None), reference("b", b"1"), reference("b", b"2"), reference("a", b"1")]
    anchors = TrustAnchors.of(named)
    assert anchors.issuers == {"a"}
    assert anchors.roots == {"a": {b"1"}, "b": {b"1", b"2"}}
    assert TrustAnchors.of([]).issuers == frozenset()


class NoKeys:
    async def key(self, issuer: str, key_id: str) -> rsa.RSAPublicKey:
        raise AssertionError("no key set is asked for a PKI token")


@pytest.fixture(scope="module")
def issuer() -> Issuer:
    return Issuer("http://issuer.test", clock=lambda: NOW)


@pytest.fixture
def anchors(issuer: Issuer) -> TrustAnchors:
    der = issuer.certificates.root.certificate.public_bytes(Encoding.DER)
    return TrustAnchors(frozenset(), {issuer.issuer_url: frozenset({root_hash(der)})})


async def verify(token: str, anchors: TrustAnchors, keys: Any = None, **changes: Any) -> Any:
    verifier = ConfidentialSpaceVerifier(keys or NoKeys(), maximum_age_seconds=300, leeway_seconds=60)
    arguments: dict[str, Any] = {"anchors": anchors, "audience": AUDIENCE, "nonces": NONCES, "now": NOW} | changes
    return await verifier.verify(token, **arguments)


def options(kind: str) -> TokenOptions:
    return TokenOptions(audience=AUDIENCE, nonces=NONCES, token_type=kind)


async def test_a_pki_token_verifies_without_any_key_set(issuer, anchors):
    result = await verify(issuer.issue(MACHINE, options("PKI")), anchors)
    assert {result.root} == anchors.roots[issuer.issuer_url]
    assert result.instance_id == MACHINE.instance_id


@pytest.mark.parametrize(
    ("changes", "check"),
    [
        ({"audience": "mcbn:v1:x:bob"}, "token.audience"),
        ({"nonces": NONCES[:1]}, "token.nonces"),
        ({"now": NOW + 4000}, "token.expired"),
        ({"now": NOW + 400}, "token.age"),
        ({"anchors": TrustAnchors(frozenset(), {"http://other.test": frozenset({PINNED})})}, "token.issuer"),
        ({"anchors": TrustAnchors(frozenset(), {"http://issuer.test": frozenset({PINNED})})}, "token.chain"),
        ({"anchors": TrustAnchors(frozenset({"http://issuer.test"}), {})}, "token.header"),
    ],
)
async def test_a_pki_token_for_anything_else_is_refused(issuer, anchors, changes, check):
    with pytest.raises(NotAuthentic) as caught:
        await verify(issuer.issue(MACHINE, options("PKI")), **({"anchors": anchors} | changes))
    assert caught.value.check == check


async def test_an_oidc_token_where_only_a_root_is_named_is_refused(issuer, anchors):
    with pytest.raises(NotAuthentic) as caught:
        await verify(issuer.issue(MACHINE, options("OIDC")), anchors)
    assert caught.value.check == "token.header"


async def test_where_both_are_named_each_is_judged_by_its_own(issuer, anchors):
    class Published:
        async def key(self, name: str, key_id: str) -> rsa.RSAPublicKey:
            return issuer.signing_key.private_key.public_key()

    both = TrustAnchors(frozenset({issuer.issuer_url}), anchors.roots)
    assert (await verify(issuer.issue(MACHINE, options("OIDC")), both, Published())).root is None
    assert (await verify(issuer.issue(MACHINE, options("PKI")), both)).root is not None


async def test_a_token_signed_by_another_key_than_the_leafs_is_refused(issuer, anchors):
    claims = claims_for(MACHINE, issuer=issuer.issuer_url, audience=AUDIENCE, nonces=NONCES, now=NOW)
    chain = issuer.certificates.chain(KEYS[0])
    with pytest.raises(NotAuthentic) as caught:
        await verify(issuer.sign(claims, headers={"x5c": chain}), anchors)
    assert caught.value.check == "token.signature"


async def test_a_long_token_is_refused_by_the_limit_of_its_own_type(issuer, anchors):
    claims = claims_for(MACHINE, issuer=issuer.issuer_url, audience=AUDIENCE, nonces=NONCES, now=NOW)
    padded = claims | {"padding": "x" * 16_000}
    chain = issuer.certificates.chain(issuer.signing_key.private_key)
    assert (await verify(issuer.sign(padded, headers={"x5c": chain}), anchors)).root is not None
    both = TrustAnchors(frozenset({issuer.issuer_url}), anchors.roots)
    with pytest.raises(NotAuthentic) as caught:
        await verify(issuer.sign(padded), both)
    assert caught.value.check == "token.size"
