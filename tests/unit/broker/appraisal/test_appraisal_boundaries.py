"""The edges of appraisal: exactly at each limit and one beyond it, and what a single changed word would break."""

import importlib
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mcbn_broker.appraisal import AppraisalFailed, Policy, PolicyError, Verdict, load_policy
from mcbn_broker.appraisal.accounting import ACCOUNTS, CONTAINER_CLAIMS, UNKNOWN_MAX, Treatment, unknown_claims
from mcbn_broker.appraisal.checks import CHECKS, EAT_PROFILE, GOOGLE_OEMID, TRUST_ANCHOR_WHY, trust_anchor
from mcbn_broker.appraisal.conditions import (
    BRACKETS_MAX,
    CONDITION_CHARS,
    CONDITIONS_MAX,
    MACROS_MAX,
    Condition,
    ConditionError,
    compile_condition,
)
from mcbn_broker.appraisal.explanation import Outcome
from mcbn_broker.appraisal.findings import Claims, described, empty, exactly, one_of, same_strings, string_map, strings
from mcbn_broker.appraisal.policy import POLICY_BYTES, Limits, RoleLimits
from mcbn_broker.appraisal.policy_checks import LIMIT_CHECKS
from mcbn_broker.errors import EXIT_CODES
from mcbn_protocol.identifiers import Role
from mcbn_protocol.reference_values import ImageSigner, SignatureAlgorithm, SupportAttribute


def test_the_limits_are_the_documented_ones() -> None:
    assert (UNKNOWN_MAX, POLICY_BYTES) == (32, 65536)
    assert (CONDITIONS_MAX, CONDITION_CHARS, BRACKETS_MAX, MACROS_MAX) == (16, 2048, 32, 2)
    assert GOOGLE_OEMID == 11129
    assert EAT_PROFILE.endswith("/confidential-space/docs/reference/token-claims")


def test_treatments_and_outcomes_have_the_names_that_people_read() -> None:
    assert [str(one) for one in Treatment] == ["required", "optional", "checked earlier", "deliberately unchecked"]
    assert [str(one) for one in Outcome] == ["passed", "failed", "not compared"]


def test_each_claim_is_treated_as_written() -> None:
    """The table's other half: a claim that moves from one kind to another is a decision, not a slip."""
    by_treatment = {kind: {path for path, one in ACCOUNTS.items() if one.treatment is kind} for kind in Treatment}
    container, gce, space = "submods.container.", "submods.gce.", "submods.confidential_space."
    assert by_treatment[Treatment.CHECKED_EARLIER] == {"aud", "exp", "nbf", "eat_nonce"}
    assert by_treatment[Treatment.UNCHECKED] == {
        "sub", "jti", "tee", f"{gce}project_id", f"{container}image_reference", f"{container}image_id",
    }  # fmt: skip
    assert by_treatment[Treatment.OPTIONAL] == {
        "attester_tcb", "tdx", "submods.nvidia_gpu", f"{gce}zone", f"{container}image_signatures",
        f"{container}cmd_override", f"{container}env_override",
    }  # fmt: skip
    assert by_treatment[Treatment.REQUIRED] == {
        "iat", "iss", "eat_profile", "secboot", "oemid", "hwmodel", "swname", "swversion", "dbgstat",
        "google_service_accounts", f"{space}support_attributes", f"{space}monitoring_enabled.memory",
        f"{container}image_digest", f"{container}args", f"{container}env", f"{container}restart_policy",
        f"{gce}project_number", f"{gce}instance_id", f"{gce}instance_name",
    }  # fmt: skip
    assert all(one.reason.endswith(".") for one in ACCOUNTS.values())
    assert {
        "image_digest", "args", "env", "restart_policy", "cmd_override", "env_override", "image_reference", "image_id",
        "image_signatures",
    } == CONTAINER_CLAIMS  # fmt: skip


@pytest.mark.parametrize("known", [*ACCOUNTS, "submods", "submods.gce", "submods.container"])
@pytest.mark.parametrize("value", [None, 3, {}, {"deep": {"er": 1}}])
def test_a_known_claim_of_any_type_is_not_unknown(changed: Any, known: str, value: Any) -> None:
    found = unknown_claims(changed({}, known, value))
    parent = known in {"submods", "submods.gce", "submods.container"}
    assert found == ((f"{known}.deep",) if parent and value and isinstance(value, dict) else ())


def test_unknown_claims_are_named_as_they_are_up_to_the_last() -> None:
    assert unknown_claims({"X": 1}) == ("X",)
    names = [f"claim{number}" for number in range(UNKNOWN_MAX + 1)]
    assert unknown_claims(dict.fromkeys(names[:-1])) == tuple(names[:-1])
    assert unknown_claims(dict.fromkeys(names)) == tuple(names[:-1])


def test_the_paths_of_a_check_are_what_it_reads() -> None:
    """`policy explain` and the accounts go by them."""
    container, gce, space = "submods.container", "submods.gce", "submods.confidential_space"
    assert {check.name: check.claims for check in CHECKS} == {
        "issuer": ("iss",),
        "dbgstat": ("dbgstat",),
        "support_attributes": (f"{space}.support_attributes",),
        "swname": ("swname",),
        "secboot": ("secboot",),
        "hwmodel": ("hwmodel",),
        "image_digest": (f"{container}.image_digest",),
        "image_signatures": (f"{container}.image_signatures",),
        "args": (f"{container}.args",),
        "cmd_override": (f"{container}.cmd_override",),
        "env_override": (f"{container}.env_override",),
        "env": (f"{container}.env", f"{container}.env_override", f"{gce}.instance_name"),
        "project_number": (f"{gce}.project_number",),
        "instance_id": (f"{gce}.instance_id",),
        "service_accounts": ("google_service_accounts",),
        "tdx": ("tdx", "hwmodel"),
        "attester_tcb": ("attester_tcb", "hwmodel"),
        "nvidia_gpu": ("submods.nvidia_gpu",),
        "restart_policy": (f"{container}.restart_policy",),
        "monitoring_memory": (f"{space}.monitoring_enabled.memory",),
        "oemid": ("oemid",),
        "eat_profile": ("eat_profile",),
        "swversion": ("swversion",),
    }
    assert {check.name: check.claims for check in LIMIT_CHECKS} == {
        "policy.hwmodel": ("hwmodel",),
        "policy.image_digest": (f"{container}.image_digest",),
        "policy.project_number": (f"{gce}.project_number",),
        "policy.zone": (f"{gce}.zone",),
        "policy.instance_id": (f"{gce}.instance_id",),
        "policy.service_accounts": ("google_service_accounts",),
        "policy.token_age": ("iat",),
    }


@pytest.mark.parametrize(
    "case",
    [
        ("submods.gce.project_number", ["1", "1" * 32], ["", "1" * 33, "1\n", "٣", "a", "-1"]),
        ("submods.gce.instance_id", ["0", "9" * 32], ["", "9" * 33, "9 "]),
        ("swversion", [["1"], ["a" * 32], ["26.03-rc_1"], ["Z9"]], [[], ["a" * 33], ["1", "1"], ["1\n"], ["é"], "1"]),
        ("submods.container.image_digest", ["sha256:" + "0f" * 32], ["sha256:" + "0f" * 31, "sha256:" + "0F" * 32]),
    ],
)
def test_where_nothing_is_agreed_the_form_still_is(
    changed: Any, claims: Any, red: Any, variant: Any, case: Any
) -> None:
    path, good, bad = case
    signer = ImageSigner("ab" * 32, SignatureAlgorithm.ECDSA_P256_SHA256)
    reference = variant(project_numbers=(), instance_ids=None, image_digests=(), image_signatures=(signer,))
    (check,) = (one.name for one in CHECKS if one.claims[0] == path)
    for value in good:
        assert check not in red(changed(claims, path, value), reference)
    for value in bad:
        assert check in red(changed(claims, path, value), reference)


@pytest.mark.parametrize("lowest", ["EXPERIMENTAL", "USABLE", "STABLE"])
def test_a_better_support_attribute_is_enough_and_a_worse_is_not(
    changed: Any, claims: Any, red: Any, variant: Any, lowest: str
) -> None:
    ranks = ["EXPERIMENTAL", "USABLE", "STABLE"]
    reference = variant(support_attribute=SupportAttribute(lowest))
    for given in ranks:
        found = red(changed(claims, "submods.confidential_space.support_attributes", [given]), reference)
        assert found == (set() if ranks.index(given) >= ranks.index(lowest) else {"support_attributes"})


def test_an_environment_override_where_none_is_admitted_is_told_so(
    changed: Any, claims: Any, judged: Any, variant: Any
) -> None:
    (failure,) = judged(claims, variant(env_override={})).failures
    assert (failure.name, failure.expected) == ("env_override", "absent or empty")


def test_trust_anchor_words_and_verdicts(reference: Any) -> None:
    assert trust_anchor(None, reference).passed
    assert not trust_anchor(b"\x01" * 32, reference).passed
    assert TRUST_ANCHOR_WHY.endswith(".")


@pytest.mark.parametrize("value", [True, 1, "1", 1.0, None])
@pytest.mark.parametrize("expected", [True, 1, "1"])
def test_equal_means_of_one_type(value: Any, expected: Any) -> None:
    assert exactly(value, expected).passed is (type(value) is type(expected))


@pytest.mark.parametrize(("value", "passed"), [("a", True), ("b", False), (["a"], False), (None, False), ({}, False)])
def test_one_of(value: Any, passed: bool) -> None:
    assert one_of(value, ("a",)).passed is passed
    assert one_of(value, ()).passed is False


@pytest.mark.parametrize("value", [None, [], {}])
def test_what_is_empty(value: Any) -> None:
    assert empty(value).passed
    assert empty(Claims({}).at("x")).passed


@pytest.mark.parametrize("value", [0, "", False, 0.0, [None], {"": None}, ()])
def test_what_is_not_empty(value: Any) -> None:
    assert not empty(value).passed


def test_lists_and_objects_of_strings() -> None:
    assert strings([]) == []
    assert strings(["a"]) == ["a"]
    assert [strings(value) for value in (["a", 1], ("a",), "a", {"a": "b"}, None)] == [None] * 5
    assert string_map({}) == {}
    assert string_map({"a": "b"}) == {"a": "b"}
    assert [string_map(value) for value in ({"a": 1}, [("a", "b")], "a", None)] == [None] * 4
    assert same_strings(["a", "b"], ("a", "b")).passed
    assert not same_strings(["b", "a"], ("a", "b")).passed
    assert not same_strings(None, ()).passed


def test_a_path_through_what_is_no_object_is_missing() -> None:
    claims = Claims({"a": {"b": {"c": 1}}, "d": [1], "e": None})
    assert claims.at("a.b.c") == 1
    assert claims.at("a.b") == {"c": 1}
    assert claims.at("e") is None
    assert {described(claims.at(path)) for path in ("x", "a.x", "a.b.c.x", "d.0", "e.x")} == {"missing"}


def test_a_claim_that_is_missing_is_told_apart_from_the_word() -> None:
    assert described("missing") == '"missing"'


@pytest.fixture
def load(tmp_path: Path) -> Callable[[str], Policy]:
    def write_and_load(text: str) -> Policy:
        path = tmp_path / "policy.toml"
        path.write_text(text)
        return load_policy(path)

    return write_and_load


def test_a_policy_file_of_exactly_the_limit_loads(load: Any) -> None:
    assert load("#" * POLICY_BYTES) == Policy()
    with pytest.raises(PolicyError, match=rf"policy\.toml: longer than {POLICY_BYTES} bytes$"):
        load("#" * (POLICY_BYTES + 1))


def test_all_that_is_wrong_with_a_policy_is_told(load: Any, tmp_path: Path) -> None:
    with pytest.raises(PolicyError) as caught:
        load("zones = 'a'\nfirst = 1\n[roles.client]\nsecond = 2\n")
    told = str(caught.value)
    assert told.startswith(f'{tmp_path / "policy.toml"}: "zones": ')
    assert told.endswith("; correct the file")
    parts = told.removesuffix("; correct the file").split("; ")
    assert [part.rpartition('": ')[0].rpartition('"')[2] for part in parts] == ["zones", "roles.client.second", "first"]
    assert "errors.pydantic.dev" not in told
    assert caught.value.code == "policy_invalid"
    assert caught.value.exit_code == EXIT_CODES["usage"].number


@pytest.mark.parametrize(
    ("member", "good", "bad"),
    [
        ("hwmodels", ["GCP_AMD_SEV", "GCP_AMD_SEV_ES", "GCP_INTEL_TDX"], ["GCP_AMD_SE", "xGCP_AMD_SEV", "GCP_TDXx"]),
        ("project_numbers", ["0", "9" * 32], ["", "9" * 33, "a"]),
        ("instance_ids", ["0", "9" * 32], ["", "9" * 33, "a"]),
        ("zones", ["a", "a" + "z" * 63, "us-central1-a"], ["", "1a", "a" + "z" * 64, "A", "-a"]),
        ("service_accounts", ["a@b", "a" * 128 + "@" + "b" * 128, "A.z_0%+-@x.Y-0"],
         ["@b", "a@", "a" * 129 + "@b", "a@" + "b" * 129, "a b@c", "a@b@c"]),
        ("image_digests", ["sha256:" + "0a" * 32], ["sha256:" + "0a" * 31 + "0", "sha256:" + "0A" * 32, "0a" * 32]),
        ("container_claims_allowed", ["a", "Z_0-" * 16], ["", "a" * 65, "a.b", "a b"]),
    ],
)  # fmt: skip
def test_the_members_of_a_policy_have_their_forms(member: str, good: list[str], bad: list[str]) -> None:
    assert getattr(Policy.model_validate({member: good}), member) == set(good)
    for text in bad:
        with pytest.raises(ValueError, match=member):
            Policy.model_validate({member: [text]})
        with pytest.raises(ValueError, match=member):
            Policy.model_validate({member: [good[0], text]})
    for value in ([], [1], [None], "a", 1):
        with pytest.raises(ValueError, match=member):
            Policy.model_validate({member: value})


def test_ages_from_one_second_to_an_hour(load: Any) -> None:
    for seconds in (1, 3600):
        assert load(f"maximum_token_age_seconds = {seconds}").maximum_token_age_seconds == seconds


def test_limits_of_a_role_only_narrow(load: Any) -> None:
    """A role's own limit that is wider than the one for both roles widens nothing."""
    policy = load(
        "zones = ['a-a', 'b-b']\nmaximum_token_age_seconds = 30\nhwmodels = ['GCP_AMD_SEV']\n"
        "[roles.client]\nzones = ['b-b', 'c-c']\nmaximum_token_age_seconds = 60\n"
        "[roles.server]\nmaximum_token_age_seconds = 10\nproject_numbers = ['1']\n"
    )
    client, server = policy.limits(Role.CLIENT), policy.limits(Role.SERVER)
    assert (client.zones, client.maximum_token_age_seconds) == ({"b-b"}, 30)
    assert (server.zones, server.maximum_token_age_seconds) == ({"a-a", "b-b"}, 10)
    assert (client.hwmodels, server.hwmodels) == ({"GCP_AMD_SEV"}, {"GCP_AMD_SEV"})
    assert (client.project_numbers, server.project_numbers) == (None, {"1"})


@pytest.mark.parametrize("model", [Limits, RoleLimits, Policy])
def test_no_policy_can_be_changed_or_has_more_members(model: Any) -> None:
    with pytest.raises(ValueError, match="frozen"):
        model().zones = model().client = None
    with pytest.raises(ValueError, match="Extra inputs"):
        model.model_validate({"more": 1})


def test_conditions_up_to_the_last(load: Any) -> None:
    assert len(load(f"conditions = {['true'] * CONDITIONS_MAX!r}").conditions) == CONDITIONS_MAX
    for value in ("[]", repr(["true"] * (CONDITIONS_MAX + 1))):
        with pytest.raises(PolicyError, match=f"1 to {CONDITIONS_MAX} conditions are expected"):
            load(f"conditions = {value}")
    for value in ("'true'", "['true', 5]", "{ a = 'true' }", "5"):
        with pytest.raises(PolicyError, match="a list of texts is expected"):
            load(f"conditions = {value}")
    with pytest.raises(PolicyError, match="condition 2: it is no CEL"):
        load("conditions = ['true', '==']")


def test_a_condition_of_exactly_the_limit_is_compiled() -> None:
    text = "true".ljust(CONDITION_CHARS)
    assert compile_condition(text).judge({}).passed
    with pytest.raises(ConditionError, match=f"it has {CONDITION_CHARS + 1} characters, at most {CONDITION_CHARS}"):
        compile_condition(text + " ")


@pytest.mark.parametrize(
    "text",
    [
        "size('ab') == 2", "'ab'.contains('b')", "'ab'.startsWith('a')", "'ab'.endsWith('b')", "'ab'.matches('^a')",
        "string(1) == '1'", "int('1') == 1", "uint(1) == 1u", "double(1) == 1.0", "bytes('a') == b'a'",
        "bool('true')", "dyn(1) == 1", "type(1) == int", "timestamp('2024-01-01T00:00:00Z') == timestamp(1704067200)",
        "duration('1s') == duration('1000ms')", "type(true) == bool", "type(b'') == bytes", "type(1.0) == double",
        "type([]) == list", "type({}) == map", "type(null) == null_type", "type('') == string", "type(int) == type",
        "type(1u) == uint", "-1 < 0", "!false", "1 in [1]", "{'a': 1}['a'] == 1", "1 + 1 * 2 - 4 / 2 % 3 == 1",
        "true ? true : false",
    ],
)  # fmt: skip
def test_a_condition_may_use_the_standard_functions_and_types(text: str) -> None:
    assert compile_condition(text)


@pytest.mark.parametrize("text", ["'a,b'.split(',')", "'A'.lowerAscii()", "'a'.upperAscii()", "' a '.trim()"])
def test_a_condition_may_use_the_functions_of_strings(text: str) -> None:
    assert compile_condition(f"{text} == assertion.x")


@pytest.mark.parametrize("macro", ["all", "exists", "exists_one", "map", "filter"])
@pytest.mark.parametrize("shape", [".{}(x, x == 1)", " . {} ( x , x == 1)", ".{}(_x1,_x1 == 1)"])
def test_macros_are_counted_and_closed(macro: str, shape: str) -> None:
    once = "[1]" + shape.format(macro)
    compile_condition(f"{once} == {once}")
    with pytest.raises(ConditionError, match=f"has 3 of all, exists, exists_one, map and filter, at most {MACROS_MAX}"):
        compile_condition(f"[{once}, {once}, {once}] == []")
    inner = shape.format(macro).replace("== 1", "== assertion.y")
    with pytest.raises(ConditionError, match=r"inside all\(\), exists\(\) and the like only the element \("):
        compile_condition(f"[1]{inner}")
    with pytest.raises(ConditionError, match="only the element"):
        compile_condition(f"[[1]].map(z, z{shape.format(macro)})")


@pytest.mark.parametrize(
    "text",
    [
        r"assertion.a == r'\' && assertion.b == 'x'", "assertion.a == b'x\"y'", "assertion.a == R\"it's\"",
        r"assertion.a == 'it\'s ((('", r'assertion.a == "say \"((("', "assertion.a == r'('", "'(' == \"'\"",
        "assertion.l.all(x, x in ['assertion', \"assertion\", r'.all(y, y)'])",
    ],
)  # fmt: skip
def test_nothing_in_a_literal_counts(text: str) -> None:
    assert compile_condition(text)


def test_brackets_of_all_kinds_count_and_close() -> None:
    for opening, closing in ("()", "[]"):
        inside = "true" if opening == "(" else "1"
        compile_condition(
            opening * BRACKETS_MAX + inside + closing * BRACKETS_MAX + ("" if inside == "true" else " == 1")
        )
        with pytest.raises(ConditionError, match=f"its brackets are nested more than {BRACKETS_MAX} deep"):
            compile_condition(opening * (BRACKETS_MAX + 1) + inside + closing * (BRACKETS_MAX + 1))
    with pytest.raises(ConditionError, match="nested more than"):
        compile_condition("{1:" * (BRACKETS_MAX + 1) + "1" + "}" * (BRACKETS_MAX + 1))
    compile_condition(" && ".join(["(true)", "[1] == [1]", "{1: 1} == {1: 1}"] * BRACKETS_MAX))


def test_outside_of_a_macro_the_claims_may_be_used() -> None:
    assert compile_condition("assertion.l.all(x, [x] == [1]) && assertion.y == 1")
    assert compile_condition("(assertion.l.all(x, x == 1)) || assertion.y == {1: 2}")
    assert compile_condition("assertion.l.all(x, x.assertions == 1)")


class _Program:
    def __init__(self, value: Any) -> None:
        self.value = value

    def execute(self, claims: Any) -> Any:
        assert claims == {"assertion": {"a": 1}}
        if isinstance(self.value, BaseException):
            raise self.value
        return self.value


def test_what_a_condition_comes_to_is_told() -> None:
    circular: list[Any] = []
    circular.append(circular)
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    for value in (circular, deep, {1}, object()):
        finding = Condition("text", _Program(value)).judge({"a": 1})
        assert (finding.passed, finding.expected, finding.found()) == (False, "text", "another value")  # type: ignore[operator]  # words made later
    while deep:  # a deep list is not to be freed at once
        deep = deep.pop()
    for value in (1, "true", [True], None, False):
        assert not Condition("text", _Program(value)).judge({"a": 1}).passed
    assert Condition("text", _Program(True)).judge({"a": 1}).passed


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_who_ends_the_program_ends_it(kind: type[BaseException]) -> None:
    with pytest.raises(kind):
        Condition("text", _Program(kind())).judge({"a": 1})


@pytest.mark.parametrize("kind", [ValueError, RuntimeError, TypeError])
def test_whatever_the_compiler_raises_is_the_conditions_error(
    monkeypatch: pytest.MonkeyPatch, kind: type[Exception]
) -> None:
    class Compiler:
        @staticmethod
        def compile(_text: str) -> None:
            raise kind("two\n  lines " + "x" * 300)

    monkeypatch.setattr(importlib, "import_module", {"cel": Compiler}.__getitem__)
    with pytest.raises(ConditionError) as caught:
        compile_condition("true")
    assert str(caught.value) == "it is no CEL: two lines " + "x" * (200 - len("two lines "))


def test_a_condition_does_not_show_its_program() -> None:
    one, other = Condition("text", _Program(1)), Condition("text", _Program(2))
    assert repr(one) == "Condition(text='text')"
    assert one == other
    with pytest.raises(AttributeError):
        one.text = "other"  # type: ignore[misc]  # it is frozen


def test_the_error_of_an_appraisal_names_all_failures(changed: Any, claims: Any, judged: Any) -> None:
    verdict: Verdict = judged(changed(changed(claims, "secboot", False), "oemid", 1))
    with pytest.raises(AppraisalFailed) as caught:
        verdict.require_passed()
    assert str(caught.value) == "secboot: expected true, found false; oemid: expected 11129, found 1"
    assert caught.value.check == "secboot"
    assert caught.value.verdict is verdict
    assert (caught.value.code, caught.value.exit_code) == ("appraisal_failed", EXIT_CODES["refused"].number)


def test_a_verdict_of_nothing_says_so() -> None:
    (check,) = Verdict((), None, ()).checks
    assert (check.name, check.passed, check.found) == ("references", False, "none")
    assert check.expected == "at least one reference value and one check"
    with pytest.raises(AttributeError):
        Verdict((), None, ()).reference = 1  # type: ignore[misc]  # it is frozen


def test_of_references_that_fail_alike_the_first_is_told(claims: Any, changed: Any, judged: Any, variant: Any) -> None:
    wrong = variant(dbgstat="enabled", insecure_debug=True), variant(args=()), variant(args=("x",))
    for order in itertools.permutations(wrong):
        assert judged(claims, *order).reference == 0
    assert judged(changed(claims, "secboot", False), variant(args=()), variant()).reference == 1
