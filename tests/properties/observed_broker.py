"""Alice's real broker beside its model: whatever is done is done to both, and each answer is held against the model."""

from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mcbn_broker.errors import CeremonyError
from mcbn_protocol.errors import ProtocolError
from mcbn_protocol.identifiers import ManifestHash, Role
from mcbn_protocol.manifest import AgreedManifest
from mcbn_protocol.messages import Challenge, ChallengeRequest, Problem, Refusal, Release, ReleaseRequest
from mcbn_protocol.sealing import RecipientKey, seal_info
from tests.properties import broker_model as model
from tests.properties.asgi import Answer
from tests.properties.property_lab import ALICE, CHALLENGE_SECONDS, Alice, Time, network, scratch_folder
from tests.properties.watched_audit import Chain

RECORDED_REFUSALS: Final = 60
"""So many refusals of one project get a record of their own in an hour, at least."""


@dataclass(frozen=True)
class Sent:
    """A release request: its message, the key that opens the answer, and what the model knows of it."""

    message: ReleaseRequest
    key: RecipientKey | None
    facts: model.Request


@dataclass(frozen=True)
class Backup:
    """A copy of the database, and what the model says is in it."""

    file: Path
    content: model.Database


class ObservedBroker:
    """One broker and its model. `seen` counts what came of requests."""

    def __init__(self, seen: Counter[str]) -> None:
        self.time = Time()
        self.seen = seen
        self.alice = Alice(scratch_folder(), self.time)
        self.alice.start()
        self.model = model.Model()
        self.agreed: dict[bytes, AgreedManifest] = {}
        self.released: set[tuple[int, bytes]] = set()
        self.next_epoch = 2
        self.model.make_share(1)
        self.model.accept(self.know(network().first), self.now)
        self.chain = Chain(self.alice)
        self._note_end()

    @property
    def now(self) -> int:
        return self.time.now

    def know(self, agreed: AgreedManifest) -> model.Terms:
        """Remember a manifest, and return the model's view of it."""
        self.agreed[agreed.hash] = agreed
        manifest = agreed.manifest
        return model.Terms(
            name=agreed.hash,
            epoch=manifest.epoch,
            previous=manifest.previous,
            valid_from=manifest.valid_from,
            valid_until=manifest.valid_until,
            overlap=manifest.overlap_seconds,
            instances=manifest.roles[Role.CLIENT].instances,
            lease=manifest.lease_seconds,
            kems=tuple(kem.value for kem in manifest.kems),
        )

    def check(self) -> None:
        """Check what holds at every moment."""
        self.chain.check_consent()
        assert {(number, value) for number, value, _ in self.chain.of_kind("release")} <= self.released
        assert self.alice.consent() == ("allowed" if self.model.database.allowed else "paused")

    # -- requests

    async def challenge(self, role: Role, terms: model.Terms) -> tuple[Answer, model.Issued | None]:
        """Ask for a challenge, as anybody may."""
        asked = ChallengeRequest(role, ManifestHash(terms.name))
        answer = await self.alice.post("/v1/challenges", asked.to_bytes())
        reason = self.model.serving(terms, self.now)
        if reason is not None:
            assert answer.status != 200, f"a challenge in spite of {reason}"
            problem = Problem.parse(answer.body)
            assert (problem.reason.code, answer.status) == (reason, problem.reason.status)
            return answer, None
        issued = Challenge.parse(answer.body)
        assert issued.expires_at == self.now + CHALLENGE_SECONDS
        return answer, model.Issued(
            issued.challenge, self.model.database.life, role.value, terms.name, issued.expires_at
        )

    async def send(self, sent: Sent, meanwhile: Callable[[], Awaitable[None]] | None = None) -> Answer:
        """Send a release request, and check all that its answer must be.

        Args:
            sent: The request.
            meanwhile: What happens after the token was verified, and before the broker decides.
        """
        now, before, facts = self.now, self.chain.end, sent.facts
        early, paused = self.model.before_signature(facts, now), not self.model.database.allowed
        interruption = _Once(meanwhile)
        self.alice.verifier.meanwhile = interruption if meanwhile is not None else None
        answer = await self.alice.post("/v1/releases", sent.message.to_bytes())
        self.alice.verifier.meanwhile = None
        interruption.check()
        self._note_end()
        if early:
            assert not interruption.ran
            assert self.chain.end == before, "what fails before the signature leaves no record"
            self._refused(answer, sent, early)
            return answer
        late = self.model.after_signature(facts, now) | self.model.unserved(facts.terms, now)
        late |= {"consent_paused"} if paused else set()
        if "challenge_used" in late:
            late = {"challenge_used"}
        self.model.spend(facts)
        if late:
            self._refused(answer, sent, late)
            self._recorded(answer)
        else:
            self._released(answer, sent, now)
        return answer

    def _refused(self, answer: Answer, sent: Sent, reasons: set[str]) -> None:
        assert answer.status != 200, f"released in spite of {reasons}"
        problem = Problem.parse(answer.body)
        assert problem.reason.code in reasons, f"{problem.reason.code} instead of one of {reasons}"
        assert answer.status == problem.reason.status
        self.seen[problem.reason.code] += 1
        if problem.unverified_refusal is None:
            assert problem.reason.code == "challenge_not_issued"
            return
        roster, message = network().roster, sent.message
        refusal = Refusal.from_envelope(problem.unverified_refusal, participant=ALICE, roster=roster)
        assert (refusal.reason, refusal.challenge) == (problem.reason, message.challenge)
        assert refusal.binding == message.binding(roster.hash, ALICE)

    def _recorded(self, answer: Answer) -> None:
        told = answer.headers["x-correlation-id"]
        refusals = self.chain.of_kind("refusal")
        mine = [one for _, _, one in refusals if one["correlation_id"] == told]
        assert len(mine) == 1 or len(refusals) >= RECORDED_REFUSALS

    def _released(self, answer: Answer, sent: Sent, now: int) -> None:
        assert answer.status == 200, f"refused for no reason: {answer.body!r}"
        roster, message, facts = network().roster, sent.message, sent.facts
        release = Release.parse(answer.body, participant=ALICE, roster=roster)
        recorded_hash, record = self.chain.records[release.audit_sequence]
        assert (record["kind"], recorded_hash) == ("release", release.audit_hash)
        assert record["challenge"] == message.challenge
        seconds = self.model.release(facts, now)
        said = (release.epoch, release.manifest_hash, release.role, release.kem, release.issued_at)
        assert said == (facts.terms.epoch, facts.terms.name, message.role, message.kem, now)
        assert release.lease_seconds == record["lease_seconds"] == seconds
        assert release.binding == message.binding(roster.hash, ALICE)
        if sent.key is not None:
            info = seal_info(release.binding, release.epoch, roster.share_index(ALICE))
            share = sent.key.open(release.sealed_share, info=info).reveal()
            assert share not in answer.body
        self.released.add((release.audit_sequence, release.audit_hash))
        self.seen["released"] += 1

    # -- the participant

    def pause(self) -> None:
        self.alice.store.pause()
        self.model.database.allowed = False
        self._note_end()

    def allow(self) -> None:
        self.alice.store.allow()
        self.model.database.allowed = True
        self._note_end()

    def draft(self, **terms: Any) -> bytes:
        """Make the share and the signed manifest of the next epoch."""
        commitment = self.alice.store.new_share(self.next_epoch).commitment
        self.model.make_share(self.next_epoch)
        self._note_end()
        accepted = self.model.database.accepted
        previous = ManifestHash(accepted[max(accepted)].name if accepted else bytes(32))
        members = {"previous": previous} | terms
        manifest = network().manifest(self.next_epoch, commitment_of_alice=commitment, **members)
        return network().bundle(manifest.to_payload())

    def accept(self, bundle: bytes) -> AgreedManifest:
        """Accept a fresh manifest that follows."""
        agreed = self.alice.store.accept_manifest(bundle)
        terms = self.know(agreed)
        assert self.model.acceptable(terms, self.now)
        self.next_epoch = agreed.manifest.epoch + 1
        self.model.accept(terms, self.now)
        self._note_end()
        return agreed

    def accept_again(self, terms: model.Terms) -> None:
        """Accept a manifest of any age: it may be there already, may come back, or must be refused."""
        there = terms in self.model.database.accepted.values()
        may = self.model.acceptable(terms, self.now)
        try:
            self.alice.store.accept_manifest(self.agreed[terms.name].bundle)
        except CeremonyError:
            assert not there
            assert not may
            return
        assert there or may
        if may:
            self.model.accept(terms, self.now)
        self.model.retire(self.now)
        self._note_end()

    def refuse(self, bundle: bytes) -> None:
        """Accept what must not be accepted."""
        try:
            self.alice.store.accept_manifest(bundle)
        except (CeremonyError, ProtocolError):
            self._note_end()
        else:
            raise AssertionError("a manifest was accepted that must not be")

    # -- the machine under it

    async def tidy(self) -> None:
        await self.alice.service.keep_house()
        self.model.tidy(self.now)
        self._note_end()

    async def restart(self) -> None:
        await self._stop()
        self.alice.release_file()
        self.alice.start()
        self._note_end()

    async def _stop(self) -> None:
        await self.alice.stop()
        self.model.tidy(self.now)
        self._note_end()

    def back_up(self) -> Backup:
        return Backup(self.alice.backup(), self.model.copy())

    async def restore(self, backup: Backup | None, *, lose_anchor: bool) -> None:
        """Replace the database by a backup, or by nothing."""
        await self._stop()
        spent = self.model.ever_spent
        begun = self.model.put_back(None if backup is None else backup.content, anchor_lost=lose_anchor)
        self.alice.release_file()
        self.alice.replace_database(None if backup is None else backup.file, lose_anchor=lose_anchor)
        self.alice.start()
        assert (self.alice.store.opened.new_incarnation is not None) == begun
        self.seen["new life" if begun else "same life"] += 1
        self.chain.reread()
        assert spent == self.model.ever_spent or len(self.chain.of_kind("refusal")) >= RECORDED_REFUSALS
        self._note_end()

    async def end(self) -> None:
        self.alice.store.verify_audit()  # the product's own verification agrees
        await self.alice.stop()
        self.alice.release_file()
        self.alice.discard()

    def _note_end(self) -> None:
        self.chain.catch_up()
        self.model.database.sequence = self.chain.end


class _Once:
    """Runs an action, and keeps its error: between the two lies a broker that turns every error into an answer."""

    def __init__(self, action: Callable[[], Awaitable[None]] | None) -> None:
        self._action = action
        self._error: Exception | None = None
        self.ran = False

    async def __call__(self) -> None:
        assert self._action is not None
        self.ran = True
        try:
            await self._action()
        except Exception as error:
            self._error = error
            raise

    def check(self) -> None:
        """Raise what the action raised."""
        if self._error is not None:
            raise self._error
