"""`status`: what it warns of, and what it says to do next."""

import dataclasses
import json
from contextlib import nullcontext

import pytest

from mcbn_broker.audit.chain import EMPTY
from mcbn_broker.cli import status
from mcbn_broker.keystore.identity import Identity
from mcbn_broker.keystore.serve_lock import serve_lock
from mcbn_broker.release.consent import Consent, ConsentState
from mcbn_broker.release.manifests import ManifestState
from mcbn_broker.storage.status import ManifestStatus, StoreStatus
from mcbn_protocol.identifiers import ManifestHash, Role, RosterHash

PAUSED = Consent(ConsentState.PAUSED, "", 0, 1)
ALLOWED = Consent(ConsentState.ALLOWED, "", 0, 2)


def manifest(state=ManifestState.CURRENT, *, simulated=False, insecure_terms=(), epoch=1):
    return ManifestStatus(epoch, ManifestHash(bytes(32)), 0, 100, state, simulated, insecure_terms)


def situation(*manifests, consent=ALLOWED, keys=(), roster=True, card=True, serving=False):
    store = StoreStatus(
        incarnation=bytes(16),
        schema="1",
        consent=consent,
        manifests=manifests,
        next_share_epoch=len(manifests) + 1,
        audit=EMPTY,
        leases={Role.CLIENT: 2, Role.SERVER: 0},
    )
    return status.Situation(
        data_dir="/state",
        identity=Identity("demo", "alice", "https://x.example"),
        roster_hash=RosterHash(b"\x01" * 32) if roster else None,
        store=store,
        epochs_with_keys=keys,
        card_made=card,
        serving=serving,
    )


def init(command, folder):
    """Make alice's broker in `folder`/state."""
    made = command(
        *("init", "--network", "demo", "--name", "alice", "--url", "https://a.example"),
        *("--data-dir", folder / "state", "--create-kek", "--kek-file", folder / "kek"),
    )
    assert made.status == 0, made.err
    return made


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (situation(roster=False, card=False), "mcbn-broker consent-key new --out alice.consent-key.json; then "),
        (situation(), "share new --out"),
        (situation(keys=(1,)), "manifest accept"),
        (situation(manifest(ManifestState.UPCOMING)), "becomes valid later"),
        (situation(manifest(ManifestState.EXPIRED)), "share new --out"),
        (
            situation(manifest(ManifestState.SUPERSEDED), manifest(ManifestState.EXPIRED, epoch=2)),
            "the manifest of epoch 2 expired at 1970-01-01 00:01:40 UTC: agree on epoch 3; mcbn-broker share new",
        ),
        (situation(manifest(ManifestState.EXPIRED), keys=(1, 2)), "manifest accept"),
        (situation(manifest(), consent=PAUSED), "consent allow"),
    ],
)
def test_next_step(found, expected):
    (step,) = status.next_steps(found)
    assert expected in step


def test_with_a_card_the_roster_comes_next_and_then_the_share():
    assert status.next_steps(situation(roster=False)) == [
        "send alice.participant.json to the other participants, compare the fingerprints by telephone, "
        "then: mcbn-broker roster build *.participant.json --out roster.json; "
        "then: mcbn-broker share new --roster roster.json --out alice.commitment.json",
    ]


def test_after_init_status_says_what_init_said(command, tmp_path):
    made = init(command, tmp_path)
    last = made.err.splitlines()[-1]
    assert last.startswith("Next: mcbn-broker consent-key new ")
    assert command("status", "--data-dir", tmp_path / "state").err.splitlines() == [last]


def test_a_second_init_says_what_else_may_have_been_meant(command, tmp_path):
    init(command, tmp_path)
    again = command(
        *("init", "--network", "demo", "--name", "bob", "--url", "https://b.example"),
        *("--data-dir", tmp_path / "state", "--create-kek", "--kek-file", tmp_path / "other"),
    )
    assert "name another --data-dir, or see `mcbn-broker status`" in again.err
    assert not (tmp_path / "other").exists()


def test_nothing_to_do_once_it_releases():
    assert status.next_steps(situation(manifest(), serving=True)) == []


def test_a_broker_that_could_release_but_does_not_run_is_to_be_started():
    (step,) = status.next_steps(situation(manifest()))
    assert step.startswith("mcbn-broker serve")


@pytest.mark.parametrize(
    ("state", "loud"),
    [(state, state not in (ManifestState.EXPIRED, ManifestState.SUPERSEDED)) for state in ManifestState],
)
def test_simulated_issuer_and_insecure_terms_are_loud_while_they_matter(state, loud):
    found = situation(manifest(state, simulated=True, insecure_terms=("insecure_http",)))
    warnings = status.warnings_of(found)
    assert any("SIMULATED" in one for one in warnings) is loud
    assert any("insecure_http" in one for one in warnings) is loud


def test_json_has_the_current_manifest_apart_and_plain_values():
    found = situation(manifest(ManifestState.PREVIOUS), manifest(epoch=2), keys=(2, 3))
    value = status.as_json(found)
    assert value["manifest"]["epoch"] == 2
    assert [one["state"] for one in value["manifests"]] == ["previous", "current"]
    assert value["next_share"] == {"epoch": 3, "made": True}
    assert value["leases"] == {"client": 2, "server": 0}
    assert value["audit"] == {"sequence": 0, "hash": "00" * 32}


def test_json_says_whether_serve_runs():
    assert [status.as_json(situation(serving=one))["serving"] for one in (True, False)] == [True, False]


@pytest.mark.parametrize("serving", [True, False])
def test_status_says_whether_serve_runs_on_this_data_directory(command, tmp_path, serving):
    root = tmp_path / "state"
    init(command, tmp_path)
    with serve_lock(root) if serving else nullcontext():
        table = command("status", "--data-dir", root).out
        value = json.loads(command("status", "--data-dir", root, "--output", "json").out)
    (row,) = [line.split() for line in table.splitlines() if line.split()[:1] == ["serve"]]
    assert row[1:] == (["running"] if serving else ["not", "running"])
    assert value["serving"] is serving


def test_without_manifest_json_says_null():
    assert status.as_json(situation())["manifest"] is None
    assert dataclasses.replace(situation(), epochs_with_keys=(1,)).share_made
