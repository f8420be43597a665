"""The state machine: what must stay true, held against a real broker and a real workload through thousands of steps."""

import time
from collections import Counter
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import Phase
from hypothesis.stateful import run_state_machine_as_test

from mcbn_broker.release import service, settlement
from mcbn_broker.release.consent import ConsentState
from mcbn_broker.release.manifests import ManifestState
from mcbn_broker.storage import opening
from mcbn_broker.storage.transaction import StoreTransaction
from mcbn_workload.brokers import client
from tests.properties.budget import LONG, budget
from tests.properties.consent_machine import ConsentMachine

pytestmark = pytest.mark.timeout(1800)  # thousands of steps, beside whatever else the machine does
STEPS_PER_EXAMPLE = 50
EXAMPLES = 25
REFUSALS = {
    *("challenge_not_issued", "challenge_expired", "challenge_used", "token_not_authentic", "appraisal_failed"),
    *("consent_paused", "instances_exceeded", "manifest_not_accepted", "manifest_not_valid_now", "not_in_manifest"),
}
STEPS = {True: 20_000, False: 750}
OUTCOMES = {
    True: REFUSALS
    | {"released", "complete", "new life", "carol: released", "carol: mismatch", "carol: no_valid_answer"},
    False: {"released", "challenge_used", "consent_paused", "token_not_authentic"},
}
"""What must have come of the requests, else the machine goes round in some corner."""


def machine() -> type[ConsentMachine]:
    """A machine class with counts of its own."""
    return type("ConsentMachine", (ConsentMachine,), {"steps": 0, "seen": Counter()})


def test_what_must_stay_true_in_any_order(record_property):
    """Challenges, tokens, releases, repeats, pauses, epochs, restarts, restored copies, and one broker that lies."""
    counted, started = machine(), time.monotonic()
    run_state_machine_as_test(counted, settings=budget(EXAMPLES, stateful_step_count=STEPS_PER_EXAMPLE))
    seconds = time.monotonic() - started
    seen = ", ".join(f"{name} {count}" for name, count in sorted(counted.seen.items()))
    record_property("figure", f"state machine: {counted.steps} steps in {seconds:.0f} s, where came of it: {seen}")
    assert counted.steps >= STEPS[LONG]
    assert counted.seen.keys() >= OUTCOMES[LONG]


def _nothing(*_arguments: Any, **_named: Any) -> None:
    return None


def _skip_consent(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(service, "check_consent", _nothing)
    patch.setattr(settlement, "check_consent", _nothing)


def _forget_used_challenges(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(StoreTransaction, "spend", lambda _self, _challenge: True)


def _keep_consent_when_restored(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(opening, "ConsentState", SimpleNamespace(PAUSED=ConsentState.ALLOWED))


def _judge_consent_before_the_transaction_only(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(settlement, "check_consent", _nothing)


def _serve_superseded_manifests(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(settlement, "manifest_state", lambda *_arguments: ManifestState.CURRENT)


def _count_no_instances(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(settlement, "room_for", lambda *_arguments: True)


def _believe_any_share(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(client, "check_share", _nothing)


FAULTS = (
    _skip_consent,
    _forget_used_challenges,
    _keep_consent_when_restored,
    _judge_consent_before_the_transaction_only,
    _serve_superseded_manifests,
    _count_no_instances,
    pytest.param(_believe_any_share, marks=pytest.mark.long),
)


@pytest.mark.parametrize("plant", FAULTS, ids=lambda plant: plant.__name__.strip("_"))
def test_the_machine_finds_planted_faults(plant: Callable[[pytest.MonkeyPatch], None], monkeypatch, record_property):
    """A machine that cannot fail shows nothing: each fault, planted alone, is found."""
    plant(monkeypatch)
    counted = machine()
    once = budget(300, stateful_step_count=STEPS_PER_EXAMPLE, phases=[Phase.generate], report_multiple_bugs=False)
    with pytest.raises(AssertionError):
        run_state_machine_as_test(counted, settings=once)
    record_property("figure", f"{plant.__name__.strip('_')} was found within {counted.steps} steps")
