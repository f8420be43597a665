"""The rules of the state machine: everything that workloads, participants and operators do, in any order."""

import asyncio
import os
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, ClassVar, Final

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, precondition, rule

from mcbn_protocol.binding import audience
from mcbn_protocol.identifiers import ManifestHash, Role
from mcbn_protocol.manifest import AgreedManifest, RoleTerms
from mcbn_protocol.sealing import Kem, RecipientKey
from mcbn_protocol.signatures import Envelope, Label, join, sign
from tests.properties import broker_model as model
from tests.properties.fellow_brokers import OUTCOMES
from tests.properties.gathering import Gatherings
from tests.properties.observed_broker import Backup, ObservedBroker, Sent
from tests.properties.property_lab import ALICE, machine, network, prepare

EPOCHS_MAX: Final = 8
"""A broker verifies all manifests that it ever accepted whenever it accepts one."""

BACKWARDS_MAX: Final = 3000
"""Seconds that the clock may go back: less than the hour for which a used challenge outlives its expiry."""

INAUTHENTIC: Final = ("another key", "a forged key id", "another audience", "another recipient key")
NOT_AGREED: Final = ("another image", "a debug image")
WRONG_TOKENS: Final = INAUTHENTIC + NOT_AGREED
AGES: Final = (-61, -60, 299, 300, 301, 4000)
MEANWHILE: Final = ("a pause", "an allowance", "a twin", "a revocation", "a minute")
KEMS: Final = {"x25519": (Kem.X25519,), "both": (Kem.MLKEM768_X25519, Kem.X25519)}

roles = st.sampled_from(Role)
instances = st.sampled_from((1, 1, 1, 2, 3))


class ConsentMachine(RuleBasedStateMachine):
    """One broker, its participant, several workloads, two fellow brokers, and whoever owns the disk and the clock."""

    steps: ClassVar[int] = 0
    seen: ClassVar[Counter[str]] = Counter()

    manifests = Bundle("manifests")
    challenges = Bundle("challenges")
    requests = Bundle("requests")
    backups = Bundle("backups")

    def __init__(self) -> None:
        super().__init__()
        self._runner = asyncio.Runner()
        self.broker = ObservedBroker(self.seen)
        self.gatherings = Gatherings(self.broker)
        self._latest = self.broker.now

    def run(self, awaitable: Any) -> Any:
        return self._runner.run(awaitable)

    def teardown(self) -> None:
        self.run(self.broker.end())
        self._runner.close()

    @invariant()
    def what_must_stay_true(self) -> None:
        type(self).steps += 1
        self.broker.check()
        self.gatherings.check()

    @initialize(target=manifests, allowed=st.sampled_from((True, True, True, False)))
    def begin(self, allowed: bool) -> model.Terms:
        if allowed:
            self.broker.allow()
        return self.broker.know(network().first)

    # -- workloads

    def _newest(self) -> model.Terms | None:
        served = [one for one in self.broker.model.database.may_serve() if self._serves(one)]
        return max(served, key=lambda one: one.epoch, default=None)

    def _serves(self, terms: model.Terms) -> bool:
        return self.broker.model.serving(terms, self.broker.now) is None

    @rule(target=challenges, terms=manifests, role=roles)
    def ask_for_a_challenge(self, terms: model.Terms, role: Role) -> Any:
        _, issued = self.run(self.broker.challenge(role, terms))
        return multiple() if issued is None else issued

    @rule(target=requests, role=roles, instance=instances)
    def ask_for_a_release(self, role: Role, instance: int) -> Any:
        return self._ask(role, instance)

    @rule(role=roles, fleet=st.permutations((1, 2, 3, 4)))
    def ask_for_a_fleet(self, role: Role, fleet: list[int]) -> None:
        for instance in fleet:
            self._ask(role, instance)

    @rule(target=requests, sent=requests)
    def renew(self, sent: Sent) -> Any:
        return self._ask(Role(sent.facts.role), sent.facts.instance)

    @rule(target=requests, role=roles, token=st.sampled_from(WRONG_TOKENS))
    def ask_with_a_wrong_token(self, role: Role, token: str) -> Any:
        return self._ask(role, 1, token=token)

    @rule(target=requests, role=roles, age=st.sampled_from(AGES))
    def ask_with_an_old_or_early_token(self, role: Role, age: int) -> Any:
        return self._ask(role, 1, age=age)

    @rule(target=requests, role=roles, instance=instances, meanwhile=st.sampled_from(MEANWHILE))
    def ask_while_something_happens(self, role: Role, instance: int, meanwhile: str) -> Any:
        return self._ask(role, instance, meanwhile=meanwhile)

    def _ask(
        self, role: Role, instance: int, *, token: str = "right", age: int = 0, meanwhile: str | None = None
    ) -> Any:
        terms = self._newest()
        if terms is None:
            return multiple()
        _, issued = self.run(self.broker.challenge(role, terms))
        sent = self._prepare(issued, terms, role, instance, token=token, age=age, kem=Kem(terms.kems[-1]))
        self.run(self.broker.send(sent, self._interruption(meanwhile, sent)))
        return sent

    @rule(
        target=requests, issued=challenges, terms=manifests, role=roles, instance=instances,
        token=st.sampled_from(("right", *WRONG_TOKENS)), kem=st.sampled_from(Kem),
    )  # fmt: skip
    def answer_a_challenge(
        self, *, issued: model.Issued, terms: model.Terms, role: Role, instance: int, token: str, kem: Kem
    ) -> Sent:
        sent = self._prepare(issued, terms, role, instance, token=token, age=0, kem=kem)
        self.run(self.broker.send(sent))
        return sent

    @rule(sent=requests)
    def repeat_a_request(self, sent: Sent) -> None:
        self.run(self.broker.send(sent))

    @rule(issued=challenges, other=requests)
    def use_evidence_of_another_request(self, issued: model.Issued, other: Sent) -> None:
        message = replace(other.message, challenge=issued.text)
        same = issued.text == other.facts.challenge.text
        facts = replace(other.facts, challenge=issued, token_is_authentic=same and other.facts.token_is_authentic)
        self.run(self.broker.send(Sent(message, other.key, facts)))

    def _prepare(
        self, issued: model.Issued, terms: model.Terms, role: Role, instance: int, *, token: str, age: int, kem: Kem
    ) -> Sent:
        vm = machine(next(one for one in Role if one is not role) if token == "another image" else role, instance)
        if token == "a debug image":
            vm = replace(vm, debug=True)
        moment = self.broker.now - age
        asked = prepare(issued.text, role, ManifestHash(terms.name), vm=vm, now=moment, kem=kem)
        message = asked.with_token(self._token(token, asked.claims, asked.request.unverified_token))
        if token == "another recipient key":
            message = replace(message, recipient_key=RecipientKey.from_seed(kem, os.urandom(32)).public_bytes)
        facts = model.Request(
            challenge=issued,
            role=role.value,
            terms=terms,
            instance=instance,
            kem=kem.value,
            token_is_authentic=token not in INAUTHENTIC,
            token_issued_at=moment,
            workload_is_agreed=token not in NOT_AGREED,
        )
        return Sent(message, asked.key, facts)

    @staticmethod
    def _token(kind: str, claims: dict[str, Any], right: str) -> str:
        if kind == "another audience":
            return network().signed(claims | {"aud": audience(network().roster.hash, "bob")})
        if kind == "another key":
            return network().signed(claims, by=network().stranger)
        if kind == "a forged key id":
            return network().signed(claims, by=network().stranger, key_id=network().signer.kid)
        return right

    def _interruption(self, kind: str | None, sent: Sent) -> Callable[[], Awaitable[None]] | None:
        async def twin() -> None:
            await self.broker.send(sent)

        async def pause() -> None:
            self.broker.pause()

        async def allow() -> None:
            self.broker.allow()

        async def revoke() -> None:
            self.broker.accept(self.broker.draft(valid_from=self.broker.now, overlap_seconds=0))

        async def minute() -> None:
            self.let_time_pass(61)

        actions = dict(zip(MEANWHILE, (pause, allow, twin, revoke, minute), strict=True))
        return None if kind is None else actions[kind]

    @rule(terms=manifests, role=roles, instance=instances)
    def gather(self, terms: model.Terms, role: Role, instance: int) -> None:
        self._gather(terms, role, instance, "nothing")

    @rule(terms=manifests, role=roles, instance=instances, lie=st.sampled_from(tuple(OUTCOMES)))
    def gather_while_carol_lies(self, terms: model.Terms, role: Role, instance: int, lie: str) -> None:
        self._gather(terms, role, instance, lie)

    def _gather(self, terms: model.Terms, role: Role, instance: int, lie: str) -> None:
        self.run(self.gatherings.gather(self._newest() or terms, role, instance, lie))

    # -- the participant

    @rule()
    def pause(self) -> None:
        self.broker.pause()

    @rule()
    def allow(self) -> None:
        self.broker.allow()

    @precondition(lambda self: self.broker.next_epoch <= EPOCHS_MAX)
    @rule(
        target=manifests, overlap=st.sampled_from((0, 0, 50, 1000)), delay=st.sampled_from((-100, 0, 0, 40)),
        validity=st.sampled_from((1100, 5000, 1_000_000)), number=st.integers(1, 3),
        lease=st.sampled_from((5, 60, 1000)), kems=st.sampled_from(tuple(KEMS)),
    )  # fmt: skip
    def agree_on_the_next_epoch(
        self, *, overlap: int, delay: int, validity: int, number: int, lease: int, kems: str
    ) -> model.Terms:
        first = network().first.manifest.roles
        begin = self.broker.now + delay
        bundle = self.broker.draft(
            overlap_seconds=overlap,
            valid_from=begin,
            valid_until=begin + validity,
            roles={role: RoleTerms(number, first[role].evidence) for role in Role},
            lease_seconds=lease,
            kems=KEMS[kems],
        )
        return self.broker.know(self.broker.accept(bundle))

    @rule(terms=manifests)
    def accept_a_manifest_again(self, terms: model.Terms) -> None:
        self.broker.accept_again(terms)

    @rule(fault=st.sampled_from(("unsigned", "a stranger's", "repeated", "not ours", "over")))
    def be_offered_a_wrong_manifest(self, fault: str) -> None:
        self.broker.refuse(self._resigned(self.broker.draft(**self._wrong_terms(fault)), fault))

    def _wrong_terms(self, fault: str) -> dict[str, Any]:
        now = self.broker.now
        if fault == "over":
            return {"valid_from": now - 100, "valid_until": now}
        fresh = AgreedManifest.parse(self.broker.draft(), network().roster).manifest.commitments
        if fault == "not ours":
            return {"commitments": {**fresh, ALICE: os.urandom(32)}}
        if fault == "repeated":
            known = [self.broker.agreed[one.name] for one in self.broker.model.database.accepted.values()]
            spent = known[-1].manifest.commitments["bob"] if known else bytes(32)
            return {"commitments": {**fresh, "bob" if known else ALICE: spent}}
        return {}

    @staticmethod
    def _resigned(bundle: bytes, fault: str) -> bytes:
        envelope = Envelope.parse(bundle, limit=1 << 20)
        if fault == "unsigned":
            return envelope.signed_by(*envelope.signatures[:-1]).to_bytes()
        if fault == "a stranger's":
            key, roster = network().release_keys["carol"], network().roster
            false = sign(key, "carol", Label.MANIFEST, roster.hash, envelope.payload)
            return join([envelope.signed_by(*envelope.signatures[:-1]), false]).to_bytes()
        return bundle

    # -- whoever owns the machine

    @rule(seconds=st.sampled_from((1, 20, 61, 119, 121, 301, 1001, 5000)))
    def let_time_pass(self, seconds: int) -> None:
        self.broker.time.now += seconds
        self._latest = max(self._latest, self.broker.now)

    @rule(seconds=st.sampled_from((1, 61, 700)))
    def set_the_clock_back(self, seconds: int) -> None:
        self.broker.time.now = max(self.broker.now - seconds, self._latest - BACKWARDS_MAX)

    @rule()
    def restart(self) -> None:
        self.run(self.broker.restart())

    @rule()
    def keep_house(self) -> None:
        self.run(self.broker.tidy())

    @rule(target=backups)
    def back_up(self) -> Backup:
        return self.broker.back_up()

    @rule(backup=backups, lose_anchor=st.booleans())
    def restore(self, backup: Backup, lose_anchor: bool) -> None:
        self.run(self.broker.restore(backup, lose_anchor=lose_anchor))

    @rule(sure=st.sampled_from((False, False, False, True)))
    def lose_the_database(self, sure: bool) -> None:
        if sure:
            self.run(self.broker.restore(None, lose_anchor=False))
