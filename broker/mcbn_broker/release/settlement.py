"""What happens to a request with a good signature, inside of the one transaction that decides and records it."""

from dataclasses import dataclass
from typing import Final

from mcbn_broker.audit.chain import AuditKind, ChainEntry
from mcbn_broker.errors import Refused
from mcbn_broker.release.challenges import IssuedChallenge
from mcbn_broker.release.consent import Consent, ConsentState
from mcbn_broker.release.leases import Lease, lease_seconds, room_for
from mcbn_broker.release.manifests import OUT_OF_TIME, SERVING, manifest_state
from mcbn_broker.release.record_budget import RecordBudget
from mcbn_broker.release.stores import Terms, Transaction
from mcbn_protocol.encoding import JsonObject
from mcbn_protocol.identifiers import ManifestHash, Role
from mcbn_protocol.manifest import AgreedManifest
from mcbn_protocol.refusals import REFUSAL_CODES

_DETAIL_CHARS: Final = 256


@dataclass(frozen=True)
class Proposal:
    """A request with a good signature.

    Attributes:
        agreed: The manifest that it named.
        role: The role that it asked for.
        challenge: The challenge that it answers.
        binding: 32 bytes.
        instance_id: What counts as one VM.
        facts: What the audit keeps of the request and the workload.
        sealed_share: What goes out if the decision is a release; empty if it is refused already.
        now: The decision's reference time, Unix seconds.
        refused: Why it is refused already, or None.
    """

    agreed: AgreedManifest
    role: Role
    challenge: IssuedChallenge
    binding: bytes
    instance_id: str
    facts: JsonObject
    sealed_share: bytes
    now: int
    refused: Refused | None


@dataclass(frozen=True)
class Settled:
    """The transaction decided to release: its audit record, and the lease (seconds)."""

    entry: ChainEntry
    lease_seconds: int


@dataclass(frozen=True)
class Declined:
    """The transaction decided to refuse. `recorded`: in a record of its own; else the summary has to count it."""

    refused: Refused
    recorded: bool


def settle(transaction: Transaction, proposal: Proposal, budget: RecordBudget) -> Settled | Declined:
    """Decide on a request and record the decision; the challenge is spent, whatever the decision."""
    refused = _decide(transaction, proposal)
    return _release(transaction, proposal) if refused is None else _decline(transaction, proposal, refused, budget)


def _decline(transaction: Transaction, proposal: Proposal, refused: Refused, budget: RecordBudget) -> Declined:
    recorded = budget.admits(str(proposal.facts.get("project_number")), proposal.now)
    if recorded:
        detail = refused.detail[:_DETAIL_CHARS]
        members: JsonObject = {"code": refused.reason.code, "check": refused.check, "detail": detail}
        transaction.append(AuditKind.REFUSAL, proposal.now, proposal.facts | members)
    return Declined(refused, recorded)


def _decide(transaction: Transaction, proposal: Proposal) -> Refused | None:
    if not transaction.spend(proposal.challenge):
        return Refused(REFUSAL_CODES["challenge_used"], detail="the challenge was used before")
    if proposal.refused is not None:
        return proposal.refused
    try:
        _check_still_agreed(transaction.terms(), proposal)
        _check_room(transaction, proposal)
    except Refused as refused:
        return refused
    return None


def _check_still_agreed(terms: Terms, proposal: Proposal) -> None:
    check_consent(terms.consent)
    find_serving(terms, proposal.agreed.hash, proposal.now)


def _check_room(transaction: Transaction, proposal: Proposal) -> None:
    others = transaction.other_instances(proposal.role, proposal.instance_id, proposal.now)
    if not room_for(proposal.agreed.manifest, proposal.role, others):
        detail = f"{others} other VMs hold a lease of the role {proposal.role}"
        raise Refused(REFUSAL_CODES["instances_exceeded"], detail=detail)


def _release(transaction: Transaction, proposal: Proposal) -> Settled:
    seconds = lease_seconds(proposal.agreed.manifest, transaction.terms().manifests, proposal.now)
    transaction.grant(Lease(proposal.role, proposal.instance_id, proposal.now + seconds))
    members: JsonObject = {"lease_seconds": seconds}
    return Settled(transaction.append(AuditKind.RELEASE, proposal.now, proposal.facts | members), seconds)


def check_consent(consent: Consent) -> None:
    """Check that the participant allows releases.

    Raises:
        Refused: `consent_paused`.
    """
    if consent.state is not ConsentState.ALLOWED:
        raise Refused(REFUSAL_CODES["consent_paused"], detail=f"consent is paused since {consent.since}")


def find_serving(terms: Terms, manifest_hash: ManifestHash, now: int) -> AgreedManifest:
    """Return the manifest with this hash, if the broker releases under it now.

    Raises:
        Refused: `manifest_not_accepted` or `manifest_not_valid_now`.
    """
    agreed = terms.find(manifest_hash)
    if agreed is None:
        raise Refused(REFUSAL_CODES["manifest_not_accepted"], detail="not among the accepted manifests that may serve")
    state = manifest_state(agreed.manifest, terms.manifests, now)
    if state in SERVING:
        return agreed
    code = "manifest_not_valid_now" if state in OUT_OF_TIME else "manifest_not_accepted"
    raise Refused(REFUSAL_CODES[code], detail=f"the manifest of epoch {agreed.manifest.epoch} is {state}")
