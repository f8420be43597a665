"""`mcbn-broker status`: where this participant stands, and what it should do next."""

from dataclasses import dataclass
from typing import Any, Final

import typer

from mcbn_broker.cli.consent import consent_facts, consent_json
from mcbn_broker.cli.examples import examples
from mcbn_broker.cli.first_steps import adopt_roster, build_roster, make_card
from mcbn_broker.cli.options import DataDir, Output, OutputFormat
from mcbn_broker.cli.stores import open_keyless_store
from mcbn_broker.cli.text import emit_json, say_next, show_facts, show_rows, warn
from mcbn_broker.keystore.identity import Identity
from mcbn_broker.keystore.serve_lock import is_serving
from mcbn_broker.moments import moment
from mcbn_broker.release.consent import ConsentState
from mcbn_broker.release.manifests import ManifestState, expiry
from mcbn_broker.storage.status import ManifestStatus, StoreStatus
from mcbn_broker.storage.store import Store
from mcbn_protocol.identifiers import RosterHash

app = typer.Typer()
_CONCERNED: Final = frozenset({ManifestState.CURRENT, ManifestState.PREVIOUS, ManifestState.UPCOMING})


@dataclass(frozen=True)
class Situation:
    """Everything that `status` shows."""

    data_dir: str
    identity: Identity
    roster_hash: RosterHash | None
    store: StoreStatus
    epochs_with_keys: tuple[int, ...]
    card_made: bool
    serving: bool

    @property
    def share_made(self) -> bool:
        """Whether the share of the next epoch is here."""
        return self.store.next_share_epoch in self.epochs_with_keys

    @property
    def manifest(self) -> ManifestStatus | None:
        """The manifest under which the broker releases, if there is one."""
        return next((one for one in self.store.manifests if one.state is ManifestState.CURRENT), None)


@app.command(epilog=examples("mcbn-broker status", "mcbn-broker status --output json"))
def status(*, output: Output = OutputFormat.TABLE, data_dir: DataDir = None) -> None:
    """Show where this participant stands. Consent, manifests, audit, leases, warnings, and what to do next."""
    with open_keyless_store(data_dir, thorough=True) as store:
        found = _look(store)
    if output is OutputFormat.JSON:
        emit_json(as_json(found))
        return
    show_facts(f"{found.identity.name} in {found.identity.network}", _facts(found))
    show_facts("Consent", consent_facts(found.store.consent))
    if found.store.manifests:
        show_rows("Manifests", ("epoch", "state", "valid from", "valid until", "hash"), _manifest_rows(found))
    for text in warnings_of(found):
        warn(text)
    for text in next_steps(found):
        say_next(text)


def _look(store: Store) -> Situation:
    roster = store.home.adopted_roster()
    return Situation(
        data_dir=str(store.home.root),
        identity=store.home.identity,
        roster_hash=None if roster is None else roster.hash,
        store=store.status(),
        epochs_with_keys=tuple(one.epoch for one in store.shares() if one.held),
        card_made=store.home.card_made,
        serving=is_serving(store.home.root),
    )


def _facts(found: Situation) -> list[tuple[str, str]]:
    state = found.store
    leases = ", ".join(f"{role.value} {count}" for role, count in state.leases.items())
    return [
        ("broker", found.identity.url),
        ("data directory", found.data_dir),
        ("serve", "running" if found.serving else "not running"),
        ("roster hash", "no roster adopted" if found.roster_hash is None else found.roster_hash.hex()),
        ("incarnation", state.incarnation.hex()),
        ("live leases", leases or "none"),
        (
            "next epoch's share",
            f"epoch {state.next_share_epoch}: {'made' if found.share_made else 'not made yet'}",
        ),
        ("epochs with keys", ", ".join(map(str, found.epochs_with_keys)) or "none"),
        ("audit records", str(state.audit.sequence)),
        ("audit head", state.audit.hash.hex()),
    ]


def _manifest_rows(found: Situation) -> list[tuple[str, ...]]:
    return [
        (str(one.epoch), one.state.value, moment(one.valid_from), moment(one.valid_until), one.hash.hex())
        for one in found.store.manifests
    ]


def warnings_of(found: Situation) -> list[str]:
    """Return what makes the manifests that serve, or will serve, less than they should be."""
    warnings = []
    for one in found.store.manifests:
        if one.state not in _CONCERNED:
            continue
        if one.simulated:
            warnings.append(f"epoch {one.epoch}: SIMULATED ISSUER: no hardware protects anything.")
        if one.insecure_terms:
            warnings.append(f"epoch {one.epoch}: insecure terms: {', '.join(one.insecure_terms)}")
    return warnings


def next_steps(found: Situation) -> list[str]:
    """Return what the participant has to do before its broker releases again, first things first."""
    if found.roster_hash is None:
        return _towards_a_roster(found)
    if found.manifest is None:
        if any(one.state is ManifestState.UPCOMING for one in found.store.manifests):
            return ["nothing: the accepted manifest becomes valid later"]
        return [_expiry(found) + _towards_a_manifest(found)]
    if found.store.consent.state is ConsentState.PAUSED:
        return ["mcbn-broker consent allow, when you agree that the broker releases"]
    return [] if found.serving else ["mcbn-broker serve, or start its service: until then nothing is released"]


def _towards_a_roster(found: Situation) -> list[str]:
    name = found.identity.name
    if not found.card_made:
        return [make_card(name)]
    return [f"{build_roster(f'{name}.participant.json')}; then: {adopt_roster(name, 'roster.json')}"]


def _expiry(found: Situation) -> str:
    """Return why an agreement is needed again, if one was in force and ended."""
    newest = max(found.store.manifests, key=lambda one: one.epoch, default=None)
    if newest is None or newest.state is not ManifestState.EXPIRED:
        return ""
    return f"{expiry(newest.epoch, newest.valid_until, following=found.store.next_share_epoch)}; "


def _towards_a_manifest(found: Situation) -> str:
    if not found.share_made:
        return "mcbn-broker share new --out NAME.commitment.json"
    return "draft, sign and bundle the manifest with the others; then: mcbn-broker manifest accept bundle.json"


def as_json(found: Situation) -> dict[str, Any]:
    """Return what `--output json` shows."""
    state = found.store
    return {
        "participant": found.identity.name,
        "network": found.identity.network,
        "url": found.identity.url,
        "data_dir": found.data_dir,
        "serving": found.serving,
        "roster_hash": None if found.roster_hash is None else found.roster_hash.hex(),
        "incarnation": state.incarnation.hex(),
        "schema": state.schema,
        "consent": consent_json(state.consent),
        "manifest": None if found.manifest is None else _manifest_json(found.manifest),
        "manifests": [_manifest_json(one) for one in state.manifests],
        "next_share": {"epoch": state.next_share_epoch, "made": found.share_made},
        "epochs_with_keys": list(found.epochs_with_keys),
        "leases": {role.value: count for role, count in state.leases.items()},
        "audit": {"sequence": state.audit.sequence, "hash": state.audit.hash.hex()},
        "warnings": warnings_of(found),
        "next": next_steps(found),
    }


def _manifest_json(one: ManifestStatus) -> dict[str, Any]:
    return {
        "epoch": one.epoch,
        "hash": one.hash.hex(),
        "state": one.state.value,
        "valid_from": one.valid_from,
        "valid_until": one.valid_until,
        "simulated": one.simulated,
        "insecure_terms": list(one.insecure_terms),
    }
