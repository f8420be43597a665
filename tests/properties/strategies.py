"""Strategies for what strangers send: whole tokens, requests and manifests, right ones changed in every way."""

import base64
import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.padding import MGF1, PSS, PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from hypothesis import strategies as st

from mcbn_protocol.limits import REQUEST_BYTES
from mcbn_simulator.signing_keys import SigningKey
from tests.properties.json_trees import PLAIN, changed, said_otherwise, styles, tree, values

JSON: Final = b"application/json"
RELEASES: Final = "/v1/releases"
CHALLENGES: Final = "/v1/challenges"


def b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


# -- tokens


def rs256(key: RSAPrivateKey, signed: bytes) -> bytes:
    return key.sign(signed, PKCS1v15(), hashes.SHA256())


def _hs256(key: RSAPrivateKey, signed: bytes) -> bytes:
    form = (serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hmac.digest(key.public_key().public_bytes(*form), signed, hashlib.sha256)


def _ps256(key: RSAPrivateKey, signed: bytes) -> bytes:
    return key.sign(signed, PSS(MGF1(hashes.SHA256()), hashes.SHA256().digest_size), hashes.SHA256())


def _rs384(key: RSAPrivateKey, signed: bytes) -> bytes:
    return key.sign(signed, PKCS1v15(), hashes.SHA384())


OTHER_ALGORITHMS: Final[dict[str, Callable[[RSAPrivateKey, bytes], bytes]]] = {
    "HS256": _hs256,
    "PS256": _ps256,
    "RS384": _rs384,
    "none": lambda _key, _signed: b"",
}


@dataclass(frozen=True)
class Genuine:
    """A right token in its parts, and a second right one, for another request, to take parts from."""

    header: dict[str, Any]
    claims: dict[str, Any]
    text: str
    other: str


_TOKEN_KINDS: Final = (
    ("said otherwise",) * 6 + ("signed again",) * 3 + ("by another", "algorithm", "unsigned", "text", "splice")
)


@st.composite
def tokens(draw: st.DrawFn, genuine: Genuine, signer: SigningKey, stranger: SigningKey) -> str:
    """A token: changed and signed again by the right key or another, changed afterwards, or put together from two."""
    kind = draw(st.sampled_from(_TOKEN_KINDS))
    if kind == "text":
        return draw(texts(genuine.text))
    if kind == "splice":
        return draw(_spliced(genuine))
    if kind == "said otherwise":
        claims = draw(said_otherwise(tree(genuine.claims)))
        return _assembled(draw, tree(genuine.header), claims, lambda signed: rs256(signer.private_key, signed))
    header, claims = draw(_header(genuine)), draw(_claims(genuine))
    if kind == "algorithm":
        name = draw(st.sampled_from(tuple(OTHER_ALGORITHMS)))
        header = tree(genuine.header | {"alg": draw(st.sampled_from((name, "RS256", name.title())))})
        return _assembled(draw, header, claims, lambda signed: OTHER_ALGORITHMS[name](signer.private_key, signed))
    if kind == "unsigned":
        return _assembled(draw, header, claims, lambda _signed: base64.urlsafe_b64decode(_signature(genuine.text)))
    key = stranger if kind == "by another" else signer
    return _assembled(draw, header, claims, lambda signed: rs256(key.private_key, signed))


def _signature(token: str) -> str:
    return token.rpartition(".")[2] + "=="


_HEADER_MEMBERS: Final[tuple[dict[str, Any], ...]] = (
    *({"jku": "https://frank.example/jwks"}, {"x5u": "https://frank.example/chain"}, {"x5c": []}, {"jwk": {}}),
    *({"crit": ["b64"], "b64": False}, {"zip": "DEF"}),
)


def _header(genuine: Genuine) -> st.SearchStrategy[Any]:
    right = tree(genuine.header)
    extra = st.sampled_from(_HEADER_MEMBERS).map(lambda members: tree(genuine.header | members))
    wrong = st.one_of(changed(right, most=2), extra)
    return st.one_of(st.just(right), st.just(right), st.just(right), wrong)


def _claims(genuine: Genuine) -> st.SearchStrategy[Any]:
    right = tree(genuine.claims)
    return st.one_of(changed(right), changed(right, most=1), st.just(right))


def _assembled(draw: st.DrawFn, header: Any, claims: Any, sign: Callable[[bytes], bytes]) -> str:
    parts = [draw(styles).write(part).encode("utf-8", "surrogatepass") for part in (header, claims)]
    signed = ".".join(map(b64, parts))
    return f"{signed}.{b64(sign(signed.encode()))}"


@st.composite
def _spliced(draw: st.DrawFn, genuine: Genuine) -> str:
    pools = (genuine.text.split("."), genuine.other.split("."))
    count = draw(st.sampled_from((3, 3, 3, 2, 4)))
    return ".".join(draw(st.sampled_from(pools))[draw(st.integers(0, 2))] for _ in range(count))


@st.composite
def texts(draw: st.DrawFn, text: str) -> str:
    """A text after one change somewhere: a bit, a character more or less, a piece twice, white space, padding."""
    place = draw(st.integers(0, len(text) - 1))
    piece = text[place : place + draw(st.integers(1, 40))]
    here = text[place]
    change = draw(st.sampled_from(("flip", "drop", "double", "insert", "swap case", "end")))
    replacement = {
        "flip": chr(ord(here) ^ 1 << draw(st.integers(0, 6))),
        "drop": "",
        "double": here + piece,
        "insert": here + draw(st.sampled_from((" ", "\n", "=", ".", "\0", "A", "%2e", "\u00e9"))),
        "swap case": here.swapcase(),
        "end": here,
    }[change]
    end = draw(st.sampled_from(("=", "==", " ", "\n", ".", "A"))) if change == "end" else ""
    return text[:place] + replacement + text[place + 1 :] + end


# -- requests


@dataclass(frozen=True)
class RawRequest:
    """One request as it comes over the wire."""

    method: str
    path: str
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes

    def header(self, name: bytes) -> list[bytes]:
        return [value for one, value in self.headers if one == name]


_METHODS: Final = st.sampled_from(("POST",) * 6 + ("GET", "PUT", "HEAD", "OPTIONS", "DELETE", "PATCH", "TRACE"))
_PATHS: Final = st.sampled_from(
    (RELEASES,) * 6
    + (CHALLENGES, "/v1/manifest", "/v1/audit-head", "/", "/v1/releases/", "//v1/releases", "/V1/releases")
    + ("/v2/releases", "/v1/releases/../challenges", "/docs", "/openapi.json", "/v1/releases\0", "/v1/\udcff", "*")
)
_MEDIA_TYPES: Final = st.sampled_from(
    (b"application/json",) * 6
    + (b"application/json; charset=utf-8", b"Application/JSON", b"application/json;charset=utf-16", b"text/json", b"")
    + (b"application/x-www-form-urlencoded", b"multipart/form-data; boundary=x", b"application/jsonx", b"\xff/json")
)
_NAMES: Final = st.sampled_from(
    (b"content-length", b"content-encoding", b"transfer-encoding", b"x-correlation-id", b"accept", b"cookie", b"x")
)
_VALUES: Final = st.binary(max_size=20) | st.sampled_from(
    (b"0", b"-1", b"65537", b"1" * 30, b"gzip", b"chunked", b"\xb2", b"*/*", b"")
)


@st.composite
def requests(draw: st.DrawFn, path: str, members: dict[str, Any]) -> RawRequest:
    """A request: a right body and its surroundings, either or both of them changed."""
    right = PLAIN.write(tree(members)).encode()
    body = draw(
        st.one_of(
            st.just(right),
            st.tuples(styles, changed(tree(members))).map(_written),
            st.tuples(styles, st.just(tree(members))).map(_written),
            values.map(lambda value: PLAIN.write(tree(value)).encode("utf-8", "surrogatepass")),
            st.binary(max_size=300),
            st.integers(REQUEST_BYTES - 2, REQUEST_BYTES + 2).map(right.ljust),
            st.integers(0, len(right) - 1).map(lambda size: right[:size]),
        )
    )
    extra = draw(st.lists(st.tuples(_NAMES, _VALUES), max_size=2))
    if draw(st.booleans()):
        return RawRequest("POST", path, ((b"content-type", JSON), *extra[:1]), body)
    return RawRequest(draw(_METHODS), draw(_PATHS), ((b"content-type", draw(_MEDIA_TYPES)), *extra), body)


def _written(style_and_node: tuple[Any, Any]) -> bytes:
    style, node = style_and_node
    text: str = style.write(node)
    return text.encode("utf-8", "surrogatepass")
