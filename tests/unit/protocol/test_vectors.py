"""Reads every file of tests/vectors and runs it against the package: a file without a runner is a failure."""

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mcbn_protocol import messages as m
from mcbn_protocol.binding import audience, binding_hash, nonces
from mcbn_protocol.encoding import b64u_decode, b64u_encode, canonical, lp, parse_canonical, u32be, u64be
from mcbn_protocol.errors import ProtocolError
from mcbn_protocol.identifiers import ManifestHash, Role, RosterHash
from mcbn_protocol.key_schedule import (
    EpochSecret,
    Purpose,
    Scheme,
    derive,
    epoch_secret,
    expand,
    key_check,
    legacy_combination,
    psk_identity,
)
from mcbn_protocol.manifest import AgreedManifest
from mcbn_protocol.participants import ParticipantCard, fingerprint, parse_card
from mcbn_protocol.reference_values import EvidenceKind
from mcbn_protocol.roster import Roster
from mcbn_protocol.sealing import Kem, RecipientKey, seal_info
from mcbn_protocol.shares import CommitmentCard, Share, check_share, commitment
from mcbn_protocol.signatures import Envelope

FOLDER = Path(__file__).parents[2] / "vectors"
FILES = sorted(path.stem for path in FOLDER.glob("*.json"))


def load(name):
    return json.loads((FOLDER / f"{name}.json").read_bytes())


def private_key(seed):
    return Ed25519PrivateKey.from_private_bytes(bytes.fromhex(seed))


def run_encoding(given):
    ((kind, value),) = given.items()
    if kind == "json":
        data = bytes.fromhex(value)
        return {"value": parse_canonical(data, limit=len(data))}
    if kind == "base64url":
        return {"hex": b64u_decode(value).hex()}
    encode: dict[str, Any] = {"lp": lp, "u32be": u32be, "u64be": u64be}
    return {"hex": encode[kind](value).hex()}


def run_roster(given):
    roster = Roster.parse(given["roster"].encode())
    assert roster.canonical_bytes == given["roster"].encode()
    return {"hash": roster.hash.hex(), "share_index": {name: roster.share_index(name) for name in roster.names}}


def run_participant_card(given):
    card = ParticipantCard.from_payload(given["payload"])
    document = card.sign(private_key(given["throwaway_consent_seed"]), private_key(given["throwaway_release_seed"]))
    assert parse_card(document.to_bytes()) == card
    return {"document": document.to_bytes().decode(), "fingerprint": fingerprint(card)}


def run_commitment(given):
    of = (given["network"], given["participant"], given["epoch"], Share(bytes.fromhex(given["throwaway_share"])))
    committed = commitment(*of)
    check_share(*of, committed)
    return {"commitment": committed.hex()}


def run_commitment_card(given):
    roster, payload = Roster.parse(given["roster"].encode()), given["payload"]
    card = CommitmentCard(payload["participant"], payload["epoch"], bytes.fromhex(payload["commitment"]))
    document = card.sign(private_key(given["throwaway_release_seed"]), roster)
    assert CommitmentCard.parse(document.to_bytes(), roster) == card
    return {"document": document.to_bytes().decode()}


def run_manifest(given):
    agreed = AgreedManifest.parse(given["bundle"].encode(), Roster.parse(given["roster"].encode()))
    assert agreed.bundle == given["bundle"].encode()
    assert (
        canonical(agreed.manifest.to_payload()) == Envelope.parse(agreed.bundle, limit=len(agreed.bundle)).payload_bytes
    )
    return {"hash": agreed.hash.hex(), "epoch": agreed.manifest.epoch}


MESSAGES: dict[str, Any] = {
    "challenge-request": m.ChallengeRequest,
    "challenge": m.Challenge,
    "release-request": m.ReleaseRequest,
    "problem": m.Problem,
}


def run_messages(given):
    message = MESSAGES[given["kind"]].parse(canonical(given["value"]))
    if isinstance(message, m.ReleaseRequest):
        assert message.kind is EvidenceKind.CONFIDENTIAL_SPACE
    return {"body": message.to_bytes().decode()}


def run_audience(given):
    return {"audience": audience(RosterHash(bytes.fromhex(given["roster_hash"])), given["participant"])}


def run_binding(given):
    binding = binding_hash(
        roster_hash=RosterHash(bytes.fromhex(given["roster_hash"])),
        participant=given["participant"],
        role=Role(given["role"]),
        manifest_hash=ManifestHash(bytes.fromhex(given["manifest_hash"])),
        challenge=given["challenge"],
        kem=Kem(given["kem"]),
        recipient_key=b64u_decode(given["recipient_key"]),
    )
    return {"binding": binding.hex(), "nonces": list(nonces(given["challenge"], binding))}


def run_sealing(given):
    key = RecipientKey.from_seed(Kem(given["kem"]), bytes.fromhex(given["throwaway_recipient_seed"]))
    assert b64u_encode(key.public_bytes) == given["recipient_key"]
    info = seal_info(bytes.fromhex(given["binding"]), given["epoch"], given["share_index"])
    share = key.open(b64u_decode(given["sealed"]), info=info)
    return {"info": info.hex(), "throwaway_share": share.reveal().hex()}


def parse_signed(kind, document, given):
    roster = Roster.parse(given["roster"].encode())
    if kind == "release":
        return m.Release.parse(document, participant=given["participant"], roster=roster)
    envelope = Envelope.parse(document, limit=len(document))
    if kind == "refusal":
        return m.Refusal.from_envelope(envelope, participant=given["participant"], roster=roster)
    return m.AuditHead.from_envelope(envelope, roster=roster)


def run_signed(kind):
    def run(given):
        if "document" in given:
            return parse_signed(kind, given["document"].encode(), given)
        # Signing what was read must give the recorded document again: Ed25519 is deterministic (RFC 8032).
        expected = load(kind)["vectors"][0]["output"]["document"].encode()
        value = parse_signed(kind, expected, given)
        document = value.sign(private_key(given["throwaway_release_seed"]))
        assert document.payload == given["payload"]
        return {"document": document.to_bytes().decode()}

    return run


def shares_of(given):
    return {name: Share(bytes.fromhex(text)) for name, text in given["throwaway_shares"].items()}


def run_key_schedule(given):
    secret, manifest_hash = (
        epoch_secret(Scheme.HKDF_SHA256, shares_of(given)),
        ManifestHash(bytes.fromhex(given["manifest_hash"])),
    )
    known = {purpose.value: purpose for purpose in Purpose}
    keys = {}
    for label in given["labels"]:
        keys[label] = expand(secret, label, manifest_hash, given["epoch"]).hex()
        if label in known:
            assert derive(secret, known[label], manifest_hash, given["epoch"]).reveal().hex() == keys[label]
    return {"throwaway_epoch_secret": secret.reveal().hex(), "throwaway_keys": keys}


def run_legacy(given):
    scheme, shares = Scheme(given["scheme"]), shares_of(given)
    combined = legacy_combination(scheme, list(shares.values()))
    secret = epoch_secret(scheme, shares)
    return {"throwaway_combined": combined.reveal().hex(), "throwaway_epoch_secret": secret.reveal().hex()}


def run_psk_identity(given):
    purpose = Purpose(given["purpose"])
    return {"identity": psk_identity(ManifestHash(bytes.fromhex(given["manifest_hash"])), given["epoch"], purpose)}


def run_key_check(given):
    secret = EpochSecret(bytes.fromhex(given["throwaway_epoch_secret"]))
    return {"key_check": key_check(secret, ManifestHash(bytes.fromhex(given["manifest_hash"])), given["epoch"])}


RUNNERS = {
    "encoding": run_encoding,
    "roster": run_roster,
    "participant-card": run_participant_card,
    "commitment": run_commitment,
    "commitment-card": run_commitment_card,
    "manifest": run_manifest,
    "messages": run_messages,
    "audience": run_audience,
    "binding": run_binding,
    "sealing-x25519": run_sealing,
    "sealing-mlkem768-x25519": run_sealing,
    "release": run_signed("release"),
    "refusal": run_signed("refusal"),
    "audit-head": run_signed("audit-head"),
    "key-schedule": run_key_schedule,
    "legacy-combinations": run_legacy,
    "psk-identity": run_psk_identity,
    "key-check": run_key_check,
}


def test_every_file_has_a_runner_and_every_runner_a_file():
    assert set(FILES) == set(RUNNERS)


@pytest.mark.parametrize("name", FILES)
def test_every_file_says_where_it_comes_from(name):
    content = load(name)
    assert content["construction"] == name
    assert content["provenance"]
    assert content["vectors"]


@pytest.mark.parametrize(
    ("name", "vector"),
    [pytest.param(name, vector, id=f"{name}: {vector['name']}") for name in FILES for vector in load(name)["vectors"]],
)
def test_vector(name, vector):
    if "refused" in vector:
        with pytest.raises(ProtocolError) as caught:
            RUNNERS[name](vector["input"])
        assert caught.value.code == vector["refused"]
    else:
        assert RUNNERS[name](vector["input"]) == vector["output"]


def test_the_generator_makes_the_same_bytes_again(example, tmp_path):
    example.main(tmp_path)
    made = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert made == {path.name: path.read_bytes() for path in FOLDER.glob("*.json")}


def test_the_generators_hpke_is_that_of_rfc_9180_appendix_a_2_1(example):
    ephemeral = bytes.fromhex("f4ec9b33b792c372c1d2c2063507b684ef925b8c75a42dbcbf57d63ccd381600")
    recipient = bytes.fromhex("4310ee97d88cc1f088a5576c77ab0cf5c3ac797f3d95139c6c84b5429c59662a")
    enc = example.crypto_scalarmult_base(ephemeral)
    secret = example.x25519_shared_secret(example.crypto_scalarmult(ephemeral, recipient), enc, recipient)
    key, nonce = example.hpke_key_and_nonce(0x0020, secret, b"Ode on a Grecian Urn")
    assert enc.hex() == "1afa08d3dec047a643885163f1180476fa7ddb54c6a8029ea33f95796bf2ac4a"
    assert key.hex() == "ad2744de8e17f4ebba575b3f5f5a8fa1f69c2a07f6e7500bc60ca6e3e3ec1c91"
    assert nonce.hex() == "5c4d98150661b848853b547f"


def test_the_recorded_hybrid_ciphertext_must_belong_to_its_inputs(example, monkeypatch):
    monkeypatch.setitem(example.SHARES, "alice", bytes(32))
    with pytest.raises(ValueError, match="recorded ciphertext"):
        example.sealing_hybrid()


def test_published_known_answers():
    """The values themselves, apart from the files, so that no regeneration can move them."""
    schedule = load("key-schedule")["vectors"][0]["output"]
    assert schedule["throwaway_epoch_secret"] == "9f91ed55ed895e529461926fb8f53a4cfa1e5ee90eb3a7ab1a44f8cfd61e0db9"
    external = schedule["throwaway_keys"]["tls13-external-psk"]
    assert external == "aaecb9bff1332f888cdd5303420b3a310195d6c5077ff6ad48db5e0b06b899cd"
    committed = {one["name"]: one["output"]["commitment"] for one in load("commitment")["vectors"]}
    assert committed["alice"] == "f147052b3034c8630d2a99a8d63abbede807657728312b3cfbcb832eecfca6ab"
    combined = {one["name"]: one["output"]["throwaway_combined"] for one in load("legacy-combinations")["vectors"]}
    assert combined["sha256-concat of 3"] == "6d1bbd1e6235c9d9ec8cdbdf9b32d4d08304a7f305f7c6c67775130d914f4dc4"
    assert combined["sha256-concat of 2"] == "cb488e9105faa7e26cf30dcc6042fea07fd71c38953973c356d8ecf80421880e"
    chained = "2b6c5604e7b5a3a9832ec2590fd058d610807cee2f3e87bb08dafbb57475d976"
    assert combined["hmac-sha256-chain of 3"] == chained
    assert b64u_encode(bytes.fromhex(combined["sha256-concat of 2"])) == "y0iOkQX6p-Js8w3MYEL-oH_XHDiVOXPDVtjs-AQhiA4"
