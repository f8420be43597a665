"""What outsiders with genuine tokens can make a broker write: little, and never at the price of a spent challenge."""

import json

import pytest

from mcbn_broker.errors import Refused
from mcbn_broker.release.record_budget import RECORDS_PER_HOUR, RECORDS_PER_PROJECT, RecordBudget

HOUR = 3600


async def refused(call) -> Refused:
    with pytest.raises(Refused) as caught:
        await call
    return caught.value


def records(store, kind: str) -> list[dict]:
    return [one.record for one in store.audit_tail(1000) if one.record["kind"] == kind]


def test_one_project_cannot_use_up_what_all_have():
    budget = RecordBudget()
    assert sum(budget.admits("1", 0) for _ in range(1000)) == RECORDS_PER_PROJECT
    assert budget.admits("2", 0)
    assert sum(budget.admits(str(number), 0) for number in range(1000)) == RECORDS_PER_HOUR - RECORDS_PER_PROJECT - 1
    assert not budget.admits("new", HOUR - 1)
    assert budget.admits("1", HOUR)


async def test_refusals_beyond_the_budget_spend_the_challenge_and_are_counted(
    world, store, agreed, service, monkeypatch
):
    monkeypatch.setattr("mcbn_broker.release.record_budget.RECORDS_PER_PROJECT", 2)
    workload = world.workload(service, agreed)
    for _ in range(4):
        answer = await refused(workload.ask(dbgstat="enabled"))
        assert (answer.reason.code, answer.check) == ("appraisal_failed", "dbgstat")
        assert answer.refusal is not None
    challenge = await workload.challenge()
    await refused(workload.send(workload.request(challenge, dbgstat="enabled")))
    assert (await refused(workload.send(workload.request(challenge)))).reason.code == "challenge_used"
    assert len(records(store, "refusal")) == 2
    await service.keep_house()
    assert records(store, "rejected_summary")[-1]["counts"] == {
        "beyond_record_budget/appraisal_failed": 3,
        "beyond_record_budget/challenge_used": 1,
    }
    await workload.ask()
    world.clock.now += HOUR
    await refused(workload.ask(dbgstat="enabled"))
    assert len(records(store, "refusal")) == 3


async def test_a_refusals_record_keeps_three_checks_and_stays_small(world, store, agreed, service):
    big = "x" * 5000
    claims = dict.fromkeys(("dbgstat", "swname", "secboot", "hwmodel", "oemid", "swversion", "eat_profile"), big)
    alarm = {f"unknown_{number}_{big}": 1 for number in range(40)}
    await refused(world.workload(service, agreed).ask(**claims, **alarm))
    record = records(store, "refusal")[-1]
    assert len(record["failed_checks"]) == 3
    assert record["failed_checks_count"] == len(claims)
    assert len(json.dumps(record)) < 5000


async def test_unknown_claims_raise_an_alarm(world, store, agreed):
    alarms: list[tuple[str, ...]] = []
    service = world.service(store, on_unknown_claims=alarms.append)
    await world.workload(service, agreed).ask(new_claim="new")
    assert alarms == [("new_claim",)]
    record = records(store, "release")[-1]
    assert (record["unknown_claims"], record["unknown_claims_count"]) == (["new_claim"], 1)
    await world.workload(service, agreed).ask()
    assert len(alarms) == 1
    assert "unknown_claims" not in records(store, "release")[-1]
    await service.aclose()


async def test_unknown_claims_are_in_the_log_of_a_plain_service(world, agreed, service, capsys):
    await world.workload(service, agreed).ask(new_claim="new")
    shown = capsys.readouterr()
    assert "UNKNOWN CLAIMS" in shown.out + shown.err
    assert "new_claim" in shown.out + shown.err
