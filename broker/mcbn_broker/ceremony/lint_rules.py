"""What `policy lint` looks for: each rule with its consequence and its fix."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from mcbn_protocol.reference_values import GOOGLE_ROOT, PRODUCTION_ISSUER, SWNAME


class Severity(StrEnum):
    """How much a finding matters."""

    DANGER = "danger"  # secrets may be read by whom nobody trusts
    WARNING = "warning"  # more is admitted than is needed
    NOTE = "note"  # worth a thought


@dataclass(frozen=True)
class Rule:
    """One thing to look for.

    Attributes:
        id: Stable.
        severity: How much it matters.
        consequence: What may happen, in one sentence.
        fix: What to write.
    """

    id: str
    severity: Severity
    consequence: str
    fix: str


_D, _W, _N = Severity.DANGER, Severity.WARNING, Severity.NOTE
RULES: Final = {
    rule.id: rule
    for rule in (
        Rule(
            "debug-status",
            _D,
            "On a debug image the operator can log in and read shares and keys.",
            'require dbgstat "disabled-since-boot"',
        ),
        Rule(
            "support-attribute",
            _D,
            "Images with known holes, which Google has withdrawn, are admitted.",
            'require the support attribute "STABLE"',
        ),
        Rule(
            "hardware-model",
            _D,
            "A VM without memory encryption shows its operator everything.",
            "list GCP_AMD_SEV, GCP_AMD_SEV_ES or GCP_INTEL_TDX, and never GCP_SHIELDED_VM",
        ),
        Rule(
            "swname",
            _D,
            "A plain Confidential VM has tokens of the same issuer, and runs what its operator likes.",
            f'require swname "{SWNAME}"',
        ),
        Rule(
            "secure-boot",
            _D,
            "Without secure boot the measured image need not be the one that runs.",
            "require secboot true",
        ),
        Rule(
            "image-digest",
            _D,
            "Any program may run: a name or tag can be moved, and no digest is required.",
            "list image_digests, from your own build",
        ),
        Rule(
            "image-signature-only",
            _W,
            "Whoever holds the signing key can make images that are admitted.",
            "list image_digests besides image_signatures, at least in your own policy.toml",
        ),
        Rule(
            "environment-override",
            _D,
            "The operator can steer the program through its environment.",
            "admit no override, or exact values and narrow patterns of named variables",
        ),
        Rule(
            "command-override",
            _D,
            "The operator can replace the image's command.",
            "require cmd_override to be absent or empty",
        ),
        Rule(
            "arguments",
            _D,
            "Arguments choose program and configuration without changing the digest.",
            "pin args exactly",
        ),
        Rule(
            "project-any",
            _W,
            "Every customer of the cloud may run this role.",
            "list the operator's project numbers; an id may be given to another project later",
        ),
        Rule(
            "service-accounts",
            _W,
            "A list that only contains the right account may hold others, which act as the workload.",
            "compare the whole list",
        ),
        Rule(
            "service-accounts-open",
            _N,
            "Which service account the workload acts as is not limited.",
            "list service_accounts exactly, if the workload uses any",
        ),
        Rule(
            "issuer", _D, "Tokens of another issuer are no evidence of hardware.", f'set issuer = "{PRODUCTION_ISSUER}"'
        ),
        Rule(
            "root",
            _D,
            "Whoever holds the key of that root certificate can make tokens that say anything.",
            f"leave root out, or pin Google's: {GOOGLE_ROOT.hex()}",
        ),
        Rule(
            "audience",
            _D,
            "A token that was made for another relying party is accepted.",
            "compare assertion.aud with your own",
        ),
        Rule(
            "nonces",
            _D,
            "A token can be replayed, and is bound to no key.",
            "compare assertion.eat_nonce with your own challenge",
        ),
        Rule(
            "tdx-status",
            _W,
            "A TDX module that is out of date has published holes.",
            "require tdx.gcp_attester_tcb_status UpToDate where GCP_INTEL_TDX is admitted",
        ),
        Rule("restart-policy", _N, "Who may restart the workload at will may probe it at will.", 'list "Never"'),
        Rule(
            "monitoring",
            _N,
            "Monitoring shows the operator how the workload uses memory.",
            "set monitoring_memory = false",
        ),
        Rule("insecure-term", _D, "A term whose name begins with insecure_ gives up a protection.", "leave it out"),
        Rule(
            "key-log",
            _D,
            "An image that can writes its channels' secrets to a file: whoever has it reads all that was said.",
            "leave key_log out",
        ),
        Rule("long-lease", _W, "A pause ends channels only after the lease.", "set lease_seconds to an hour or less"),
        Rule(
            "long-validity",
            _W,
            "Shares of one epoch stay useful for longer than a year.",
            "open a new epoch more often",
        ),
        Rule(
            "long-overlap", _N, "The epoch before serves for more than a week.", "set overlap_seconds to a day or less"
        ),
        Rule("many-instances", _N, "Very many VMs may hold the keys at once.", "set instances to what you run"),
        Rule(
            "token-age",
            _N,
            "Tokens may be as old as the broker's default of five minutes.",
            "set maximum_token_age_seconds",
        ),
        Rule(
            "unknown-container-claims",
            _N,
            "Container claims that the program does not know are let pass.",
            "look at each again when you update",
        ),
    )
}
"""Every rule, by its id."""
