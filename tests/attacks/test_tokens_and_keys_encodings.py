"""Who writes a token or a request so that two readers read it differently is heard by neither."""

import json
from collections.abc import Callable
from typing import Any, Final

import pytest

from mcbn_broker.app.policy_file import PolicyFile
from mcbn_broker.appraisal.policy import PolicyError
from mcbn_broker.audit.chain import AuditKind
from mcbn_protocol.messages import ReleaseRequest
from tests.attacks.lab_brokers import new_lab
from tests.attacks.lab_tokens import (
    changes_nothing,
    genuine_signer,
    is_malformed,
    is_not_authentic,
    outbound,
    put_together,
    taken_apart,
    with_token,
)

FAMILY: Final = "Tokens and keys"


@pytest.fixture
async def lab(tmp_path):
    async with new_lab(tmp_path, "alice") as lab:
        yield lab


async def genuine(lab: Any) -> tuple[Any, ReleaseRequest]:
    workload = lab.workload()
    return workload, workload.request(await workload.challenge())


def _twice(members: dict[str, Any], name: str, first: Any) -> bytes:
    """JSON in which a member stands twice, the true one last."""
    return f"{{{json.dumps(name)}: {json.dumps(first)}, {json.dumps(members)[1:]}".encode()


@pytest.mark.parametrize("name", ["alg", "kid", "typ"])
async def test_header_member_twice(lab, name):
    """Frank has a header with one member twice, so that one reader sees the first and another the last.

    Known as: multiplicity of JSON encodings (RFC 8725 section 2.6, RFC 8259 section 4).
    """
    workload, request = await genuine(lab)
    header, claims = taken_apart(request.unverified_token)
    token = put_together(_twice(header, name, "none"), claims, genuine_signer())
    await is_not_authentic(lab, workload, with_token(request, token), "token.form")


@pytest.mark.parametrize("name", ["aud", "eat_nonce", "iat", "dbgstat", "submods"])
async def test_claim_twice(lab, name):
    """Frank gets a payload signed in which one claim stands twice, the wanted value once.

    Known as: multiplicity of JSON encodings (RFC 8725 section 2.6, RFC 8259 section 4).
    """
    workload, request = await genuine(lab)
    header, claims = taken_apart(request.unverified_token)
    token = put_together(header, _twice(claims, name, "another"), genuine_signer())
    await is_not_authentic(lab, workload, with_token(request, token), "token.form")


@pytest.mark.parametrize("name", ["challenge", "evidence", "recipient_key", "role", "kem"])
async def test_request_member_twice(lab, name):
    """Frank puts a member twice into a genuine request: his own recipient key, and the workload's."""
    workload, request = await genuine(lab)
    members = json.loads(request.to_bytes())
    await is_malformed(lab, _twice(members, name, members[name]))
    lab.released(await workload.send(request), workload)


async def test_policy_member_twice(lab, tmp_path):
    """Somebody who may add a line to Alice's policy repeats a member in it, so that the wider one comes to count."""
    path = tmp_path / "policy.toml"
    strict, wide = 'zones = ["europe-west3-a"]\n', 'zones = ["us-central1-a"]\n'
    path.write_text(strict)
    policy = PolicyFile(path)
    path.write_text(strict + wide)
    policy.reload()
    lab.alice.policy = policy.current()
    with pytest.raises(PolicyError, match="Cannot overwrite a value"):
        PolicyFile(path)
    workload, request = await genuine(lab)
    lab.refused(await workload.send(request), "appraisal_failed", check="policy.zone", signed_over=request)
    assert not lab.alice.records(AuditKind.RELEASE)
    path.write_text(wide)
    policy.reload()
    lab.alice.policy = policy.current()
    await workload.is_served()


NUMBERS: Final[dict[str, tuple[str, str, str]]] = {
    "NaN": ("iat", "NaN", "token.form"),
    "infinity": ("exp", "Infinity", "token.form"),
    "minus infinity": ("nbf", "-Infinity", "token.form"),
    "beyond a double": ("exp", "1e400", "token.form"),
    "beyond 2^53": ("exp", "9007199254740993", "token.form"),
    "a thousand digits": ("exp", "9" * 1000, "token.form"),
    "fraction": ("iat", "1900000000.0", "token.times"),
    "exponent": ("iat", "1.9e9", "token.times"),
    "string": ("exp", '"1900003600"', "token.times"),
    "true": ("nbf", "true", "token.times"),
    "null": ("iat", "null", "token.times"),
    "list": ("iat", "[1900000000]", "token.times"),
    "negative": ("nbf", "-1", "token.times"),
    "zero": ("nbf", "0", "token.times"),
    "the year 10000": ("exp", "253402300800", "token.times"),
    "lives for a day": ("exp", "1900086400", "token.times"),
    "ends before it begins": ("exp", "1899999999", "token.times"),
}


@pytest.mark.parametrize(("name", "text", "check"), NUMBERS.values(), ids=NUMBERS)
async def test_time_that_parsers_read_differently(lab, name, text, check):
    """Frank gets a token signed whose times are no plain whole numbers, to make them compare as he likes."""
    workload, request = await genuine(lab)
    header, claims = taken_apart(request.unverified_token)
    raw = json.dumps(claims | {name: "HERE"}).replace('"HERE"', text).encode()
    token = put_together(header, raw, genuine_signer())
    await is_not_authentic(lab, workload, with_token(request, token), check)


LETTERS: Final[dict[str, tuple[str, Callable[[str], str], str]]] = {
    "lone surrogate": ("sub", lambda _text: "\\ud800", "token.form"),
    "surrogates in the wrong order": ("aud", lambda text: f"{text}\\udc00\\ud800", "token.form"),
    "Cyrillic a": ("aud", lambda text: text.replace("alice", "\u0430lice"), "token.audience"),
    "full width": ("aud", lambda text: "".join(chr(ord(one) + 0xFEE0) for one in text), "token.audience"),
    "combining mark": ("aud", lambda text: text.replace("alice", "alice\u0301"), "token.audience"),
    "soft hyphen": ("aud", lambda text: text.replace("alice", "ali\u00adce"), "token.audience"),
    "NUL at the end": ("aud", lambda text: f"{text}\\u0000", "token.audience"),
    "space at the end": ("aud", lambda text: f"{text} ", "token.audience"),
    "capital letters": ("aud", str.upper, "token.audience"),
    "issuer in capitals": ("iss", str.upper, "token.issuer"),
    "issuer with a slash": ("iss", lambda text: f"{text}/", "token.issuer"),
    "issuer with a port": ("iss", lambda text: f"{text}:443", "token.issuer"),
    "issuer in another script": ("iss", lambda text: text.replace("issuer", "\u0456ssuer"), "token.issuer"),
}  # fmt: skip


@pytest.mark.parametrize(("name", "change", "check"), LETTERS.values(), ids=LETTERS)
async def test_letters_that_only_look_alike(lab, name, change, check):
    """Frank gets a token for a name that looks like Alice's audience or the service's, or folds into it."""
    workload, request = await genuine(lab)
    header, claims = taken_apart(request.unverified_token)
    raw = json.dumps(claims | {name: "HERE"}, ensure_ascii=False).replace("HERE", change(claims[name])).encode()
    token = put_together(header, raw, genuine_signer())
    await is_not_authentic(lab, workload, with_token(request, token), check)


FORMS: Final[dict[str, Callable[[str], str]]] = {
    "five segments": lambda token: f"{token}.AA.AA", "four segments": lambda token: f"{token}.AA",
    "two segments": lambda token: token.rpartition(".")[0],
    "an empty segment": lambda token: token.replace(".", "..", 1),
    "padding": lambda token: f"{token}==", "a space at the end": lambda token: f"{token} ",
    "a space at the start": lambda token: f" {token}", "a new line": lambda token: f"{token}\n",
    "a new line inside": lambda token: f"{token[:40]}\n{token[40:]}", "standard base64": lambda token: f"{token[:-1]}+",
    "a letter outside of ASCII": lambda token: f"{token[:-1]}é", "NUL": lambda token: f"{token}\x00",
}  # fmt: skip


@pytest.mark.parametrize("change", FORMS.values(), ids=FORMS)
async def test_token_that_is_no_compact_jws(lab, change):
    """Frank writes a genuine token in another way, which a lax decoder would take for the same one."""
    workload, request = await genuine(lab)
    await is_malformed(lab, with_token(request, change(request.unverified_token)).to_bytes())
    lab.released(await workload.send(request), workload)


@pytest.mark.parametrize("segment", range(3), ids=["header", "payload", "signature"])
async def test_base64_that_is_not_canonical(lab, segment):
    """Frank changes bits of a genuine token that a lax base64 decoder throws away, to have two texts of one token."""
    workload, request = await genuine(lab)
    header, claims = taken_apart(request.unverified_token)
    padded = [json.dumps(one).encode() for one in (header, claims)]
    padded = [one + b" " * ((1 - len(one)) % 3) for one in padded]  # a length that leaves bits over in base64
    segments = put_together(padded[0], padded[1], genuine_signer()).split(".")
    last = segments[segment][-1]
    segments[segment] = segments[segment][:-1] + chr(ord(last) + 1)
    await is_not_authentic(lab, workload, with_token(request, ".".join(segments)), "token.form")


async def test_token_that_says_nothing(lab):
    """Frank sends what is well-formed and empty, or no object at all, in the places of header and payload."""
    workload, request = await genuine(lab)
    header, claims = taken_apart(request.unverified_token)
    deep = b'{"a":' * 1_000 + b"1" + b"}" * 1_000
    headers: list[bytes] = [b"[]", b"\xff\xfe"]
    payloads: list[bytes] = [b"null", b'"text"', b"{", deep]
    hostile = [put_together(one, claims, genuine_signer()) for one in headers]
    hostile += [put_together(header, one, genuine_signer()) for one in payloads]
    for forgery in (with_token(request, token) for token in hostile):
        lab.refused(await workload.send(forgery), "token_not_authentic", check="token.form", signed_over=forgery)
    await changes_nothing(lab, "token_not_authentic/token.form")
    assert not outbound(lab)
    lab.released(await workload.send(request), workload)
