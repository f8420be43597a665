from typing import Any

import pytest

from mcbn_broker.appraisal.accounting import ACCOUNTS, UNKNOWN_MAX, Treatment, unknown_claims
from mcbn_broker.appraisal.checks import CHECKS
from mcbn_broker.appraisal.policy_checks import LIMIT_CHECKS
from mcbn_simulator.claims import claims_for
from mcbn_simulator.machine import SimulatedMachine

READ = {
    path for claims in [check.claims for check in CHECKS] + [check.claims for check in LIMIT_CHECKS] for path in claims
}


def test_every_claim_that_a_check_reads_is_accounted_as_checked() -> None:
    checked = {path for path, one in ACCOUNTS.items() if one.treatment in {Treatment.REQUIRED, Treatment.OPTIONAL}}
    assert checked == READ


def test_a_claim_that_no_check_reads_has_its_reason() -> None:
    for path in ACCOUNTS.keys() - READ:
        assert ACCOUNTS[path].treatment in {Treatment.CHECKED_EARLIER, Treatment.UNCHECKED}
    assert all(one.reason.endswith(".") for one in ACCOUNTS.values())


def test_a_required_claim_that_is_missing_is_refused(claims: Any, changed: Any, red: Any) -> None:
    for path, account in ACCOUNTS.items():
        if account.treatment is Treatment.REQUIRED and path != "iat":  # the time is verified before there is a result
            assert red(changed(claims, path, ...)), path


def test_an_optional_claim_may_be_missing(claims: Any, changed: Any, red: Any) -> None:
    del claims["submods"]["container"]["env"]["MCBN_CONNECT"]
    for path, account in ACCOUNTS.items():
        if account.treatment is Treatment.OPTIONAL:
            claims = changed(claims, path, ...)
    assert red(claims) == set()


def test_every_claim_of_the_simulated_shapes_is_accounted() -> None:
    for hwmodel in ("GCP_AMD_SEV", "GCP_INTEL_TDX"):
        for debug in (True, False):
            machine = SimulatedMachine(
                image_digest="sha256:" + "ab" * 32,
                hwmodel=hwmodel,
                debug=debug,
                cmd_override=("x",),
                env_override={"A": "b"},
            )
            claims = claims_for(machine, issuer="http://i", audience="a", nonces=("n" * 10,), now=1)
            assert unknown_claims(claims) == ()


@pytest.mark.parametrize(
    "path",
    ["new", "submods.new", "submods.gce.new", "submods.confidential_space.new", "submods.container.new",
     "submods.confidential_space.monitoring_enabled.cpu"],
)  # fmt: skip
def test_a_claim_that_nobody_thought_about_is_named_but_only_the_containers_refuse(
    claims: Any, changed: Any, judged: Any, path: str
) -> None:
    verdict = judged(changed(claims, path, {"anything": 1.5}))
    assert verdict.unknown_claims == (path,)
    assert verdict.passed is not path.startswith("submods.container.")


def test_unknown_claims_are_bounded_and_printable(claims: Any) -> None:
    found = unknown_claims(claims | {f"\x1b[{number}m" + "x" * 1000: 1 for number in range(100)})
    assert len(found) == UNKNOWN_MAX
    assert all(len(path) < 300 and path.isascii() and path.isprintable() for path in found)
