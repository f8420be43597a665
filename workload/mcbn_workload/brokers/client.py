"""The release exchange with one broker: challenge, token, release, and every check before the share is believed."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import httpx

from mcbn_protocol import limits
from mcbn_protocol.binding import audience, binding_hash, nonces
from mcbn_protocol.errors import KeyScheduleError, ProtocolError, SealError, ShareMismatchError
from mcbn_protocol.identifiers import Role
from mcbn_protocol.manifest import AgreedManifest
from mcbn_protocol.messages import Challenge, ChallengeRequest, Problem, Refusal, Release, ReleaseRequest
from mcbn_protocol.reference_values import EvidenceKind
from mcbn_protocol.roster import Roster
from mcbn_protocol.sealing import SEED_BYTES, RecipientKey, seal_info
from mcbn_protocol.shares import Share, check_share
from mcbn_protocol.signatures import Envelope
from mcbn_workload.attester import Attester, AttesterError, token_kind
from mcbn_workload.brokers.http import JSON, PROBLEM, Answer, NoAnswerError, exchange
from mcbn_workload.brokers.leases import Clock, Lease
from mcbn_workload.brokers.outcomes import Mismatch, NoToken, NoValidAnswer, Outcome, Pending, Refused, Released

CLOCK_SKEW_MAX: Final = 300  # seconds by which a broker's clock may be ahead of ours
_OK: Final = 200
_ACCEPTED: Final = 202


@dataclass(frozen=True)
class Terms:
    """What is the same for every broker of one gathering.

    Attributes:
        roster: The image's roster: the keys that decide.
        agreed: The manifest under which the shares are asked for.
        role: The image's role.
        attester: Gives the tokens.
        clock: The two clocks.
        random: Gives n random bytes, for recipient keys.
        request_seconds: The deadline of one request.
        heads: The participants' latest audit heads, verified, by name, for the others to witness.
    """

    roster: Roster
    agreed: AgreedManifest
    role: Role
    attester: Attester
    clock: Clock
    random: Callable[[int], bytes]
    request_seconds: float
    heads: dict[str, Envelope]


class _SignedWrongError(Exception):
    """The participant signed, for this very request, something that is wrong."""


class BrokerClient:
    """Asks one participant's broker for its share. Every attempt has a challenge, a key pair and a token of its own."""

    def __init__(self, participant: str, http: httpx.AsyncClient, terms: Terms) -> None:
        self.participant = participant
        self._http = http
        self._terms = terms

    async def attempt(self) -> Outcome:
        """Go through the exchange once. Whatever the broker does ends in an outcome, never in an exception."""
        try:
            return await self._attempt()
        except AttesterError as error:
            return NoToken(str(error), final=not error.transient)
        except NoAnswerError as error:
            return NoValidAnswer(str(error), final=error.final, retry_after=error.retry_after)
        except _SignedWrongError as error:
            return Mismatch(str(error))
        except ProtocolError as error:
            return NoValidAnswer(str(error), final=True)

    async def _attempt(self) -> Outcome:
        started = self._terms.clock.boottime()
        challenge = await self._challenge()
        request = await self._request(challenge)
        answer = await self._post("/v1/releases", request.asked.to_bytes())
        if answer.status == _ACCEPTED:
            return Pending(answer.retry_after)
        if answer.status != _OK:
            return self._refused(answer, request)
        release = Release.parse(answer.require(JSON), participant=self.participant, roster=self._terms.roster)
        return request.released(release, self.participant, self._terms, started)

    async def _challenge(self) -> str:
        terms = self._terms
        answer = await self._post("/v1/challenges", ChallengeRequest(terms.role, terms.agreed.hash).to_bytes())
        if answer.status != _OK:
            raise _unsigned(answer)
        return Challenge.parse(answer.require(JSON)).challenge

    async def _request(self, challenge: str) -> "_Request":
        terms, kem = self._terms, self._terms.agreed.manifest.kems[0]
        key = RecipientKey.from_seed(kem, terms.random(SEED_BYTES))
        binding = binding_hash(
            roster_hash=terms.roster.hash,
            participant=self.participant,
            role=terms.role,
            manifest_hash=terms.agreed.hash,
            challenge=challenge,
            kem=kem,
            recipient_key=key.public_bytes,
        )
        token = await terms.attester.token(
            token_kind(terms.agreed.manifest.roles[terms.role].evidence),
            audience(terms.roster.hash, self.participant),
            nonces(challenge, binding),
        )
        asked = ReleaseRequest(
            challenge=challenge,
            role=terms.role,
            manifest_hash=terms.agreed.hash,
            kind=EvidenceKind.CONFIDENTIAL_SPACE,
            unverified_token=token,
            kem=kem,
            recipient_key=key.public_bytes,
            audit_heads=self._heads(),
        )
        return _Request(asked, key, binding)

    def _heads(self) -> tuple[Envelope, ...]:
        heads = self._terms.heads
        return tuple(heads[name] for name in sorted(heads) if name != self.participant)[:_HEADS_MAX]

    async def _post(self, path: str, body: bytes) -> Answer:
        return await exchange(
            self._http, "POST", path, body, limit=limits.RESPONSE_BYTES, seconds=self._terms.request_seconds
        )

    def _refused(self, answer: Answer, request: "_Request") -> Outcome:
        """Believe a refusal only if this participant signed it over our own request; else nobody is blamed.

        The challenge does not make it ours: whoever stands between may have asked for it, and for the refusal too. The
        binding does, since it commits to our fresh recipient key.
        """
        envelope = _problem(answer).unverified_refusal if answer.media_type == PROBLEM else None
        if envelope is None:
            raise _unsigned(answer)
        refusal = Refusal.from_envelope(envelope, participant=self.participant, roster=self._terms.roster)
        asked = request.asked
        said = (refusal.manifest_hash, refusal.role, refusal.challenge, refusal.binding)
        if said != (asked.manifest_hash, asked.role, asked.challenge, request.binding):
            raise NoAnswerError("a signed refusal of another request", final=True)
        return Refused(refusal, answer.retry_after)


_HEADS_MAX: Final = 32  # with the longest token and key, a request still fits in what a broker reads


@dataclass(frozen=True)
class _Request:
    """What was asked for, and the private key that opens the answer."""

    asked: ReleaseRequest
    key: RecipientKey
    binding: bytes

    def released(self, release: Release, participant: str, terms: Terms, started: float) -> Released:
        """Check a signed release against what was asked, and open its share."""
        if release.binding != self.binding:
            # It may be an older release that somebody on the road replays: the participant is not to blame.
            raise NoAnswerError("a signed release of another request", final=True)
        self._check_fields(release, participant, terms)
        lease = Lease(participant, started, release.issued_at, release.lease_seconds)
        _check_clocks(lease, terms.clock)
        return Released(self._open(release, participant, terms), lease, release.audit_sequence)

    def _check_fields(self, release: Release, participant: str, terms: Terms) -> None:
        manifest = terms.agreed.manifest
        index = terms.roster.share_index(participant)
        checks = (
            ("roster hash", release.roster_hash == terms.roster.hash),
            ("participant", release.participant == participant),
            ("epoch", release.epoch == manifest.epoch),
            ("manifest hash", release.manifest_hash == terms.agreed.hash),
            ("role", release.role is terms.role),
            (f"share index {release.share_index} instead of {index}", release.share_index == index),
            ("kem", release.kem is self.asked.kem),
            ("lease longer than the manifest's", release.lease_seconds <= manifest.lease_seconds),
        )
        wrong = [name for name, holds in checks if not holds]
        if wrong:
            raise _SignedWrongError(", ".join(wrong))

    def _open(self, release: Release, participant: str, terms: Terms) -> Share:
        manifest = terms.agreed.manifest
        info = seal_info(self.binding, manifest.epoch, release.share_index)
        try:
            share = self.key.open(release.sealed_share, info=info)
            check_share(terms.roster.network, participant, manifest.epoch, share, manifest.commitments[participant])
        except (SealError, KeyScheduleError, ShareMismatchError) as error:
            raise _SignedWrongError(str(error)) from error
        return share


def _check_clocks(lease: Lease, clock: Clock) -> None:
    ahead = lease.issued_at - clock.wall()
    if ahead > CLOCK_SKEW_MAX or not lease.is_live(clock):
        raise NoAnswerError(
            f"its lease is not of the present: the clocks differ by {abs(ahead):.0f} s; compare both with true time",
            final=True,
        )


def _problem(answer: Answer) -> Problem:
    problem = Problem.parse(answer.require(PROBLEM))
    if problem.reason.status != answer.status:
        raise NoAnswerError(f"status {answer.status} with a body that says {problem.reason.status}", final=True)
    return problem


def _unsigned(answer: Answer) -> NoAnswerError:
    """Say what an answer that nobody signed claims."""
    if answer.media_type != PROBLEM:
        final = answer.status < 500 and answer.status != 429  # noqa: PLR2004  # RFC 9110 section 15, RFC 6585
        return NoAnswerError(
            f"status {answer.status} of type {answer.media_type or 'none'}", final=final, retry_after=answer.retry_after
        )
    problem = _problem(answer)
    check = f", check {problem.check}" if problem.check else ""
    return NoAnswerError(
        f"unsigned refusal {problem.reason.code}{check}, correlation id {problem.correlation_id}. "
        f"{problem.reason.next_step}",
        final=not problem.reason.transient,
        retry_after=answer.retry_after,
    )
