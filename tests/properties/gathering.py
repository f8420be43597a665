"""A workload's real gathering from three brokers: Alice's real one, Bob's honest one, and Carol's, which may lie."""

import os

import httpx
import pytest

from mcbn_protocol.identifiers import Role
from mcbn_protocol.manifest import BrokerAddress
from mcbn_protocol.messages import ReleaseRequest
from mcbn_simulator.claims import claims_for
from mcbn_workload.attester import TokenKind
from mcbn_workload.brokers.addresses import Connector
from mcbn_workload.brokers.client import Terms
from mcbn_workload.brokers.errors import QuorumIncompleteError
from mcbn_workload.brokers.leases import Clock
from mcbn_workload.brokers.outcomes import Outcome, Row
from mcbn_workload.brokers.quorum import Gathering, Patience, Quorum
from mcbn_workload.epoch_keys.epoch import EpochKeys
from tests.properties import broker_model as model
from tests.properties.fellow_brokers import OUTCOMES, FellowBroker
from tests.properties.observed_broker import ObservedBroker, Sent
from tests.properties.property_lab import ALICE, ISSUER, NAMES, machine, network

SHAPED_TOKEN = "e30.e30.c2ln"


class _Road(httpx.AsyncBaseTransport):
    """Carries one workload's requests to the three brokers, and lets the model watch Alice's."""

    def __init__(self, gatherings: "Gatherings", terms: model.Terms, role: Role, instance: int) -> None:
        self._gatherings = gatherings
        self._broker = gatherings.broker
        self._facts = (terms, role, instance)
        self._issued: model.Issued | None = None
        self.outcome_of_alice = "no_valid_answer"

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await request.aread()
        name = request.url.host.partition(".")[0]
        if name != ALICE:
            return self._gatherings.fellows[name].answer(request, self._broker.agreed[self._facts[0].name])
        terms, role, _ = self._facts
        if request.url.path == "/v1/challenges":
            answer, self._issued = await self._broker.challenge(role, terms)
        else:
            answer = await self._broker.send(self._sent(request.content))
            self.outcome_of_alice = "released" if answer.status == 200 else "refused"
        return httpx.Response(answer.status, headers=dict(answer.headers), stream=httpx.ByteStream(answer.body))

    def _sent(self, body: bytes) -> Sent:
        message = ReleaseRequest.parse(body)
        terms, role, instance = self._facts
        assert self._issued is not None
        facts = model.Request(
            challenge=self._issued,
            role=role.value,
            terms=terms,
            instance=instance,
            kem=message.kem.value,
            token_is_authentic=True,
            token_issued_at=self._broker.now,
            workload_is_agreed=True,
        )
        return Sent(message, None, facts)


class _RoadConnector(Connector):
    def __init__(self, road: _Road) -> None:
        super().__init__()
        self._road = road

    def transport(self, address: BrokerAddress) -> httpx.AsyncBaseTransport:
        return self._road


class _Launcher:
    """Gives one VM's tokens; the fellow brokers look at none."""

    def __init__(self, broker: ObservedBroker, role: Role, instance: int) -> None:
        self._now = broker.now
        self._machine = machine(role, instance)

    async def token(self, kind: TokenKind, audience: str, nonces: tuple[str, ...]) -> str:
        if audience != network().audience:
            return SHAPED_TOKEN
        claims = claims_for(self._machine, issuer=ISSUER, audience=audience, nonces=nonces, now=self._now)
        return network().signed(claims)


class Gatherings:
    """All gatherings of one network. Of each epoch the first complete one says what the keys are."""

    def __init__(self, broker: ObservedBroker) -> None:
        self.broker = broker
        self.fellows = {name: FellowBroker(name, broker.time) for name in NAMES if name != ALICE}
        self._key_checks: dict[bytes, str] = {}
        self._held: list[tuple[EpochKeys, float]] = []

    def check(self) -> None:
        """Keys live exactly as long as each lease under which they were gathered: a pause ends them so."""
        now = self.broker.time()
        for keys, end in self._held:
            assert (keys.remaining() > 0) is (now < end)

    async def gather(self, terms: model.Terms, role: Role, instance: int, lie: str) -> None:
        """Gather for one workload while Carol tells a lie, and check who is said to have done what."""
        carol = self.fellows["carol"]
        carol.lie = lie if lie != "a replayed release" or carol.can_replay else "nothing"
        road = _Road(self, terms, role, instance)
        gathering = await self._quorum(terms, role, instance, road).gather(NAMES, _ignore)
        outcomes = {row.participant: row.outcome for row in gathering.rows}
        expected = {ALICE: road.outcome_of_alice, "bob": "released", "carol": OUTCOMES[carol.lie]}
        assert outcomes == expected
        self.broker.seen[f"carol: {outcomes['carol']}"] += 1
        self._check_keys(gathering, terms, [name for name, outcome in expected.items() if outcome != "released"])

    def _quorum(self, terms: model.Terms, role: Role, instance: int, road: _Road) -> Quorum:
        gathering_terms = Terms(
            roster=network().roster,
            agreed=self.broker.agreed[terms.name],
            role=role,
            attester=_Launcher(self.broker, role, instance),
            clock=Clock(boottime=self.broker.time, wall=self.broker.time),
            random=os.urandom,
            request_seconds=60,
            heads={},
        )
        once = Patience(gather_seconds=60, jitter=lambda: 1000.0)  # the first pause would outlast the gathering
        return Quorum(gathering_terms, _RoadConnector(road), once, {})

    def _check_keys(self, gathering: Gathering, terms: model.Terms, missing: list[str]) -> None:
        clock = Clock(boottime=self.broker.time, wall=self.broker.time)
        if missing:
            with pytest.raises(QuorumIncompleteError) as caught:
                EpochKeys(gathering, clock)
            assert all(name in str(caught.value) for name in missing)
            return
        for name, one in gathering.released.items():
            share = self.broker.alice.store.terms().shares.get(terms.epoch) if name == ALICE else None
            expected = share or network().share(name, terms.epoch)
            assert one.share == expected
        keys = EpochKeys(gathering, clock)
        assert self._key_checks.setdefault(terms.name, keys.key_check) == keys.key_check
        leases = [one.lease.seconds for one in gathering.released.values()]
        assert max(leases) <= terms.lease
        self._held.append((keys, self.broker.time() + min(leases)))
        self.broker.seen["complete"] += 1


def _ignore(_row: Row, _outcome: Outcome) -> None:
    return None
