"""The messages of a release, version 1: challenge, release, refusal, audit head."""

from mcbn_protocol.messages.audit_head import INCARNATION_BYTES, AuditHead
from mcbn_protocol.messages.broker_signature import verify_broker_signature
from mcbn_protocol.messages.challenge import Challenge, ChallengeRequest
from mcbn_protocol.messages.refusal import CHECK_NAME, Problem, Refusal
from mcbn_protocol.messages.release import Release, ReleaseRequest

__all__ = [
    "CHECK_NAME",
    "INCARNATION_BYTES",
    "AuditHead",
    "Challenge",
    "ChallengeRequest",
    "Problem",
    "Refusal",
    "Release",
    "ReleaseRequest",
    "verify_broker_signature",
]
