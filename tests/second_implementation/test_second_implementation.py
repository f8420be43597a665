"""A client that was written from docs/protocol.md alone gets shares from our brokers, and believes nobody too much."""

import ast
import json
import sys
from pathlib import Path

import pytest

from mcbn_protocol.encoding import b64u_decode, b64u_encode, canonical
from mcbn_simulator.demo.terms import LEASE_SECONDS

CLIENT = Path(__file__).with_name("client.py")
KEMS = ("x25519", "mlkem768-x25519")


def participants(answer):
    """What it tells of each participant."""
    assert answer.stdout, answer.stderr
    return json.loads(answer.stdout)["participants"]


def altered(change):
    """Return what changes the payload or the signatures of a signed document, and writes it canonically again."""

    def alter(body):
        document = json.loads(body)
        change(document)
        return canonical(document)

    return alter


@pytest.mark.parametrize("kem", KEMS)
def test_it_gets_every_share_and_our_own_keys(served, kem):
    answer = served.second("--kem", kem)
    assert answer.returncode == 0, answer.stderr
    told, ours = json.loads(answer.stdout), served.ours()
    assert (told["key_check"], told["identity"]) == (ours["key_check"], ours["psk_identity"])
    assert set(told["participants"]) == set(served.urls)
    assert {(one["epoch"], one["lease"]) for one in told["participants"].values()} == {(1, LEASE_SECONDS)}
    assert len({one["share_sha256"] for one in told["participants"].values()}) == len(served.urls)


def test_each_run_leaves_a_release_in_every_audit(served):
    before = {name: desk.releases() for name, desk in served.desks.items()}
    assert served.second().returncode == 0
    assert all(len(desk.releases() - before[name]) == 1 for name, desk in served.desks.items())


def test_it_tells_who_has_paused(served):
    assert served.desks["bob"].command("consent", "pause").returncode == 0
    try:
        answer = served.second()
    finally:
        assert served.desks["bob"].command("consent", "allow").returncode == 0
    told = participants(answer)
    assert answer.returncode == 1
    assert told["bob"] == {"refused": "consent_paused", "check": None}
    assert {"share_sha256"} <= told["alice"].keys() & told["carol"].keys()
    assert "key_check" not in json.loads(answer.stdout)


def test_it_tells_which_claim_was_refused(served):
    machine = served.folder / "machine.json"
    agreed = machine.read_bytes()
    machine.write_text(json.dumps(json.loads(agreed) | {"image_digest": f"sha256:{'0' * 64}"}))
    try:
        told = participants(served.second())
    finally:
        machine.write_bytes(agreed)
    assert {one["refused"] for one in told.values()} == {"appraisal_failed"}
    assert all("image_digest" in one["check"] for one in told.values())


def _without_signed_refusal(document):
    del document["refusal"]


def _of_another_code(document):
    document["refusal"]["payload"]["code"] = "manifest_not_accepted"


def _of_another_participant(document):
    document["refusal"]["payload"]["participant"] = "carol"


@pytest.mark.parametrize("change", [_without_signed_refusal, _of_another_code, _of_another_participant])
def test_it_believes_no_refusal_that_bob_did_not_sign(served, through_liar, change):
    assert served.desks["bob"].command("consent", "pause").returncode == 0
    try:
        with through_liar(served.urls["bob"], "/v1/releases", altered(change)) as url:
            told = participants(served.second(bob=url))
    finally:
        assert served.desks["bob"].command("consent", "allow").returncode == 0
    assert told["bob"].keys() == {"no_valid_answer"}


def test_it_believes_no_refusal_of_another_request(served, through_liar):
    kept = []

    def the_first(body):
        kept.append(body)
        return kept[0]

    assert served.desks["bob"].command("consent", "pause").returncode == 0
    try:
        with through_liar(served.urls["bob"], "/v1/releases", the_first) as url:
            first, second = (participants(served.second(bob=url)) for _ in range(2))
    finally:
        assert served.desks["bob"].command("consent", "allow").returncode == 0
    assert first["bob"] == {"refused": "consent_paused", "check": None}
    assert second["bob"].keys() == {"no_valid_answer"}


def _swap_release_keys(roster):
    first, second, _ = roster["participants"]
    first["release_key"], second["release_key"] = second["release_key"], first["release_key"]


def _lower_threshold(roster):
    roster["threshold"] = 2


def _rename_network(roster):
    roster["network"] = "another"


@pytest.mark.parametrize("change", [_swap_release_keys, _lower_threshold, _rename_network])
def test_it_refuses_another_roster(served, tmp_path, change):
    (tmp_path / "roster.json").write_bytes(altered(change)(served.roster.read_bytes()))
    answer = served.second(roster=tmp_path / "roster.json")
    assert (answer.returncode, answer.stdout) == (1, "")
    assert answer.stderr.startswith("refused: ")


def test_it_refuses_a_roster_that_is_not_canonical(served, tmp_path):
    (tmp_path / "roster.json").write_bytes(served.roster.read_bytes() + b"\n")
    answer = served.second(roster=tmp_path / "roster.json")
    assert (answer.returncode, answer.stdout) == (1, "")
    assert "canonical" in answer.stderr


def _longer_leases(bundle):
    bundle["payload"]["lease_seconds"] = 604800


def _another_commitment(bundle):
    bundle["payload"]["commitments"]["bob"] = "0" * 64


def _one_signature_less(bundle):
    bundle["signatures"].pop()


def _another_order(bundle):
    bundle["signatures"].reverse()


@pytest.mark.parametrize("change", [_longer_leases, _another_commitment, _one_signature_less, _another_order])
def test_it_refuses_another_manifest(served, through_liar, change):
    with through_liar(served.urls["alice"], "/v1/manifest", altered(change)) as url:
        answer = served.second(alice=url)
    assert (answer.returncode, answer.stdout) == (1, "")
    assert answer.stderr.startswith("refused: ")


def test_it_refuses_a_manifest_that_is_not_canonical(served, through_liar):
    with through_liar(served.urls["alice"], "/v1/manifest", lambda body: body + b"\n") as url:
        answer = served.second(alice=url)
    assert answer.returncode == 1
    assert "canonical" in answer.stderr


def _a_flipped_bit(release):
    sealed = bytearray(b64u_decode(release["payload"]["sealed_share"]))
    sealed[-1] ^= 1
    release["payload"]["sealed_share"] = b64u_encode(bytes(sealed))


def _a_longer_lease(release):
    release["payload"]["lease_seconds"] += 1


def _a_second_signature(release):
    release["signatures"] *= 2


def _nobody(release):
    release["signatures"] = []


def _another_signer(release):
    release["signatures"][0]["participant"] = "carol"


@pytest.mark.parametrize("change", [_a_flipped_bit, _a_longer_lease, _a_second_signature, _nobody, _another_signer])
def test_it_refuses_an_altered_release(served, through_liar, change):
    with through_liar(served.urls["bob"], "/v1/releases", altered(change)) as url:
        answer = served.second(bob=url)
    told = participants(answer)
    assert answer.returncode == 1
    assert told["bob"].keys() == {"no_valid_answer"}
    assert "share_sha256" in told["alice"]


def test_it_refuses_a_release_of_another_request(served, through_liar):
    kept = []

    def the_first(body):
        kept.append(body)
        return kept[0]

    with through_liar(served.urls["bob"], "/v1/releases", the_first) as url:
        first, second = (participants(served.second(bob=url)) for _ in range(2))
    assert "share_sha256" in first["bob"]
    assert "binding" in second["bob"]["no_valid_answer"]


def test_it_refuses_an_answer_in_another_brokers_name(served):
    answer = served.second(bob=served.urls["carol"])
    assert participants(answer)["bob"].keys() == {"no_valid_answer"}


def test_it_never_prints_a_share(served):
    answer = served.second()
    told = json.loads(answer.stdout)
    assert told.keys() == {"participants", "key_check", "identity"}
    assert {tuple(one) for one in told["participants"].values()} == {("epoch", "lease", "share_sha256")}


def test_it_is_short_and_takes_nothing_from_us():
    source = CLIENT.read_text()
    assert len(source.splitlines()) <= 200
    imported = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            imported |= {name.name.partition(".")[0] for name in node.names}
        if isinstance(node, ast.ImportFrom):
            imported.add((node.module or ".").partition(".")[0])
    assert imported <= sys.stdlib_module_names | {"httpx", "cryptography"}
    assert "importlib" not in imported
