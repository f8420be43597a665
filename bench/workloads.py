"""Prepares what genuine workloads would send, before the clock starts: requests for challenges and for releases."""

import os
from collections.abc import Sequence
from typing import Final

from bench.agreement import Broker, machine, now

from mcbn_protocol.binding import audience, binding_hash, nonces
from mcbn_protocol.identifiers import Role
from mcbn_protocol.messages import AuditHead, Challenge, ChallengeRequest, ReleaseRequest
from mcbn_protocol.reference_values import EvidenceKind
from mcbn_protocol.sealing import SEED_BYTES, Kem, RecipientKey
from mcbn_protocol.signatures import Envelope
from mcbn_simulator.issuer import Issuer
from mcbn_simulator.token_options import TokenOptions

VMS: Final = 64


class Workloads:
    """64 client VMs of one network. The issuer's key is in this process, so that no launcher takes CPU."""

    def __init__(self, broker: Broker, issuer: Issuer) -> None:
        self._broker = broker
        self._issuer = issuer
        self._machines = [machine(Role.CLIENT, number) for number in range(VMS)]
        self._keys = {kem: RecipientKey.from_seed(kem, os.urandom(SEED_BYTES)).public_bytes for kem in Kem}
        self.heads = tuple(
            AuditHead(broker.roster.hash, one.name, os.urandom(16), 1000, os.urandom(32), now()).sign(one.release_key)
            for one in broker.witnesses
        )

    def challenge_request(self) -> ChallengeRequest:
        """Return the message that asks for a challenge."""
        return ChallengeRequest(Role.CLIENT, self._broker.agreed.hash)

    def release_requests(
        self, challenges: Sequence[str], kem: Kem, heads: tuple[Envelope, ...] = ()
    ) -> list[ReleaseRequest]:
        """Return the message that answers each challenge, with a token of its own; the VMs take turns.

        A recipient key is used again and again: to the broker it makes no difference.
        """
        return [self._release(challenge, number, kem, heads) for number, challenge in enumerate(challenges)]

    def _release(self, challenge: str, number: int, kem: Kem, heads: tuple[Envelope, ...]) -> ReleaseRequest:
        broker, key = self._broker, self._keys[kem]
        binding = binding_hash(
            roster_hash=broker.roster.hash,
            participant=broker.participant,
            role=Role.CLIENT,
            manifest_hash=broker.agreed.hash,
            challenge=challenge,
            kem=kem,
            recipient_key=key,
        )
        options = TokenOptions(
            audience=audience(broker.roster.hash, broker.participant), nonces=nonces(challenge, binding)
        )
        return ReleaseRequest(
            challenge=challenge,
            role=Role.CLIENT,
            manifest_hash=broker.agreed.hash,
            kind=EvidenceKind.CONFIDENTIAL_SPACE,
            unverified_token=self._issuer.issue(self._machines[number % VMS], options),
            kem=kem,
            recipient_key=key,
            audit_heads=heads,
        )


def challenge_in(body: bytes) -> str:
    """Return the challenge in a broker's answer."""
    return Challenge.parse(body).challenge
