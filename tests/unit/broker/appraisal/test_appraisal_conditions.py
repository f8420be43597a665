"""A participant's CEL conditions: only true admits, and no condition can stop the broker."""

import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcbn_broker.appraisal import Policy, PolicyError, appraise, load_policy
from mcbn_broker.appraisal.conditions import (
    BRACKETS_MAX,
    CONDITION_CHARS,
    CONDITIONS_MAX,
    ConditionError,
    compile_condition,
)
from mcbn_broker.attestation.result import AttestationResult
from mcbn_protocol.identifiers import Role
from mcbn_protocol.reference_values import EvidenceKind

SAMPLE = (
    "assertion.swname == 'CONFIDENTIAL_SPACE' && "
    "'STABLE' in assertion.submods.confidential_space.support_attributes && "
    "assertion.google_service_accounts.all(a, a.endsWith('@operator.iam.gserviceaccount.com'))"
)


def policy(tmp_path, text):
    path = tmp_path / "policy.toml"
    path.write_text(text)
    return load_policy(path)


def results(claims, reference, policy, role=Role.CLIENT):
    result = AttestationResult(EvidenceKind.CONFIDENTIAL_SPACE, claims["iss"], None, claims)
    verdict = appraise(result, (reference,), policy, role=role, now=claims["iat"] + 5)
    return {check.name: check for check in verdict.checks if check.name.startswith("policy.condition.")}, verdict


@pytest.mark.parametrize(
    ("text", "passed", "found"),
    [
        (SAMPLE, True, "true"),
        ("assertion.swname == 'GCE'", False, "false"),
        ("assertion.oemid", False, "11129"),
        ("assertion.swname", False, '"CONFIDENTIAL_SPACE"'),
        ("1", False, "1"),
        ("assertion.missing == 'x'", False, "an error: KeyError"),
        ("assertion.oemid.nested == 1", False, "an error"),
        ("assertion.swname > 1", False, "an error"),
        ("has(assertion.missing) || assertion.oemid == 11129", True, "true"),
        ("assertion.oemid == '11129'", False, "false"),
        ("timestamp('2024-01-01T00:00:00Z')", False, "another value"),
        ("assertion.submods.gce.zone.matches('^us-')", True, "true"),
    ],
)
def test_only_true_admits(claims, variant, text, passed, found):
    own = Policy.model_validate({"conditions": [text]})
    judged, verdict = results(claims, variant(), own)
    (check,) = judged.values()
    assert (check.name, check.passed, verdict.passed) == ("policy.condition.1", passed, passed)
    assert check.found.startswith(found)
    assert check.expected == text


def test_conditions_of_both_roles_and_of_this_one_must_hold(claims, variant, tmp_path):
    own = policy(
        tmp_path,
        'conditions = ["assertion.oemid == 11129"]\n[roles.client]\nconditions = ["assertion.secboot", "false"]\n',
    )
    judged, verdict = results(claims, variant(), own)
    assert [check.passed for check in judged.values()] == [True, True, False]
    assert verdict.first_failure is not None
    assert verdict.first_failure.name == "policy.condition.3"
    judged, verdict = results(claims, variant(), own, Role.SERVER)
    assert len(judged) == 1


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("assertion.x ==", "condition 1: it is no CEL"),
        ("", "condition 1: it is no CEL"),
        ("claims.x == 1", "it uses claims: the claims are called assertion"),
        ("now() > 1", "it uses now"),
        ("assertion.x.readFile()", "it uses readFile"),
        ("a" * (CONDITION_CHARS + 1), "characters, at most"),
        ("(" * 500 + "true" + ")" * 500, "nested more than"),
        ("[" * 500, "nested more than"),
        ("assertion.l.all(x, assertion.l.all(y, x == y))", "only the element"),
        ("assertion.l.all(x, assertion == assertion)", "only the element"),
        ("assertion.l.all(x, x.exists(y, y == 1))", "only the element"),
        ("assertion.a.map(x, x).map(x, x).map(x, x) == []", "has 3 of all"),
        ("assertion.a == '''x'''", "triple quotes"),
        ("assertion.a == 1 // a comment", "comments"),
        ("assertion.l.all((int), assertion.l.all((string), true))", "bare name"),
        ("assertion.l.all(int, assertion.l.size() > 0)", "cannot be an element's name"),
        ("assertion.l.all(assertion, true)", "cannot be an element's name"),
        ("assertion.l.all(x, assertion)", "only the element"),
        ("assertion.l.all(x, ", "it is no CEL"),
        ("assertion." + "X" * 40 + " == " + "(" * 33 + "1" + ")" * 33, "nested more than"),
        # A raw text ends at the first quotation mark, whatever stands before it.
        (
            r"r'\' == assertion.a || assertion.l.all(x, assertion.l.all(y, true)) || assertion.b == ''",
            "only the element",
        ),
    ],
)
def test_a_condition_that_cannot_be_used_is_refused_when_it_is_loaded(tmp_path, text, why):
    with pytest.raises(PolicyError, match=why):
        policy(tmp_path, f"conditions = [{text.replace(chr(39) * 3, chr(39))!r}]" if "'''" not in text else
               f'conditions = ["{text}"]')  # fmt: skip


def test_what_looks_like_code_in_a_text_is_text():
    assert compile_condition("assertion.a == '.all(x, assertion)'").text
    assert compile_condition(r"assertion.a == 'it\'s (((' || assertion.a.matches(r'\d+\(')").text


@pytest.mark.parametrize("value", ["'x'", "[1]", "[]", "['true', 5]", repr(["true"] * (CONDITIONS_MAX + 1))])
def test_another_shape_is_refused(tmp_path, value):
    with pytest.raises(PolicyError, match="conditions"):
        policy(tmp_path, f"conditions = {value}")


def test_a_condition_just_within_the_limits_is_compiled():
    assert compile_condition("(" * BRACKETS_MAX + "true" + ")" * BRACKETS_MAX).judge({}).passed
    with pytest.raises(ConditionError):
        compile_condition("(" * (BRACKETS_MAX + 1) + "true" + ")" * (BRACKETS_MAX + 1))


def test_letters_are_no_brackets():
    assert compile_condition(f"assertion.{'X' * (BRACKETS_MAX + 1)} == 1").text


def test_the_library_is_imported_only_for_conditions():
    code = (
        "import sys; import mcbn_broker.appraisal as a; assert 'cel' not in sys.modules; "
        "a.Policy.model_validate({'conditions': ['true']}); assert 'cel' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)
SOME = [
    compile_condition(text)
    for text in (
        SAMPLE, "assertion.a == assertion.b", "assertion.a in assertion.b", "size(assertion.a) > 1",
        "assertion.a + 1 > 2",
        "assertion.a.all(x, x == 1)", "assertion.a[0] == 1", "assertion.a.matches('a*')", "has(assertion.a.b)",
        "assertion.a",
    )
]  # fmt: skip


@given(st.dictionaries(st.sampled_from(["a", "b", "swname", "submods"]), JSON, max_size=4), st.sampled_from(SOME))
def test_no_claims_make_a_condition_raise_or_change_them(claims: dict[str, Any], condition: Any):
    before = repr(claims)
    finding = condition.judge(claims)
    assert finding.passed in {True, False}
    assert isinstance(finding.found if isinstance(finding.found, str) else finding.found(), str)
    assert repr(claims) == before


def test_an_interrupt_is_no_verdict():
    class Interrupted:
        def execute(self, _context):
            raise KeyboardInterrupt

    condition = compile_condition("true")
    object.__setattr__(condition, "program", Interrupted())
    with pytest.raises(KeyboardInterrupt):
        condition.judge({})


def test_a_panic_of_the_library_is_a_refusal():
    class Panic(BaseException):
        pass

    class Panicking:
        def execute(self, _context):
            raise Panic("inside")

    condition = compile_condition("true")
    object.__setattr__(condition, "program", Panicking())
    assert not condition.judge({}).passed
