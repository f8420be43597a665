"""The release service: the numbered security steps between a request and a signed release."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mcbn_broker.appraisal import Policy, appraise
from mcbn_broker.attestation.anchors import TrustAnchors
from mcbn_broker.attestation.errors import KeysUnavailable, NotAuthentic
from mcbn_broker.attestation.result import AttestationResult
from mcbn_broker.attestation.verifier import Verifier
from mcbn_broker.errors import BrokerError, Refused
from mcbn_broker.keystore.home import ChallengeKey
from mcbn_broker.release.challenges import ChallengeContext, Challenges, IssuedChallenge
from mcbn_broker.release.consent import ConsentState
from mcbn_broker.release.facts import alarming_claims, failed_checks, request_facts, workload_facts
from mcbn_broker.release.manifests import ManifestState, manifest_state
from mcbn_broker.release.record_budget import RecordBudget
from mcbn_broker.release.rejections import Rejections, record_rejections
from mcbn_broker.release.settlement import Declined, Proposal, Settled, check_consent, find_serving, settle
from mcbn_broker.release.signing import Signer
from mcbn_broker.release.stores import Ledger, ReleaseStore, Terms
from mcbn_broker.release.witness import witness
from mcbn_broker.telemetry.logs import logger
from mcbn_protocol.binding import audience, nonces
from mcbn_protocol.encoding import JsonObject
from mcbn_protocol.errors import SealError
from mcbn_protocol.identifiers import ManifestHash, Role
from mcbn_protocol.manifest import AgreedManifest
from mcbn_protocol.messages import Challenge, ChallengeRequest, ReleaseRequest
from mcbn_protocol.reference_values import ConfidentialSpaceReference
from mcbn_protocol.refusals import REFUSAL_CODES
from mcbn_protocol.roster import Roster
from mcbn_protocol.sealing import seal, seal_info
from mcbn_protocol.shares import Share
from mcbn_protocol.signatures import Envelope

HOUSEKEEPING_SECONDS: Final = 60
STORAGE_RETRY_SECONDS: Final = 5
BEYOND_BUDGET: Final = "beyond_record_budget"
"""Under this the audit's summary counts refusals after a good signature that got no record of their own."""


def warn_of_unknown_claims(names: Sequence[str]) -> None:
    """Log that a genuine token says something that this program does not know."""
    logger().warning(
        "UNKNOWN CLAIMS",
        **alarming_claims(names),
        next_step="look up what they mean; if one changes what runs, pause, and update this program",
    )


@dataclass(frozen=True)
class Readiness:
    """Whether the store can be read, which epoch is current (None: none is), and the participant's decision."""

    store: bool
    epoch: int | None
    consent: ConsentState | None


@dataclass(frozen=True)
class _Asked:
    """A request whose challenge is ours and in time."""

    request: ReleaseRequest
    issued: IssuedChallenge
    agreed: AgreedManifest
    share: Share
    binding: bytes
    facts: JsonObject
    now: int


class ReleaseService:
    """Answers workloads. One reference time for each request; every doubt is a refusal.

    Args:
        participant: Whose broker this is.
        roster: The adopted roster.
        release_key: Signs releases, refusals and audit heads.
        challenge_key: Keys the challenges' MAC.
        store: Read outside of transactions.
        ledger: Decides and records in transactions.
        verifier: Verifies attestation tokens.
        policy: Returns the participant's present appraisal policy.
        clock: Unix seconds.
        random: Gives that many random bytes.
        challenge_seconds: How long a challenge lives.
        on_unknown_claims: Raises the alarm for claims of a genuine token that this program does not know, by path.
    """

    def __init__(
        self,
        *,
        participant: str,
        roster: Roster,
        release_key: Ed25519PrivateKey,
        challenge_key: ChallengeKey,
        store: ReleaseStore,
        ledger: Ledger,
        verifier: Verifier,
        policy: Callable[[], Policy],
        clock: Callable[[], int],
        random: Callable[[int], bytes],
        challenge_seconds: int,
        on_unknown_claims: Callable[[Sequence[str]], None] = warn_of_unknown_claims,
    ) -> None:
        self._participant = participant
        self._roster = roster
        self._share_index = roster.share_index(participant)
        self._signer = Signer(participant, roster, release_key)
        self._audience = audience(roster.hash, participant)
        self._challenges = Challenges(challenge_key, random)
        self._store = store
        self._ledger = ledger
        self._verifier = verifier
        self._policy = policy
        self._clock = clock
        self._challenge_seconds = challenge_seconds
        self._rejections = Rejections()
        self._budget = RecordBudget()
        self._on_unknown_claims = on_unknown_claims

    async def challenge(self, request: ChallengeRequest) -> Challenge:
        """Issue a challenge for a role of a manifest that is served now.

        Raises:
            Refused: Unsigned, because there is no challenge to sign over.
        """
        now = self._clock()
        try:
            terms = self._terms()
            find_serving(terms, request.manifest_hash, now)
        except Refused as refused:
            self._count(refused)
            raise
        context = self._context(terms, request.role, request.manifest_hash)
        return self._challenges.issue(context, expires_at=now + self._challenge_seconds)

    async def release(self, request: ReleaseRequest, *, correlation_id: str) -> Envelope:
        """Release the share, sealed and signed, once the record of it is durable.

        Raises:
            Refused: Signed from step 2 on. Before a good signature (step 4) it spends nothing and is counted only;
                afterwards the challenge is spent, and the audit has the full reason.
        """
        now = self._clock()
        terms = self._terms()
        issued = self._recognise(request, terms)  # step 1
        try:
            proposal = await self._examine(request, issued, terms, now, correlation_id)  # steps 2 to 8
            settled = await self._settle(proposal)  # step 9
        except Refused as refused:
            self._count(refused)
            raise self._signer.refusal(refused, request, now=now, correlation_id=correlation_id) from refused
        if isinstance(settled, Declined):
            if not settled.recorded:
                self._rejections.count(BEYOND_BUDGET, settled.refused.reason.code)
            raise self._signer.refusal(settled.refused, request, now=now, correlation_id=correlation_id)
        return self._signer.release(request, proposal, settled)  # step 10: signed, with its place in the audit

    def _recognise(self, request: ReleaseRequest, terms: Terms) -> IssuedChallenge:
        """Step 1: the challenge is ours, for this incarnation, role and manifest."""
        try:
            context = self._context(terms, request.role, request.manifest_hash)
            return self._challenges.recognise(request.challenge, context)
        except Refused as refused:
            self._count(refused)
            raise

    async def _examine(
        self, request: ReleaseRequest, issued: IssuedChallenge, terms: Terms, now: int, correlation_id: str
    ) -> Proposal:
        asked = self._admit(request, issued, terms, now, correlation_id)  # steps 2, 3
        result = await self._verify(asked)  # step 4
        facts = asked.facts | workload_facts(result)
        refused, sealed_share = None, b""
        try:
            facts.update(self._witness(request))  # step 5
            self._appraise(asked, result, facts)  # step 6
            check_consent(terms.consent)  # step 7
            sealed_share = self._seal(asked)  # step 8
        except Refused as no:  # after a good signature: the transaction spends the challenge and records why
            refused = no
        return Proposal(
            agreed=asked.agreed,
            role=request.role,
            challenge=issued,
            binding=asked.binding,
            instance_id=result.instance_id,
            facts=facts,
            sealed_share=sealed_share,
            now=now,
            refused=refused,
        )

    def _admit(
        self, request: ReleaseRequest, issued: IssuedChallenge, terms: Terms, now: int, correlation_id: str
    ) -> _Asked:
        if now >= issued.expires_at:  # step 2: the challenge has not expired
            detail = f"it expired {now - issued.expires_at} s ago"
            raise Refused(REFUSAL_CODES["challenge_expired"], detail=detail)
        agreed = find_serving(terms, request.manifest_hash, now)  # step 3: served now; admits KEM and evidence
        if request.kem not in agreed.manifest.kems or not _references(agreed, request):
            raise Refused(REFUSAL_CODES["not_in_manifest"], detail=f"{request.kem}, {request.kind}")
        share = terms.shares.get(agreed.manifest.epoch)
        if share is None:
            raise Refused(REFUSAL_CODES["internal"], detail="the key of this epoch's share is gone")
        binding = request.binding(self._roster.hash, self._participant)
        facts = request_facts(request, agreed, binding=binding, correlation_id=correlation_id)
        return _Asked(request, issued, agreed, share, binding, facts, now)

    async def _verify(self, asked: _Asked) -> AttestationResult:
        """Step 4: audience, issuer and exact nonces, then the signature and times."""
        try:
            return await self._verifier.verify(
                asked.request.unverified_token,
                anchors=TrustAnchors.of(_references(asked.agreed, asked.request)),
                audience=self._audience,
                nonces=nonces(asked.request.challenge, asked.binding),
                now=asked.now,
            )
        except NotAuthentic as error:
            code = REFUSAL_CODES["token_not_authentic"]
            raise Refused(code, check=error.check.value, detail=error.detail) from error
        except KeysUnavailable as error:
            code = REFUSAL_CODES["keys_unavailable"]
            raise Refused(code, retry_after=error.retry_after, detail=error.detail) from error

    def _witness(self, request: ReleaseRequest) -> JsonObject:
        """Step 5: the audit heads that the workload brought are what their participants signed."""
        return witness(request.audit_heads, participant=self._participant, roster=self._roster)

    def _appraise(self, asked: _Asked, result: AttestationResult, facts: JsonObject) -> None:
        """Step 6: the claims are what was agreed, and what this participant's own policy leaves of it."""
        references = tuple(one for one in _references(asked.agreed, asked.request) if one.issuer == result.issuer)
        verdict = appraise(result, references, self._policy(), role=asked.request.role, now=asked.now)
        if verdict.unknown_claims:
            facts |= alarming_claims(verdict.unknown_claims)
            self._on_unknown_claims(verdict.unknown_claims)
        if not verdict.passed:
            facts |= failed_checks(verdict.failures)
            check = verdict.failures[0].name
            raise Refused(REFUSAL_CODES["appraisal_failed"], check=check, detail="see failed_checks")

    def _seal(self, asked: _Asked) -> bytes:
        """Step 8: the share, sealed to the key that the token's nonce binds."""
        info = seal_info(asked.binding, asked.agreed.manifest.epoch, self._share_index)
        try:
            return seal(asked.request.kem, asked.request.recipient_key, info=info, share=asked.share)
        except SealError as error:
            raise Refused(REFUSAL_CODES["malformed"], detail=str(error)) from error

    async def _settle(self, proposal: Proposal) -> Settled | Declined:
        """Step 9: consent, manifest, instances and single use, decided and recorded in one durable transaction."""
        try:
            return await self._ledger.run(partial(settle, proposal=proposal, budget=self._budget))
        except BrokerError as error:
            raise _storage_unavailable(error) from error

    async def manifest_bundle(self) -> bytes:
        """Return the current manifest with all signatures.

        Raises:
            Refused: `manifest_not_accepted` or `manifest_not_valid_now`.
        """
        terms = self._terms()
        current = self._current(terms)
        if current is not None:
            return current.bundle
        code = "manifest_not_valid_now" if terms.agreed else "manifest_not_accepted"
        raise Refused(REFUSAL_CODES[code], detail="no accepted manifest is current")

    async def audit_head(self) -> Envelope:
        """Return the end of our audit, signed.

        Raises:
            Refused: `storage_unavailable`.
        """
        try:
            terms, head = self._terms(), self._store.chain_head()
        except BrokerError as error:
            raise _storage_unavailable(error) from error
        return self._signer.audit_head(terms.incarnation, head, now=self._clock())

    async def readiness(self) -> Readiness:
        """Return what a health check wants to know. It never raises."""
        try:
            terms = self._store.terms()
        except BrokerError:
            return Readiness(store=False, epoch=None, consent=None)
        current = self._current(terms)
        return Readiness(True, None if current is None else current.manifest.epoch, terms.consent.state)

    def reject(self, code: str, check: str | None = None) -> None:
        """Count a request that was turned away before a good signature, for the audit's next summary."""
        self._rejections.count(code, check)

    async def housekeeping(self) -> None:
        """Every minute, write the summary of what was rejected and retire superseded epochs; until cancelled."""
        while True:
            await asyncio.sleep(HOUSEKEEPING_SECONDS)
            await self.keep_house()

    async def keep_house(self) -> None:
        """Do once what `housekeeping` does every minute. What cannot be done now is left for the next time."""
        counts = self._rejections.take()
        try:
            if counts:
                await self._ledger.run(partial(record_rejections, counts=counts, now=self._clock()))
                counts = {}
            await asyncio.to_thread(self._store.tidy)
        except BrokerError:
            self._rejections.give_back(counts)

    async def aclose(self) -> None:
        """Write the last summary and finish what was begun."""
        await self.keep_house()
        await self._ledger.aclose()

    def _terms(self) -> Terms:
        try:
            return self._store.terms()
        except BrokerError as error:
            raise _storage_unavailable(error) from error

    def _current(self, terms: Terms) -> AgreedManifest | None:
        now = self._clock()
        states = ((one, manifest_state(one.manifest, terms.manifests, now)) for one in terms.agreed)
        return next((one for one, state in states if state is ManifestState.CURRENT), None)

    def _context(self, terms: Terms, role: Role, manifest_hash: ManifestHash) -> ChallengeContext:
        return ChallengeContext(terms.incarnation, self._roster.hash, self._participant, role, manifest_hash)

    def _count(self, refused: Refused) -> None:
        self._rejections.count(refused.reason.code, refused.check)


def _references(agreed: AgreedManifest, request: ReleaseRequest) -> tuple[ConfidentialSpaceReference, ...]:
    return tuple(one for one in agreed.manifest.roles[request.role].evidence if one.kind is request.kind)


def _storage_unavailable(error: BrokerError) -> Refused:
    code = REFUSAL_CODES["storage_unavailable"]
    return Refused(code, detail=str(error), retry_after=STORAGE_RETRY_SECONDS)
