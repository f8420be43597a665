"""What a person reads of one token, and that nothing passes there that was not compared."""

import hashlib
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from mcbn_broker.appraisal.explanation import Explanation, Given, Outcome, certificates_root, explain
from mcbn_broker.appraisal.policy import Policy
from mcbn_broker.attestation.published_keys import parse_key_set
from mcbn_broker.attestation.strict_jws import OIDC, PKI, parse
from mcbn_protocol.identifiers import Role
from mcbn_protocol.reference_values import PRODUCTION_ISSUER
from mcbn_simulator.issuer import Issuer
from mcbn_simulator.machine import SimulatedMachine
from mcbn_simulator.token_options import TokenOptions

NOW = 1_800_000_000
AUDIENCE = "mcbn:v1:x:alice"
NONCES = ("c" * 55, "b" * 43)
MACHINE = SimulatedMachine(image_digest="sha256:" + "ab" * 32)
NOT_GIVEN = "not compared"
FORM_WHY = "Two readers of a sloppy form may read two different tokens."
AUDIENCE_WHY = "A token for another relying party must not be replayed here."
ISSUER_WHY = "Anyone can sign tokens; only the agreed attestation service counts."
NONCES_WHY = "The nonces bind the token to one request and to one key inside the TEE."
CHAIN_WHY = "The certificates must end at the pinned root, each fit for its place."
KEY_WHY = "The key must be in the issuer's published key set."
SIGNATURE_WHY = "Without it, all claims are just words."
TIMES_WHY = "Old evidence says nothing about the machine now."
ISSUER = '"https://confidentialcomputing.googleapis.com"'
QUOTED_NONCES = f'["{NONCES[0]}", "{NONCES[1]}"]'
AGREED = {
    "trust_anchor", "image_digest", "image_signatures", "args", "env", "project_number", "instance_id",
    "service_accounts", "restart_policy", "monitoring_memory",
}  # fmt: skip


@pytest.fixture(scope="module")
def issuer() -> Issuer:
    return Issuer(PRODUCTION_ISSUER, clock=lambda: NOW)


@pytest.fixture(scope="module")
def token(issuer: Issuer) -> dict[str, str]:
    kinds = {kind: TokenOptions(audience=AUDIENCE, nonces=NONCES, token_type=kind) for kind in ("OIDC", "PKI")}
    return {kind: issuer.issue(MACHINE, options) for kind, options in kinds.items()}


@pytest.fixture
def root(issuer: Issuer) -> bytes:
    return hashlib.sha256(issuer.certificates.root.certificate.public_bytes(Encoding.DER)).digest()


@pytest.fixture
def nothing() -> Given:
    return Given(NOW + 1, None, None, frozenset(), None, (), Policy(), Role.CLIENT)


@pytest.fixture
def everything(issuer: Issuer, root: bytes, nothing: Given) -> Given:
    return replace(
        nothing, audience=AUDIENCE, nonces=NONCES, roots=frozenset({root}), keys=parse_key_set(issuer.jwks())
    )


def told(explanation: Explanation) -> list[tuple[str, str, str, str, str]]:
    """The lines about the token itself, before those about its claims."""
    lines = [(one.check, one.outcome.value, one.expected, one.found, one.why) for one in explanation.lines]
    return [line for line in lines if line[0].startswith("token.")]


def of(explanation: Explanation, check: str) -> tuple[str, str, str]:
    ((outcome, expected, found),) = (
        (one.outcome.value, one.expected, one.found) for one in explanation.lines if one.check == check
    )
    return outcome, expected, found


TIMES = (
    "token.times", "passed", f"valid at {NOW + 1}, at most 300 s old",
    f'{{"iat": {NOW}, "nbf": {NOW}, "exp": {NOW + 3600}}}', TIMES_WHY,
)  # fmt: skip


@pytest.mark.parametrize("kind", ["OIDC", "PKI"])
def test_what_nobody_gave_is_not_compared_and_says_what_to_give(token: Any, nothing: Given, kind: str) -> None:
    explanation = explain(token[kind], nothing)
    check, missing, found, why = ("token.chain", "no --root was given", "the certificates of x5c", CHAIN_WHY)
    if kind == "OIDC":
        key_id = parse(token[kind], profiles=(OIDC,)).key_id
        check, missing, found, why = ("token.key", "no --jwks was given", f"kid {key_id}", KEY_WHY)
    assert told(explanation) == [
        ("token.form", "passed", "a strict compact JWS, RS256", f"{kind} token", FORM_WHY),
        ("token.audience", NOT_GIVEN, "not given", f'"{AUDIENCE}"', AUDIENCE_WHY),
        ("token.issuer", "passed", f"[{ISSUER}]", ISSUER, ISSUER_WHY),
        ("token.nonces", NOT_GIVEN, "not given", QUOTED_NONCES, NONCES_WHY),
        (check, NOT_GIVEN, missing, found, why),
        ("token.signature", NOT_GIVEN, missing, "", SIGNATURE_WHY),
        TIMES,
    ]
    assert (explanation.authentic, explanation.failed, explanation.reference) == (False, False, None)


@pytest.mark.parametrize("kind", ["OIDC", "PKI"])
def test_with_everything_given_every_line_of_a_good_token_is_green(
    token: Any, everything: Given, root: bytes, kind: str
) -> None:
    explanation = explain(token[kind], everything)
    check, expected, found, why = (
        "token.chain", f"a chain to root {root.hex()}", "the certificates of x5c", CHAIN_WHY
    )  # fmt: skip
    if kind == "OIDC":
        key_id = parse(token[kind], profiles=(OIDC,)).key_id
        check, expected, found, why = ("token.key", "a key of the set", f"kid {key_id}", KEY_WHY)
    assert told(explanation) == [
        ("token.form", "passed", "a strict compact JWS, RS256", f"{kind} token", FORM_WHY),
        ("token.audience", "passed", AUDIENCE, f'"{AUDIENCE}"', AUDIENCE_WHY),
        ("token.issuer", "passed", f"[{ISSUER}]", ISSUER, ISSUER_WHY),
        ("token.nonces", "passed", QUOTED_NONCES, QUOTED_NONCES, NONCES_WHY),
        (check, "passed", expected, found, why),
        ("token.signature", "passed", "RS256", "", SIGNATURE_WHY),
        TIMES,
    ]
    assert (explanation.authentic, explanation.failed) == (True, False)


def test_the_roots_are_told_in_order(token: Any, nothing: Given) -> None:
    explanation = explain(token["PKI"], replace(nothing, roots=frozenset({b"\x02" * 32, b"\x01" * 32, b"\x03" * 32})))
    outcome, expected, _ = of(explanation, "token.chain")
    assert (outcome, expected) == ("failed", f"a chain to root {'01' * 32}, {'02' * 32}, {'03' * 32}")


@pytest.mark.parametrize("keys", [{}, {"other": None}])
def test_a_key_that_the_set_lacks_is_told(token: Any, nothing: Given, keys: Any) -> None:
    explanation = explain(token["OIDC"], replace(nothing, keys=keys))
    key_id = parse(token["OIDC"], profiles=(OIDC,)).key_id
    assert of(explanation, "token.key") == ("failed", "a key of the set", f'the set has no key "{key_id}"')
    assert (explanation.authentic, explanation.failed) == (False, True)


def test_what_is_no_token_has_one_red_line_and_no_claims(nothing: Given) -> None:
    explanation = explain("x.y", nothing)
    found = "a compact JWS has exactly three segments"
    assert told(explanation) == [("token.form", "failed", "a strict compact JWS, RS256", found, FORM_WHY)]
    assert len(explanation.lines) == 1
    assert (explanation.claims, explanation.unknown_claims) == ({}, ())
    assert (explanation.reference, explanation.authentic, explanation.failed) == (None, False, True)


def test_without_a_manifest_the_baseline_is_what_everybody_should_ask_for(token: Any, nothing: Given) -> None:
    explanation = explain(token["OIDC"], nothing)
    told_checks = {one.check: one for one in explanation.lines}
    for name in AGREED:
        assert told_checks[name].outcome is Outcome.NOT_COMPARED
        assert told_checks[name].expected == "what the participants agree on: give --manifest"
    baseline = {
        "issuer": ISSUER,
        "dbgstat": '"disabled-since-boot"',
        "support_attributes": "STABLE or better",
        "swname": '"CONFIDENTIAL_SPACE"',
        "secboot": "true",
        "hwmodel": 'one of ["GCP_AMD_SEV", "GCP_AMD_SEV_ES", "GCP_INTEL_TDX"]',
        "cmd_override": "absent or empty",
        "env_override": "absent or empty",
    }
    for name, expected in baseline.items():
        assert (told_checks[name].outcome, told_checks[name].expected) == (Outcome.PASSED, expected)
    not_compared = {name for name, one in told_checks.items() if one.outcome is Outcome.NOT_COMPARED}
    assert not_compared == AGREED | {"token.audience", "token.nonces", "token.key", "token.signature"}


def test_another_issuer_and_a_debug_image_are_red_by_the_baseline(issuer: Issuer, nothing: Given) -> None:
    other = Issuer("https://attacker.example", clock=lambda: NOW).issue(MACHINE, TokenOptions())
    explanation = explain(other, nothing)
    assert {one.check for one in explanation.lines if one.outcome is Outcome.FAILED} == {"token.issuer", "issuer"}
    debug = issuer.issue(replace(MACHINE, debug=True), TokenOptions())
    red = {one.check for one in explain(debug, nothing).lines if one.outcome is Outcome.FAILED}
    assert red == {"dbgstat", "support_attributes"}


def test_with_a_reference_value_its_issuer_is_the_expected_one(
    token: Any, nothing: Given, reference: Any, variant: Any
) -> None:
    other = variant(issuer="https://attacker.example")
    explanation = explain(token["OIDC"], replace(nothing, references=(other, reference)))
    issuers = f'["https://attacker.example", {ISSUER}]'
    assert of(explanation, "token.issuer") == ("passed", issuers, ISSUER)
    assert explanation.reference == 1
    assert all(one.outcome is not Outcome.NOT_COMPARED for one in explanation.lines if one.check in AGREED)
    alone = explain(token["OIDC"], replace(nothing, references=(other,)))
    assert of(alone, "token.issuer")[:2] == ("failed", '["https://attacker.example"]')


@pytest.mark.parametrize(
    "case", [("PKI", True, "passed"), ("PKI", False, "failed"), ("OIDC", True, "failed"), ("OIDC", False, "passed")]
)
def test_the_trust_anchor_is_the_one_that_the_token_brings(
    token: Any, nothing: Given, variant: Any, root: bytes, case: tuple[str, bool, str]
) -> None:
    kind, trusted, outcome = case
    given = replace(nothing, references=(variant(root=root if trusted else None),))
    assert of(explain(token[kind], given), "trust_anchor")[0] == outcome


def test_the_root_of_a_token_is_that_of_its_last_certificate(token: Any, root: bytes) -> None:
    assert certificates_root(parse(token["PKI"], profiles=(PKI,))) == root
    assert certificates_root(parse(token["OIDC"], profiles=(OIDC,))) is None
    junk = replace(parse(token["PKI"], profiles=(PKI,)), header={"x5c": ["junk"]})
    assert certificates_root(junk) is None


def test_a_policy_and_a_role_count(token: Any, nothing: Given) -> None:
    policy = Policy.model_validate({"roles": {"client": {"zones": ["nowhere-a"]}}})
    assert of(explain(token["OIDC"], replace(nothing, policy=policy)), "policy.zone")[0] == "failed"
    server = replace(nothing, policy=policy, role=Role.SERVER)
    assert of(explain(token["OIDC"], server), "policy.zone")[0] == "passed"


@pytest.mark.parametrize(
    ("age", "check"),
    [(300, None), (301, "token.age"), (3660, "token.expired"), (-60, None), (-61, "token.not_yet_valid")],
)
def test_times_are_those_of_the_broker(token: Any, nothing: Given, age: int, check: str | None) -> None:
    explanation = explain(token["OIDC"], replace(nothing, at=NOW + age))
    red = [one for one in explanation.lines if one.outcome is Outcome.FAILED]
    assert [one.check for one in red] == ([check] if check else [])
    for one in red:
        assert one.expected == f"valid at {NOW + age}, at most 300 s old"
        assert one.why == TIMES_WHY
