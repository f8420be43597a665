"""Appraisal: authentic claims against the agreed reference values and the participant's own policy."""

from mcbn_broker.appraisal.appraise import appraise
from mcbn_broker.appraisal.policy import Policy, PolicyError, load_policy
from mcbn_broker.appraisal.verdict import AppraisalFailed, CheckResult, Verdict

__all__ = ["AppraisalFailed", "CheckResult", "Policy", "PolicyError", "Verdict", "appraise", "load_policy"]
