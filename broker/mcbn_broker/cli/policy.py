"""`mcbn-broker policy`: what a token comes to, check by check, and what an agreement forgets."""

import sys
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import Encoding
from rich.text import Text

from mcbn_broker.appraisal.accounting import ACCOUNTS
from mcbn_broker.appraisal.explanation import Explanation, Given, Outcome, explain
from mcbn_broker.appraisal.policy import Policy, load_policy
from mcbn_broker.attestation.certificate_chain import root_hash
from mcbn_broker.attestation.errors import AttestationError
from mcbn_broker.attestation.published_keys import parse_key_set
from mcbn_broker.attestation.strict_json import NotStrictJsonError, parse_object
from mcbn_broker.ceremony.drafts import Draft
from mcbn_broker.ceremony.files import read_file
from mcbn_broker.ceremony.lint import Finding, is_policy, lint_text
from mcbn_broker.ceremony.lint_rules import Severity
from mcbn_broker.cli.documents import naming
from mcbn_broker.cli.examples import examples
from mcbn_broker.cli.options import Output, OutputFormat
from mcbn_broker.cli.text import console, emit_json, printable, say, show_rows
from mcbn_broker.errors import EXIT_CODES, UsageError
from mcbn_protocol import limits
from mcbn_protocol.encoding import parse_canonical
from mcbn_protocol.identifiers import Role
from mcbn_protocol.manifest import Manifest
from mcbn_protocol.reference_values import ConfidentialSpaceReference

app = typer.Typer(help="What a token comes to, and what an agreement forgets.", no_args_is_help=True)

_TOKEN_BYTES: Final = limits.TOKEN_CHARS + 2
_FILE_BYTES: Final = 64 * 1024
_STYLES: Final = {
    Outcome.PASSED: "green",
    Outcome.FAILED: "bold red",
    Outcome.NOT_COMPARED: "yellow",
    Severity.DANGER: "bold red",
    Severity.WARNING: "yellow",
    Severity.NOTE: "",
}


@app.command(
    name="explain",
    epilog=examples(
        "mcbn-broker policy explain token.jwt --at 2026-11-24T12:00:00Z --jwks keys.json --manifest bundle.json",
        "mcbn-broker policy explain - --at 1757060250 --root root.pem --output json <token.jwt",
    ),
)
def explain_command(
    *,
    token: Annotated[str, typer.Argument(metavar="TOKEN", help="The token's file; - for standard input.")],
    at: Annotated[
        str, typer.Option(metavar="TIME", help="The time to judge by: Unix seconds, or 2026-11-24T12:00:00Z.")
    ],
    audience: Annotated[str | None, typer.Option(metavar="AUDIENCE", help="What `aud` must be.")] = None,
    nonce: Annotated[
        list[str] | None, typer.Option(metavar="NONCE", help="A nonce; together, exactly those of the token.")
    ] = None,
    root: Annotated[Path | None, typer.Option(help="The attestation root's certificate (PEM), for PKI tokens.")] = None,
    jwks: Annotated[Path | None, typer.Option(help="The issuer's key set (JSON), for OIDC tokens.")] = None,
    manifest: Annotated[Path | None, typer.Option(help="A manifest, draft or bundle: its reference values.")] = None,
    role: Annotated[Role, typer.Option(help="Which role's reference values.")] = Role.CLIENT,
    policy: Annotated[Path | None, typer.Option(help="A policy.toml.")] = None,
    claims: Annotated[bool, typer.Option(help="Show how each claim is treated, too.")] = False,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Explain a token. Every check, its verdict, what was expected and found, and why it matters.

    It is judged by the broker's own code, offline. What you do not give is not compared. Without a manifest only
    what any participant should ask for is.
    """
    given = Given(
        at=_moment(at),
        audience=audience,
        nonces=tuple(nonce) if nonce else None,
        roots=frozenset() if root is None else frozenset({_root(root)}),
        keys=None if jwks is None else _keys(jwks),
        references=() if manifest is None else _references(manifest, role),
        policy=Policy() if policy is None else load_policy(policy),
        role=role,
    )
    explanation = explain(_token(token), given)
    if output is OutputFormat.JSON:
        emit_json(_as_json(explanation))
    else:
        _show(explanation, claims=claims)
    if explanation.failed:
        raise typer.Exit(EXIT_CODES["refused"].number)


@app.command(epilog=examples("mcbn-broker policy lint terms.toml policy.toml", "mcbn-broker policy lint bundle.json"))
def lint(
    *,
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE", help="Manifests, terms, policy.toml, or CEL conditions named *.cel."),
    ],
    output: Output = OutputFormat.TABLE,
) -> None:
    """Warn about what a manifest, its terms or a policy forgets. Each with the consequence and the fix.

    A policy.toml that `serve` would not take is an error, as it is there.
    """
    found = [(path, one) for path in files for one in _lint_file(path)]
    if output is OutputFormat.JSON:
        emit_json({"findings": [_finding_json(path, one) for path, one in found]})
    else:
        _show_findings(found, files)
    if any(one.rule.severity is not Severity.NOTE for _path, one in found):
        raise typer.Exit(EXIT_CODES["findings"].number)


def _lint_file(path: Path) -> list[Finding]:
    data = read_file(path, limit=limits.MANIFEST_BYTES)
    findings = lint_text(path.name, data)
    if is_policy(path.name, data):
        load_policy(path)
    return findings


def _moment(text: str) -> int:
    try:
        return int(text) if text.isdigit() else int(datetime.fromisoformat(text).timestamp())
    except ValueError as error:
        raise UsageError(f"--at {text}: Unix seconds or a date such as 2026-11-24T12:00:00Z are expected") from error


def _token(name: str) -> str:
    standard_input = sys.stdin.buffer
    data = standard_input.read(_TOKEN_BYTES + 1) if name == "-" else read_file(Path(name), limit=_TOKEN_BYTES)
    return data.decode("utf-8", "replace").strip()


def _root(path: Path) -> bytes:
    try:
        certificate = x509.load_pem_x509_certificate(read_file(path, limit=_FILE_BYTES))
        return root_hash(certificate.public_bytes(Encoding.DER))
    except (ValueError, AttestationError) as error:
        raise UsageError(f"{path} is no root certificate in PEM: {error}") from error


def _keys(path: Path) -> dict[str, RSAPublicKey]:
    try:
        return dict(parse_key_set(parse_object(read_file(path, limit=_FILE_BYTES))))
    except (NotStrictJsonError, AttestationError) as error:
        raise UsageError(f"{path} is no key set: {error}") from error


def _references(path: Path, role: Role) -> tuple[ConfidentialSpaceReference, ...]:
    """The signatures of a bundle are not looked at: here it only says what to compare with."""
    data = read_file(path, limit=limits.MANIFEST_BYTES)
    with naming(path):
        value = parse_canonical(data, limit=limits.MANIFEST_BYTES)
        payload = value.get("payload") if isinstance(value, dict) and "payload" in value else None
        manifest = Manifest.from_payload(payload) if isinstance(payload, dict) else Draft.parse(data).manifest
    return manifest.roles[role].evidence


def _show(explanation: Explanation, *, claims: bool) -> None:
    columns = ("check", "verdict", "expected", "found", "why it matters")
    rows = [(line.check, line.outcome, line.expected, line.found, line.why) for line in explanation.lines]
    _show_coloured("Checks", columns, rows)
    if explanation.unknown_claims:
        show_rows("Claims that this program does not know", ("claim",), [(one,) for one in explanation.unknown_claims])
    if claims:
        show_rows("How claims are treated", ("claim", "treatment", "why"), _treatments())
    failed = [line.check for line in explanation.lines if line.outcome is Outcome.FAILED]
    open_ones = sum(line.outcome is Outcome.NOT_COMPARED for line in explanation.lines)
    say(f"REFUSED by {', '.join(failed)}." if failed else "No check failed.")
    if open_ones:
        say(f"{open_ones} not compared, for lack of what to compare with.")
    if not explanation.authentic:
        say("The signature was not verified: anybody may have written these claims.")


def _treatments() -> list[tuple[str, str, str]]:
    return [(path, account.treatment.value, account.reason) for path, account in ACCOUNTS.items()]


def _show_coloured(title: str, columns: tuple[str, ...], rows: list[tuple[Any, ...]]) -> None:
    """A table whose cells of a known kind have a colour, where there is any."""
    from rich.box import SIMPLE  # noqa: PLC0415  # as in cli.text, which shows plain tables
    from rich.table import Table  # noqa: PLC0415

    table = Table(title=title, title_justify="left", box=SIMPLE)
    for name in columns:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(str(cell)), style=_STYLES.get(cell, "")) for cell in row))
    console().print(table)


def _as_json(explanation: Explanation) -> dict[str, Any]:
    return {
        "passed": not explanation.failed,
        "authentic": explanation.authentic,
        "reference": explanation.reference,
        "checks": [
            {"check": one.check, "verdict": one.outcome, "expected": one.expected, "found": one.found, "why": one.why}
            for one in explanation.lines
        ],
        "unknown_claims": list(explanation.unknown_claims),
    }


def _finding_json(path: Path, finding: Finding) -> dict[str, str]:
    rule = finding.rule
    return {
        "file": str(path), "where": finding.where, "rule": rule.id, "severity": rule.severity,
        "consequence": rule.consequence, "fix": rule.fix,
    }  # fmt: skip


def _show_findings(found: list[tuple[Path, Finding]], files: list[Path]) -> None:
    order = list(Severity)
    rows = [
        (one.rule.severity, one.rule.id, f"{path.name}: {one.where}", one.rule.consequence, one.rule.fix)
        for path, one in sorted(found, key=lambda item: order.index(item[1].rule.severity))
    ]
    if rows:
        _show_coloured("Findings", ("severity", "rule", "where", "consequence", "fix"), rows)
    counts = ", ".join(f"{sum(row[0] is one for row in rows)} {one.value}" for one in order)
    say(f"{len(files)} looked at: {counts}.")
