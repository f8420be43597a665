"""Collects the participants' signed audit heads, so that each broker can witness the others' chains."""

import asyncio
import logging
from collections.abc import Coroutine, Mapping
from typing import Final

from mcbn_protocol import limits
from mcbn_protocol.errors import ProtocolError
from mcbn_protocol.manifest import AgreedManifest
from mcbn_protocol.messages import AuditHead
from mcbn_protocol.roster import Roster
from mcbn_protocol.signatures import Envelope
from mcbn_workload.brokers.addresses import Connector
from mcbn_workload.brokers.http import JSON, NoAnswerError, exchange
from mcbn_workload.brokers.manifest import broker_address
from mcbn_workload.errors import ConfigurationError

_log: Final = logging.getLogger("mcbn.workload.brokers")

PATH: Final = "/v1/audit-head"


async def collect_heads(
    agreed: AgreedManifest, roster: Roster, connector: Connector, overrides: Mapping[str, str], seconds: float
) -> dict[str, Envelope]:
    """Ask every broker for its audit head at the same time. One that gives none is left out: nothing depends on it.

    Args:
        agreed: The manifest whose brokers are asked.
        roster: Whose release keys verify the heads.
        connector: Makes the HTTP clients.
        overrides: Broker URLs by participant, from the environment.
        seconds: The deadline of each request.

    Returns:
        The verified heads by participant.
    """

    async def ask(name: str) -> Envelope:
        address = broker_address(agreed.manifest, name, overrides)
        async with connector.client(address, insecure_http=agreed.manifest.insecure_http) as http:
            answer = await exchange(http, "GET", PATH, limit=limits.CARD_BYTES, seconds=seconds)
        envelope = Envelope.parse(answer.require(JSON), limit=limits.CARD_BYTES)
        if AuditHead.from_envelope(envelope, roster=roster).participant != name:
            raise NoAnswerError("the audit head of another participant", final=True)
        return envelope

    async with asyncio.TaskGroup() as group:
        tasks = {name: group.create_task(_or_none(name, ask(name))) for name in roster.names}
    heads = {name: task.result() for name, task in tasks.items()}
    return {name: head for name, head in heads.items() if head is not None}


async def _or_none(name: str, answer: Coroutine[None, None, Envelope]) -> Envelope | None:
    try:
        return await answer
    except (NoAnswerError, ProtocolError, ConfigurationError) as error:
        _log.debug("no audit head from %s: %s", name, error)
        return None
