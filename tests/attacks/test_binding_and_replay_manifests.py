"""Who brings an old manifest back, or writes a new one differently, changes nothing at a broker."""

import dataclasses
import json

import pytest

from mcbn_broker.audit.chain import AuditKind
from mcbn_broker.errors import CeremonyError
from mcbn_protocol.errors import MalformedError
from mcbn_protocol.manifest import AgreedManifest, manifest_hash
from mcbn_protocol.signatures import Envelope
from tests.attacks.lab_brokers import Lab, new_lab
from tests.attacks.lab_replay import nothing_but_rejections

FAMILY = "Binding and replay"


@pytest.fixture
async def lab(tmp_path):
    async with new_lab(tmp_path, "alice") as lab:
        yield lab


async def test_old_manifest_after_a_new_one(lab):
    """Frank starts a workload of a removed manifest, and offers that manifest to Alice's broker again.

    Known as: rollback of signed metadata (CVE-2022-29173 in go-tuf).
    """
    old, workload = lab.agreed, lab.workload()
    waiting = workload.request(await workload.challenge())  # under the old manifest, while it was the current one
    lab.open_epoch(old)
    _offer_again(lab, old)
    lab.refused(await workload.ask_challenge(manifest_hash=old.hash), "manifest_not_accepted", signed_over=None)
    lab.refused(await workload.send(waiting), "manifest_not_accepted", signed_over=waiting)
    nothing_but_rejections(lab)
    assert (await workload.is_served()).epoch == 2


async def test_old_manifest_after_a_new_one_and_a_restart(lab):
    """Frank waits for a restart of Alice's broker, and then asks under the old manifest.

    Known as: rollback of signed metadata (CVE-2022-29173 in go-tuf).
    """
    old, workload = lab.agreed, lab.workload()
    waiting = workload.request(await workload.challenge())
    lab.open_epoch(old)
    await lab.alice.stop()
    lab.alice.start()
    _offer_again(lab, old)
    lab.refused(await workload.ask_challenge(manifest_hash=old.hash), "manifest_not_accepted", signed_over=None)
    lab.refused(await workload.send(waiting), "manifest_not_accepted", signed_over=waiting)
    nothing_but_rejections(lab)
    assert (await workload.is_served()).epoch == 2


async def test_old_manifest_after_restoring_an_older_database(lab):
    """Somebody restores Alice's database of before the new manifest, and she even allows, but the old one stays dead.

    Known as: rollback of signed metadata (CVE-2022-29173 in go-tuf).
    """
    old, workload = lab.agreed, lab.workload()
    waiting = workload.request(await workload.challenge())
    await lab.alice.stop()
    backup = lab.alice.copy_database()
    lab.alice.start()
    lab.open_epoch(old)
    await lab.alice.stop()
    lab.alice.restore_database(backup)
    lab.alice.start()
    assert lab.alice.store.opened.new_incarnation is not None
    assert lab.alice.store.consent().state.value == "paused"
    lab.alice.store.allow("the participant looked and confirmed")
    lab.alice.store.accept_manifest(old.bundle)
    lab.refused(await workload.ask_challenge(manifest_hash=old.hash), "manifest_not_accepted", signed_over=None)
    lab.refused(await workload.send(waiting), "challenge_not_issued", signed_over=None)  # the incarnation has ended
    nothing_but_rejections(lab)
    third = lab.manifest(lab.agreed, valid_from=lab.time.now())
    lab.alice.store.accept_manifest(lab.bundle(third))
    lab.agreed = AgreedManifest.parse(lab.bundle(third), lab.roster)
    assert (await workload.is_served()).epoch == 3


async def test_restored_database_releases_nothing_until_the_participant_confirms(lab):
    """Frank restores an older database of the same epoch, in which used challenges look unused."""
    workload = lab.workload()
    request = workload.request(await workload.challenge())
    await lab.alice.stop()
    backup = lab.alice.copy_database()
    lab.alice.start()
    lab.released(await workload.send(request), workload)
    await lab.alice.stop()
    lab.alice.restore_database(backup)
    lab.alice.start()
    lab.refused(await workload.send(request), "challenge_not_issued", signed_over=None)
    fresh = workload.request(await workload.challenge())
    lab.refused(await workload.send(fresh), "consent_paused", signed_over=fresh)
    assert lab.alice.records(AuditKind.INCARNATION)[-1]["reason"]
    assert not lab.alice.records(AuditKind.RELEASE)
    lab.alice.store.allow("confirmed")
    await workload.is_served()


async def test_reordered_json_is_the_same_manifest(lab):
    """Frank shuffles the members of a bundle: the hash stays, but bytes that are not canonical are not taken."""
    payload = lab.agreed.manifest.to_payload()
    shuffled = dict(reversed(payload.items()))
    assert json.dumps(shuffled) != json.dumps(payload)
    assert manifest_hash(Envelope(shuffled, []).payload_bytes) == lab.agreed.hash

    members = json.loads(lab.agreed.bundle)
    others = [
        json.dumps({"signatures": members["signatures"], "payload": members["payload"]}, separators=(",", ":")),
        json.dumps(members, separators=(",", ":")).replace('"epoch":1', '"epoch": 1'),
        json.dumps(members, separators=(",", ":")) + "\n",
    ]
    second = lab.bundle(lab.manifest(lab.agreed))
    for data in (one.encode() for one in others):
        with pytest.raises(MalformedError, match="canonical"):
            AgreedManifest.parse(data, lab.roster)
    spaced = json.dumps(json.loads(second), sort_keys=True).encode()
    with pytest.raises(MalformedError, match="canonical"):
        lab.alice.store.accept_manifest(spaced)
    assert [one.agreed.hash for one in lab.alice.store.manifests()] == [lab.agreed.hash]
    lab.alice.store.accept_manifest(second)


def _offer_again(lab: Lab, old: AgreedManifest) -> None:
    """Check that neither the old manifest nor another one of its epoch changes what is accepted."""
    before = [one.agreed.hash for one in lab.alice.store.manifests()]
    lab.alice.store.accept_manifest(old.bundle)
    with pytest.raises(CeremonyError, match="accepted already"):
        lab.alice.store.accept_manifest(lab.bundle(dataclasses.replace(old.manifest, lease_seconds=30)))
    assert [one.agreed.hash for one in lab.alice.store.manifests()] == before
    assert len(lab.alice.records(AuditKind.MANIFEST_ACCEPTED)) == len(before)
