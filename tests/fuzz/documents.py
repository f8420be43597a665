"""Signed documents for targets: a network whose keys are known, so that what lies behind a signature is reached too."""

from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mcbn_protocol.roster import Roster
from mcbn_protocol.signatures import Label, join, sign
from tests.fuzz.material import compact, vectors

ALICE = "alice"
ROSTER = Roster.parse(vectors("release")[0]["input"]["roster"].encode())
"""The roster of every vector that has one."""

_SEEDS = {one["input"]["payload"]["name"]: one["input"] for one in vectors("participant-card")}


def consent_key(name: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(bytes.fromhex(_SEEDS[name]["throwaway_consent_seed"]))


def release_key(name: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(bytes.fromhex(_SEEDS[name]["throwaway_release_seed"]))


def signed(label: Label, name: str, payload: dict[str, Any]) -> bytes:
    """A payload, whatever it says, under a participant's release key."""
    return sign(release_key(name), name, label, ROSTER.hash, payload).to_bytes()


def bundle(payload: dict[str, Any]) -> bytes:
    """A payload, whatever it says, under every participant's consent key."""
    return join(
        [sign(consent_key(name), name, Label.MANIFEST, ROSTER.hash, payload) for name in ROSTER.names]
    ).to_bytes()


def payloads(construction: str) -> list[bytes]:
    return [compact(one["input"]["payload"]) for one in vectors(construction) if "payload" in one["input"]]
