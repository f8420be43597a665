"""The shipped workload asks Alice, and Frank keeps what it is told."""

from typing import Any

import httpx

from mcbn_broker.audit.chain import AuditKind
from mcbn_workload.brokers.quorum import Gathering
from tests.attacks.lab_brokers import Lab

CHALLENGES = "/v1/challenges"
RELEASES = "/v1/releases"


async def gather(lab: Lab, **machine: Any) -> Gathering:
    """Let the shipped workload ask Alice alone."""
    gatherer = lab.gatherer(**machine)
    return await gatherer.gather(lab.agreed, ["alice"], lambda _row, _outcome: None)


def nothing_but_rejections(lab: Lab) -> None:
    """Check that the audit has neither a release nor a decision: what failed before the signature is only counted."""
    assert not lab.alice.records(AuditKind.RELEASE)
    assert not lab.alice.records(AuditKind.REFUSAL)


async def gather_recording(lab: Lab, told: dict[str, bytes], name: str = "alice") -> None:
    """Let a genuine workload ask, and keep a copy of what it is told, by path."""

    async def record(request: httpx.Request) -> httpx.Response | None:
        answer = await lab.road.deliver(request)
        told[request.url.path] = await answer.aread()
        return httpx.Response(
            answer.status_code, headers=answer.headers, stream=httpx.ByteStream(told[request.url.path])
        )

    lab.road.meddle = record
    await lab.gatherer().gather(lab.agreed, [name], lambda _row, _outcome: None)
    lab.road.meddle = None
