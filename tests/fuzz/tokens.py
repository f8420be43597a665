"""Tokens for targets: what the simulator's claims look like, who may sign them, and what an accepted one must say."""

from typing import Any

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from mcbn_broker.attestation.errors import NotAuthentic, TokenCheck
from mcbn_protocol.identifiers import Role
from mcbn_simulator.claims import claims_for
from mcbn_simulator.demo.images import image_digest, machine_for, reference_for
from tests.fuzz.keys import rsa_key
from tests.fuzz.material import NOW

ISSUER = "https://issuer.example"
AUDIENCE = "mcbn:v1:" + "ab" * 32 + ":alice"
NONCES = ("C" * 55, "B" * 43)
KEY_ID = "k1"
CLAIM_WORDS = tuple(
    b"aud iss iat exp nbf eat_nonce dbgstat disabled-since-boot enabled submods container gce tdx env env_override "
    b"cmd_override args image_digest image_signatures HOSTNAME hwmodel GCP_INTEL_TDX GCP_AMD_SEV swname "
    b"CONFIDENTIAL_SPACE support_attributes STABLE nvidia_gpu cc_mode attester_tcb gcp_attester_tcb_status".split()
)


def machine(role: Role = Role.CLIENT) -> Any:
    return machine_for(role, "vm", 1, image_digest(role, b"fuzz"))


def reference(role: Role = Role.CLIENT) -> Any:
    """What the participants would have agreed on for `machine(role)`."""
    return reference_for(role, machine(role), issuer=ISSUER, participants=("alice", "bob"))


def claims(role: Role = Role.CLIENT) -> dict[str, Any]:
    """The claims that the simulator signs for `machine(role)`."""
    return claims_for(machine(role), issuer=ISSUER, audience=AUDIENCE, nonces=NONCES, now=NOW)


class PublishedKeys:
    """The attestation service's key set: one key."""

    async def key(self, issuer: str, key_id: str) -> RSAPublicKey:
        if (issuer, key_id) != (ISSUER, KEY_ID):
            raise NotAuthentic(TokenCheck.KEY, "no such key")
        return rsa_key(1).public_key()


def assert_for_this_request(said: Any) -> None:
    """What no accepted token may lack."""
    assert said["aud"] == AUDIENCE
    assert said["iss"] == ISSUER
    assert sorted(said["eat_nonce"]) == sorted(NONCES)
    assert all(type(said[name]) is int for name in ("iat", "nbf", "exp"))
    assert NOW - 300 <= said["iat"] <= NOW + 60
    assert said["nbf"] <= NOW + 60
    assert said["exp"] > NOW - 60
