"""Signs what this broker says to workloads: releases, refusals and audit heads."""

from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mcbn_broker.audit.chain import ChainHead
from mcbn_broker.errors import Refused
from mcbn_broker.release.settlement import Proposal, Settled
from mcbn_protocol.messages import AuditHead, Refusal, Release, ReleaseRequest
from mcbn_protocol.roster import Roster
from mcbn_protocol.signatures import Envelope


@dataclass(frozen=True)
class Signer:
    """The participant's release key, and what every signed document says of it."""

    participant: str
    roster: Roster
    release_key: Ed25519PrivateKey = field(repr=False)

    def release(self, request: ReleaseRequest, proposal: Proposal, settled: Settled) -> Envelope:
        """Return the signed release, which states its own place in the audit."""
        return Release(
            roster_hash=self.roster.hash,
            participant=self.participant,
            epoch=proposal.agreed.manifest.epoch,
            manifest_hash=proposal.agreed.hash,
            role=request.role,
            share_index=self.roster.share_index(self.participant),
            kem=request.kem,
            binding=proposal.binding,
            issued_at=proposal.now,
            lease_seconds=settled.lease_seconds,
            audit_sequence=settled.entry.sequence,
            audit_hash=settled.entry.hash,
            sealed_share=proposal.sealed_share,
        ).sign(self.release_key)

    def refusal(self, refused: Refused, request: ReleaseRequest, *, now: int, correlation_id: str) -> Refused:
        """Return the same refusal with the document that proves it, signed over the request's challenge and binding."""
        document = Refusal(
            roster_hash=self.roster.hash,
            participant=self.participant,
            manifest_hash=request.manifest_hash,
            role=request.role,
            challenge=request.challenge,
            binding=request.binding(self.roster.hash, self.participant),
            reason=refused.reason,
            check=refused.check,
            issued_at=now,
            correlation_id=correlation_id,
        )
        return Refused(
            refused.reason,
            detail=refused.detail,
            check=refused.check,
            refusal=document.sign(self.release_key),
            retry_after=refused.retry_after,
            correlation_id=correlation_id,
        )

    def audit_head(self, incarnation: bytes, head: ChainHead, *, now: int) -> Envelope:
        """Return the signed end of our audit."""
        return AuditHead(self.roster.hash, self.participant, incarnation, head.sequence, head.hash, now).sign(
            self.release_key
        )
