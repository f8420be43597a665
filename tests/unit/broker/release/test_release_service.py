"""The release service on a real store: each numbered step, what it refuses, and what it writes before it answers."""

import asyncio
import dataclasses
import sqlite3
import threading
from dataclasses import replace

import pytest

from mcbn_broker.appraisal import Policy
from mcbn_broker.attestation.errors import KeysUnavailable
from mcbn_broker.errors import Refused, StorageError
from mcbn_broker.release.consent import ConsentState
from mcbn_broker.storage.ledger import GroupLedger
from mcbn_protocol.errors import SignatureInvalidError
from mcbn_protocol.identifiers import ManifestHash, Role
from mcbn_protocol.messages import AuditHead, ChallengeRequest, Refusal, Release
from mcbn_protocol.sealing import Kem, RecipientKey, seal_info
from mcbn_protocol.shares import check_share
from mcbn_protocol.signatures import Envelope


def read_release(world, envelope) -> Release:
    return Release.parse(envelope.to_bytes(), participant="alice", roster=world.roster)


async def refused(call) -> Refused:
    with pytest.raises(Refused) as caught:
        await call
    return caught.value


def signed_reason(world, refused: Refused, challenge: str) -> str:
    assert refused.refusal is not None
    refusal = Refusal.from_envelope(refused.refusal, participant="alice", roster=world.roster)
    assert refusal.challenge == challenge
    assert len(refusal.binding) == 32
    return refusal.reason.code


def records(store, kind: str) -> list[dict]:
    return [one.record for one in store.audit_tail(1000) if one.record["kind"] == kind]


@pytest.mark.parametrize("kem", list(Kem))
async def test_a_release_opens_with_the_workloads_key_and_states_its_place_in_the_audit(
    world, store, agreed, service, kem
):
    workload = world.workload(service, agreed, Role.SERVER, kem=kem)
    challenge = await workload.challenge()
    release = read_release(world, await workload.send(workload.request(challenge)))
    assert (release.role, release.epoch, release.manifest_hash) == (Role.SERVER, 1, agreed.hash)
    assert (release.issued_at, release.lease_seconds, release.share_index) == (world.clock.now, 300, 1)
    assert release.binding == workload.binding(challenge)
    share = workload.key.open(release.sealed_share, info=seal_info(release.binding, 1, 1))
    check_share("demo", "alice", 1, share, agreed.manifest.commitments["alice"])
    last = store.audit_tail(1)[0]
    assert (last.sequence, last.hash) == (release.audit_sequence, release.audit_hash)
    assert last.record["kind"] == "release"
    assert last.record["challenge"] == challenge
    assert last.record["image_digest"].startswith("sha256:5e5e")
    assert last.record["instance_id"] == "1001"
    store.verify_audit(b"".join([release_bytes(world, release)]))


def release_bytes(world, release: Release) -> bytes:
    return release.sign(world.release_keys["alice"]).to_bytes()


# --- challenges


async def test_no_challenge_for_a_manifest_that_was_not_accepted(world, service):
    answer = await refused(service.challenge(ChallengeRequest(Role.CLIENT, ManifestHash(bytes(32)))))
    assert (answer.reason.code, answer.refusal) == ("manifest_not_accepted", None)


async def test_no_challenge_outside_of_the_manifests_time(world, agreed, service):
    asked = ChallengeRequest(Role.CLIENT, agreed.hash)
    world.clock.now = agreed.manifest.valid_until
    assert (await refused(service.challenge(asked))).reason.code == "manifest_not_valid_now"
    world.clock.now = agreed.manifest.valid_from - 1
    assert (await refused(service.challenge(asked))).reason.code == "manifest_not_valid_now"


async def test_a_challenge_that_was_never_issued_is_refused_unsigned(world, agreed, service):
    workload = world.workload(service, agreed)
    answer = await refused(workload.send(workload.request("A" * 55)))
    assert (answer.reason.code, answer.refusal) == ("challenge_not_issued", None)


async def test_a_challenge_of_another_shape_is_refused_unsigned(world, agreed, service):
    workload = world.workload(service, agreed)
    request = replace(workload.request("A" * 55), challenge="A" * 54 + "B")
    assert (await refused(workload.send(request))).reason.code == "challenge_not_issued"


async def test_each_bit_of_a_challenge_counts(world, agreed, service):
    workload = world.workload(service, agreed)
    challenge = await workload.challenge()
    for place in range(54):
        other = "A" if challenge[place] != "A" else "B"
        forged = challenge[:place] + other + challenge[place + 1 :]
        assert (await refused(workload.send(workload.request(forged)))).reason.code == "challenge_not_issued"


async def test_a_challenge_for_one_role_is_useless_for_the_other(world, agreed, service):
    challenge = await world.workload(service, agreed, Role.SERVER).challenge()
    client = world.workload(service, agreed, Role.CLIENT)
    assert (await refused(client.send(client.request(challenge)))).reason.code == "challenge_not_issued"


async def test_another_brokers_challenge_is_refused(world, store, agreed, service):
    other = world.service(store, challenge_key=type(store.home.challenge_key)(b"k" * 32))
    challenge = await world.workload(other, agreed).challenge()
    workload = world.workload(service, agreed)
    assert (await refused(workload.send(workload.request(challenge)))).reason.code == "challenge_not_issued"
    await other.aclose()


async def test_an_expired_challenge_is_refused_and_signed(world, agreed, service):
    workload = world.workload(service, agreed)
    challenge = await workload.challenge()
    world.clock.now += 119
    await workload.send(workload.request(challenge))
    late = await workload.challenge()
    world.clock.now += 120
    answer = await refused(workload.send(workload.request(late)))
    assert signed_reason(world, answer, late) == "challenge_expired"


async def test_a_used_challenge_is_refused_and_the_replay_is_audited(world, store, agreed, service):
    workload = world.workload(service, agreed)
    challenge = await workload.challenge()
    request = workload.request(challenge)
    await workload.send(request)
    answer = await refused(workload.send(request))
    assert signed_reason(world, answer, challenge) == "challenge_used"
    assert records(store, "refusal")[-1]["code"] == "challenge_used"


async def test_of_200_parallel_uses_of_one_challenge_exactly_one_succeeds(world, store, agreed, service):
    workload = world.workload(service, agreed)
    request = workload.request(await workload.challenge())
    answers = await asyncio.gather(*(workload.send(request) for _ in range(200)), return_exceptions=True)
    assert sum(isinstance(one, Envelope) for one in answers) == 1
    assert {one.reason.code for one in answers if isinstance(one, Refused)} == {"challenge_used"}
    assert len(records(store, "release")) == 1


async def test_a_refusal_is_bound_to_the_recipient_key_of_the_request_that_it_refuses(world, agreed, service):
    """Or the operator could ask for a refusal himself and hand it, with the challenge, to an honest workload."""
    workload = world.workload(service, agreed)
    challenge = await workload.challenge()
    bindings = []
    for _ in range(2):
        request = dataclasses.replace(workload.request(challenge), unverified_token="e30.e30.e30")
        answer = await refused(workload.send(request))
        assert signed_reason(world, answer, challenge) == "token_not_authentic"
        assert answer.refusal is not None
        refusal = Refusal.from_envelope(answer.refusal, participant="alice", roster=world.roster)
        assert refusal.binding == workload.binding(challenge)
        bindings.append(refusal.binding)
        workload.key = RecipientKey.from_seed(Kem.X25519, bytes(31) + b"x")
    assert len(set(bindings)) == 2


async def test_a_refusal_after_a_good_signature_spends_the_challenge(world, agreed, service):
    workload = world.workload(service, agreed)
    challenge = await workload.challenge()
    answer = await refused(workload.send(workload.request(challenge, dbgstat="enabled")))
    assert signed_reason(world, answer, challenge) == "appraisal_failed"
    again = await refused(workload.send(workload.request(challenge)))
    assert again.reason.code == "challenge_used"


async def test_a_401_spends_nothing(world, store, agreed, service):
    workload = world.workload(service, agreed)
    challenge = await workload.challenge()
    before = store.chain_head()
    answer = await refused(workload.send(replace(workload.request(challenge), unverified_token="a.b.c")))
    assert signed_reason(world, answer, challenge) == "token_not_authentic"
    assert answer.check == "token.signature"
    assert store.chain_head() == before
    await workload.send(workload.request(challenge))


# --- evidence


async def test_a_swapped_recipient_key_is_not_authentic(world, agreed, service):
    workload, attacker = world.workload(service, agreed), world.workload(service, agreed)
    challenge = await workload.challenge()
    request = replace(workload.request(challenge), recipient_key=attacker.key.public_bytes)
    answer = await refused(workload.send(request))
    assert (answer.reason.code, answer.check) == ("token_not_authentic", "token.nonces")


async def test_a_server_image_asking_for_the_client_role_is_refused(world, agreed, service):
    client = world.workload(service, agreed, Role.CLIENT)
    submods = claims_with_image(client, world, agreed, service)
    answer = await refused(client.ask(submods=submods))
    assert answer.reason.code == "appraisal_failed"
    assert answer.check is not None


def claims_with_image(client, world, agreed, service):
    server = world.workload(service, agreed, Role.SERVER)
    request = server.request("A" * 55)
    return world.tokens._said[request.unverified_token][2]["submods"]


async def test_an_appraisal_refusal_names_the_check_and_the_audit_has_every_failure(world, store, agreed, service):
    workload = world.workload(service, agreed)
    answer = await refused(workload.ask(hwmodel="GCP_SHIELDED_VM", secboot=False))
    record = records(store, "refusal")[-1]
    assert answer.check == record["check"] == record["failed_checks"][0]["name"]
    assert len(record["failed_checks"]) == 2
    assert record["correlation_id"] == answer.correlation_id


async def test_missing_claims_are_refused_and_recorded_as_missing(world, store, agreed, service):
    answer = await refused(world.workload(service, agreed).ask(submods={"gce": []}))
    assert answer.reason.code == "appraisal_failed"
    assert records(store, "refusal")[-1]["image_digest"] is None


async def test_the_participants_own_policy_narrows_what_was_agreed(world, store, agreed):
    service = world.service(store, policy=lambda: Policy(zones=frozenset({"europe-west4-a"})))
    assert (await refused(world.workload(service, agreed).ask())).reason.code == "appraisal_failed"
    await service.aclose()


async def test_without_a_key_set_the_refusal_says_when_to_come_back(world, agreed, service):
    workload = world.workload(service, agreed)
    challenge = await workload.challenge()
    world.tokens.error = KeysUnavailable(7, "no key set")
    answer = await refused(workload.send(workload.request(challenge)))
    assert signed_reason(world, answer, challenge) == "keys_unavailable"
    assert answer.retry_after == 7
    world.tokens.error = None
    await workload.send(workload.request(challenge))


async def test_a_kem_that_the_manifest_does_not_list_is_refused(world, store):
    agreed = world.open_epoch(store, kems=(Kem.MLKEM768_X25519,))
    store.allow()
    service = world.service(store)
    workload = world.workload(service, agreed, kem=Kem.X25519)
    answer = await refused(workload.ask())
    assert (answer.reason.code, answer.reason.status) == ("not_in_manifest", 422)
    await service.aclose()


async def test_a_recipient_key_of_small_order_is_refused_and_spends_the_challenge(world, store, agreed, service):
    workload = world.workload(service, agreed)
    workload.key.public_bytes = bytes(32)
    answer = await refused(workload.ask())
    assert answer.reason.code == "malformed"
    assert records(store, "refusal")[-1]["code"] == "malformed"


# --- consent, manifests, instances


async def test_consent_starts_paused_and_the_refusal_is_signed(world, store):
    agreed = world.open_epoch(store)
    service = world.service(store)
    workload = world.workload(service, agreed)
    challenge = await workload.challenge()
    answer = await refused(workload.send(workload.request(challenge)))
    assert signed_reason(world, answer, challenge) == "consent_paused"
    await service.aclose()


async def test_a_pause_by_another_process_binds_the_next_release(world, store, agreed, service):
    workload = world.workload(service, agreed)
    await workload.ask()
    with world.open() as command_line:
        command_line.pause("holiday")
    assert (await refused(workload.ask())).reason.code == "consent_paused"
    with world.open() as command_line:
        command_line.allow()
    await workload.ask()


async def test_a_pause_while_the_token_is_verified_stops_that_very_release(world, store, agreed, service):
    workload = world.workload(service, agreed)
    request = workload.request(await workload.challenge())
    world.tokens.before_answer = lambda: store.pause("now")
    answer = await refused(workload.send(request))
    assert signed_reason(world, answer, request.challenge) == "consent_paused"
    assert records(store, "release") == []


async def test_an_old_manifest_is_refused_after_a_new_one_also_after_a_restart(world, store, agreed):
    later = world.open_epoch(store, previous=agreed, overlap_seconds=0)
    service = world.service(store)
    asked = ChallengeRequest(Role.CLIENT, agreed.hash)
    assert (await refused(service.challenge(asked))).reason.code == "manifest_not_accepted"
    await service.aclose()
    with world.open() as again:
        service = world.service(again)
        assert (await refused(service.challenge(asked))).reason.code == "manifest_not_accepted"
        release = read_release(world, await world.workload(service, later).ask())
        assert release.epoch == 2
        await service.aclose()


async def test_a_manifest_superseded_between_challenge_and_release_is_refused_by_the_transaction(
    world, store, agreed, service
):
    workload = world.workload(service, agreed)
    request = workload.request(await workload.challenge())
    world.tokens.before_answer = lambda: world.open_epoch(store, previous=agreed, overlap_seconds=0)
    answer = await refused(workload.send(request))
    assert signed_reason(world, answer, request.challenge) == "manifest_not_accepted"
    assert records(store, "release") == []


async def test_the_previous_manifest_serves_during_the_overlap_and_its_leases_end_with_it(
    world, store, agreed, service
):
    begin = world.clock.now + 50
    later = world.open_epoch(store, previous=agreed, valid_from=begin, overlap_seconds=100)
    old, new = world.workload(service, agreed), world.workload(service, later)
    assert (await refused(new.ask())).reason.code == "manifest_not_valid_now"
    assert read_release(world, await old.ask()).lease_seconds == 150
    world.clock.now = begin + 99
    assert read_release(world, await old.ask()).lease_seconds == 1
    assert read_release(world, await new.ask()).epoch == 2
    world.clock.now = begin + 100
    assert (await refused(old.ask())).reason.code == "manifest_not_accepted"


async def test_a_lease_never_outlives_the_manifest(world, agreed, service):
    world.clock.now = agreed.manifest.valid_until - 3
    assert read_release(world, await world.workload(service, agreed).ask()).lease_seconds == 3


async def test_as_many_vms_as_agreed_hold_a_lease_and_a_renewal_does_not_count_twice(world, store, agreed, service):
    first, second, third = (world.workload(service, agreed, instance_id=str(number)) for number in (1, 2, 3))
    await first.ask()
    await first.ask()
    await second.ask()
    answer = await refused(third.ask())
    assert answer.reason.code == "instances_exceeded"
    assert store.status().leases == {Role.CLIENT: 2, Role.SERVER: 0}
    await world.workload(service, agreed, Role.SERVER, instance_id="3").ask()
    world.clock.now += 299
    await first.ask()
    world.clock.now += 1
    await third.ask()


async def test_the_instances_of_one_batch_are_counted_one_after_the_other(world, store, agreed, service):
    asks = [world.workload(service, agreed, instance_id=str(number)).ask() for number in range(10)]
    answers = await asyncio.gather(*asks, return_exceptions=True)
    assert sum(isinstance(one, Envelope) for one in answers) == 2


async def test_a_share_whose_epoch_key_is_gone_is_not_released(world, store, agreed):
    store.home.epoch_keys.destroy(1)
    service = world.service(store)
    answer = await refused(world.workload(service, agreed).ask())
    assert answer.reason.code == "internal"
    assert "key of this epoch" in answer.detail
    await service.aclose()


# --- witnesses


def head_of(world, name: str) -> Envelope:
    head = AuditHead(world.roster.hash, name, b"i" * 16, 5, b"h" * 32, world.clock.now)
    return head.sign(world.release_keys[name])


async def test_other_participants_audit_heads_are_witnessed(world, store, agreed, service):
    heads = (head_of(world, "bob"), head_of(world, "carol"))
    await world.workload(service, agreed, audit_heads=heads).ask()
    kept = records(store, "release")[-1]["witnessed_heads"]
    assert kept == [head.to_json() for head in heads]
    for one in kept:
        AuditHead.from_envelope(Envelope.from_json(one, "head"), roster=world.roster)


@pytest.mark.parametrize("fault", ["forged", "ours", "twice"])
async def test_an_audit_head_that_proves_nothing_is_refused(world, store, agreed, service, fault):
    bob = head_of(world, "bob")
    forged = Envelope(bob.payload | {"sequence": 6}, bob.signatures)
    heads = {"forged": (forged,), "ours": (head_of(world, "alice"),), "twice": (bob, bob)}[fault]
    answer = await refused(world.workload(service, agreed, audit_heads=heads).ask())
    assert answer.reason.code == "malformed"
    assert records(store, "refusal")[-1]["detail"].startswith("audit_heads")


# --- restored databases


async def test_an_older_copy_of_the_database_starts_paused_and_kills_old_challenges(world, store, agreed):
    service = world.service(store)
    workload = world.workload(service, agreed)
    backup = world.copy_database("backup")
    challenge = await workload.challenge()
    await workload.send(workload.request(challenge))
    await service.aclose()
    store.close()
    world.restore_database(backup)
    with world.open() as restored:
        assert "older copy" in restored.opened.new_incarnation
        assert restored.consent().state is ConsentState.PAUSED
        assert records(restored, "incarnation")[-1]["reason"] == restored.opened.new_incarnation
        service = world.service(restored)
        again = world.workload(service, agreed)
        assert (await refused(again.send(again.request(challenge)))).reason.code == "challenge_not_issued"
        assert (await refused(again.ask())).reason.code == "consent_paused"
        restored.allow("I restored it")
        await again.ask()
        await service.aclose()
    with world.open() as later:
        assert later.opened.new_incarnation is None


async def test_restoring_a_copy_from_before_a_new_manifest_does_not_bring_the_old_one_back(world, store, agreed):
    backup = world.copy_database("backup")
    world.open_epoch(store, previous=agreed, overlap_seconds=0)
    store.close()
    world.restore_database(backup)
    with world.open() as restored:
        restored.allow("I restored it")
        service = world.service(restored)
        answer = await refused(service.challenge(ChallengeRequest(Role.CLIENT, agreed.hash)))
        assert answer.reason.code == "manifest_not_accepted"
        assert (await service.readiness()).epoch is None
        await service.aclose()


# --- faults of the store


class FailingConnection:
    """Makes every commit of the ledger fail as a full disk does."""

    def __init__(self, monkeypatch, store) -> None:
        self.failing = True
        real = store.journal._database.write

        def write(*, wait):
            if self.failing:
                raise StorageError("the disk is full: nothing was written")
            return real(wait=wait)

        monkeypatch.setattr(store.journal._database, "write", write)


async def test_on_a_full_disk_nothing_is_released_and_it_recovers_by_itself(world, store, agreed, service, monkeypatch):
    workload = world.workload(service, agreed)
    challenge = await workload.challenge()
    fault = FailingConnection(monkeypatch, store)
    answer = await refused(workload.send(workload.request(challenge)))
    assert signed_reason(world, answer, challenge) == "storage_unavailable"
    assert (answer.reason.status, answer.retry_after) == (503, 5)
    fault.failing = False
    await workload.send(workload.request(challenge))
    assert len(records(store, "release")) == 1


async def test_a_database_that_may_not_grow_refuses_and_recovers(world, store, agreed, service, monkeypatch):
    """SQLite's own SQLITE_FULL, through max_page_count."""
    real = store.journal._database.write
    limit = {"pages": 1}

    def write(*, wait):
        context = real(wait=wait)

        class Limited:
            def __enter__(self):
                connection = context.__enter__()
                connection.exec_driver_sql(f"PRAGMA max_page_count = {limit['pages']}")
                return connection

            def __exit__(self, *error):
                return context.__exit__(*error)

        return Limited()

    monkeypatch.setattr(store.journal._database, "write", write)
    workload = world.workload(service, agreed)
    big = {"oemid": 11129}
    answers = []
    for _ in range(60):
        try:
            answers.append(await workload.ask(**big))
        except Refused as error:
            answers.append(error)
            break
    assert isinstance(answers[-1], Refused)
    assert answers[-1].reason.code == "storage_unavailable"
    assert "full" in answers[-1].detail
    released = [one for one in answers if isinstance(one, Envelope)]
    assert len(records(store, "release")) == len(released)
    limit["pages"] = 1_000_000
    await workload.ask()
    store.verify_audit()


async def test_an_anchor_that_cannot_follow_stops_the_release(world, store, agreed, service):
    workload = world.workload(service, agreed)
    request = workload.request(await workload.challenge())
    (world.root / "anchor").write_bytes(b"\0" * 8192)
    answer = await refused(workload.send(request))
    assert answer.reason.code == "storage_unavailable"
    assert answer.refusal is not None


async def test_an_unreadable_store_is_not_ready_and_answers_503(world, store, agreed, service, monkeypatch):
    assert await service.readiness() == type(await service.readiness())(True, 1, ConsentState.ALLOWED)
    workload = world.workload(service, agreed)
    challenge = await workload.challenge()

    def broken():
        raise StorageError("gone")

    monkeypatch.setattr(store, "terms", broken)
    assert (await service.readiness()).store is False
    for call in (workload.challenge(), service.manifest_bundle(), service.audit_head()):
        assert (await refused(call)).reason.code == "storage_unavailable"
    assert (await refused(workload.send(workload.request(challenge)))).reason.code == "storage_unavailable"
    await service.keep_house()


# --- the rest of the interface


async def test_the_manifest_is_given_to_whoever_asks(world, store):
    service = world.service(store)
    assert (await refused(service.manifest_bundle())).reason.code == "manifest_not_accepted"
    agreed = world.open_epoch(store)
    assert await service.manifest_bundle() == agreed.bundle
    assert await service.readiness() == type(await service.readiness())(True, 1, ConsentState.PAUSED)
    world.clock.now = agreed.manifest.valid_until
    assert (await refused(service.manifest_bundle())).reason.code == "manifest_not_valid_now"
    assert (await service.readiness()).epoch is None
    await service.aclose()


async def test_the_audit_head_is_signed_and_verifies_the_audit(world, store, agreed, service):
    envelope = await service.audit_head()
    head = AuditHead.from_envelope(envelope, roster=world.roster)
    assert (head.participant, head.sequence) == ("alice", store.chain_head().sequence)
    assert store.verify_audit(envelope.to_bytes()) == store.chain_head()


async def test_rejected_requests_reach_the_audit_only_in_summary(world, store, agreed, service):
    workload = world.workload(service, agreed)
    before = store.chain_head().sequence
    for _ in range(3):
        await refused(workload.send(workload.request("A" * 55)))
    await refused(workload.send(replace(workload.request(await workload.challenge()), unverified_token="a.b.c")))
    service.reject("too_large")
    assert store.chain_head().sequence == before
    await service.keep_house()
    await service.keep_house()
    (summary,) = records(store, "rejected_summary")
    assert summary["counts"] == {"challenge_not_issued": 3, "token_not_authentic/token.signature": 1, "too_large": 1}


async def test_a_summary_that_cannot_be_written_is_kept_for_the_next_time(world, store, agreed, service, monkeypatch):
    fault = FailingConnection(monkeypatch, store)
    service.reject("too_large")
    await service.keep_house()
    fault.failing = False
    service.reject("too_large")
    await service.keep_house()
    assert records(store, "rejected_summary")[-1]["counts"] == {"too_large": 2}


async def test_the_last_summary_is_written_at_the_end(world, store, agreed):
    service = world.service(store)
    service.reject("rate_limited")
    await service.aclose()
    assert records(store, "rejected_summary")[-1]["counts"] == {"rate_limited": 1}


async def test_housekeeping_retires_superseded_epochs(world, store, agreed, service, monkeypatch):
    monkeypatch.setattr("mcbn_broker.release.service.HOUSEKEEPING_SECONDS", 0)
    world.open_epoch(store, previous=agreed, overlap_seconds=50)
    world.clock.now += 10
    retired = threading.Event()
    real = store.tidy

    def tidy():
        real()
        retired.set()

    monkeypatch.setattr(store, "tidy", tidy)
    world.clock.now += 1000
    task = asyncio.create_task(service.housekeeping())
    await asyncio.to_thread(retired.wait)
    task.cancel()
    assert records(store, "epoch_retired")[-1]["epoch"] == 1
    assert not store.home.epoch_keys.has(1)


async def test_no_secret_is_in_representations_errors_or_the_database(world, store, agreed, service):
    workload = world.workload(service, agreed)
    request = workload.request(await workload.challenge())
    await workload.send(request)
    share = store.terms().shares[1].reveal()
    failure = await refused(workload.send(request))
    secrets = [share, store.home.challenge_key.reveal(), store.home.release_key.private_bytes_raw(), world.kek.reveal()]
    shown = " ".join([repr(store.terms()), repr(service._signer), repr(failure), str(failure), failure.detail]).encode()
    shown += b"".join(path.read_bytes() for path in world.root.rglob("*") if path.is_file())
    for secret in secrets:
        assert secret not in shown
        assert secret.hex().encode() not in shown
    assert request.unverified_token.encode() not in shown


async def test_a_release_by_another_key_does_not_pass_as_ours(world, agreed, service):
    release = await world.workload(service, agreed).ask()
    with pytest.raises(SignatureInvalidError):
        Release.parse(
            Envelope(release.payload | {"lease_seconds": 299}, release.signatures).to_bytes(),
            participant="alice",
            roster=world.roster,
        )


async def test_group_commit_writes_many_releases_in_few_commits(world, store):
    terms = world.manifest(store).roles
    agreed = world.open_epoch(store, roles={role: replace(one, instances=100) for role, one in terms.items()})
    store.allow()
    ledger = GroupLedger(store)
    service = world.service(store, ledger=ledger)
    asks = [world.workload(service, agreed, instance_id=str(number)).ask() for number in range(64)]
    assert all(isinstance(one, Envelope) for one in await asyncio.gather(*asks))
    assert ledger.recorded == 64
    assert ledger.commits <= 16
    await service.aclose()


def test_sqlite_is_recent_enough_for_what_the_store_uses():
    assert sqlite3.sqlite_version_info >= (3, 35)
