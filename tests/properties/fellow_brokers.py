"""Bob and Carol, as far as a workload can see them: brokers that answer honestly, until one is told to lie."""

import os
from collections.abc import Callable
from dataclasses import replace
from typing import Final

import httpx
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mcbn_protocol.encoding import b64u_encode
from mcbn_protocol.identifiers import ManifestHash, Role
from mcbn_protocol.limits import CHALLENGE_BYTES
from mcbn_protocol.manifest import AgreedManifest
from mcbn_protocol.messages import Challenge, Problem, Refusal, Release, ReleaseRequest
from mcbn_protocol.refusals import REFUSAL_CODES
from mcbn_protocol.sealing import seal, seal_info
from mcbn_protocol.shares import Share
from mcbn_protocol.signatures import Envelope
from tests.properties.property_lab import JSON, Time, network

CORRELATION_ID: Final = "01234567-89ab-cdef-0123-456789abcdef"
PROBLEM: Final = "application/problem+json"

Alter = Callable[[Release], Release]

SIGNED_LIES: Final[dict[str, Alter]] = {
    "another index": lambda release: replace(release, share_index=release.share_index - 1),
    "another epoch": lambda release: replace(release, epoch=release.epoch + 1),
    "another role": lambda release: replace(release, role=next(one for one in Role if one is not release.role)),
    "another manifest": lambda release: replace(release, manifest_hash=ManifestHash(bytes(32))),
    "a longer lease": lambda release: replace(release, lease_seconds=release.lease_seconds + 1),
    "a spoilt seal": lambda release: replace(release, sealed_share=os.urandom(len(release.sealed_share))),
}
"""What a participant may sign for this very request, and be blamed for."""

OUTCOMES: Final = (
    {"nothing": "released", "another share": "mismatch", "a signed refusal": "refused", "a 202": "pending"}
    | dict.fromkeys(SIGNED_LIES, "mismatch")
    | dict.fromkeys(
        (
            "another key",
            "a fellow's signature",
            "a replayed release",
            "a refusal of another request",
            "an unsigned refusal",
            "rubbish",
            "silence",
        ),
        "no_valid_answer",
    )
)
"""What each lie must come to at the workload. Blame (mismatch, refused) needs the participant's own signature."""


class FellowBroker:
    """One participant's broker. `lie` is a key of `OUTCOMES`."""

    def __init__(self, name: str, time: Time) -> None:
        self.name = name
        self.lie = "nothing"
        self._time = time
        self._released: list[Envelope] = []

    def answer(self, request: httpx.Request, agreed: AgreedManifest) -> httpx.Response:
        """Answer a request of a workload."""
        if request.url.path == "/v1/challenges":
            expires_at = self._time() + 120
            return _json(Challenge(b64u_encode(os.urandom(CHALLENGE_BYTES)), expires_at).to_bytes())
        asked = ReleaseRequest.parse(request.content)
        lies = {
            "silence": self._stay_silent,
            "rubbish": lambda _asked: _json(os.urandom(40)),
            "a 202": lambda _asked: httpx.Response(202, stream=httpx.ByteStream(b"")),
            "a signed refusal": self._refuse,
            "a refusal of another request": lambda asked: self._refuse(replace(asked, challenge="A" * 55)),
            "an unsigned refusal": lambda _asked: _problem(None),
        }
        return lies[self.lie](asked) if self.lie in lies else self._release(asked, agreed)

    def _stay_silent(self, _asked: ReleaseRequest) -> httpx.Response:
        raise httpx.ConnectError("nobody answers")

    def _release(self, asked: ReleaseRequest, agreed: AgreedManifest) -> httpx.Response:
        alter = SIGNED_LIES.get(self.lie, lambda release: release)
        envelope = alter(self._honest(asked, agreed)).sign(self._key())
        self._released.append(envelope)
        return _json((self._released[0] if self.lie == "a replayed release" else envelope).to_bytes())

    def _key(self) -> Ed25519PrivateKey:
        if self.lie == "another key":
            return Ed25519PrivateKey.generate()
        return network().release_keys["bob" if self.lie == "a fellow's signature" else self.name]

    def _honest(self, asked: ReleaseRequest, agreed: AgreedManifest) -> Release:
        roster, epoch = network().roster, agreed.manifest.epoch
        binding, index = asked.binding(roster.hash, self.name), roster.share_index(self.name)
        share = Share(os.urandom(32)) if self.lie == "another share" else network().share(self.name, epoch)
        return Release(
            roster_hash=roster.hash,
            participant=self.name,
            epoch=epoch,
            manifest_hash=agreed.hash,
            role=asked.role,
            share_index=index,
            kem=asked.kem,
            binding=binding,
            issued_at=self._time(),
            lease_seconds=agreed.manifest.lease_seconds,
            audit_sequence=len(self._released) + 1,
            audit_hash=bytes(32),
            sealed_share=seal(asked.kem, asked.recipient_key, info=seal_info(binding, epoch, index), share=share),
        )

    def _refuse(self, asked: ReleaseRequest) -> httpx.Response:
        refusal = Refusal(
            roster_hash=network().roster.hash,
            participant=self.name,
            manifest_hash=asked.manifest_hash,
            role=asked.role,
            challenge=asked.challenge,
            binding=asked.binding(network().roster.hash, self.name),
            reason=REFUSAL_CODES["consent_paused"],
            check=None,
            issued_at=self._time(),
            correlation_id=CORRELATION_ID,
        )
        return _problem(refusal.sign(self._key()))

    @property
    def can_replay(self) -> bool:
        """Whether there is an earlier release of its own."""
        return bool(self._released)


def _json(body: bytes) -> httpx.Response:
    return httpx.Response(200, headers={"content-type": JSON}, stream=httpx.ByteStream(body))


def _problem(refusal: Envelope | None) -> httpx.Response:
    reason = REFUSAL_CODES["consent_paused"]
    body = Problem(reason, None, CORRELATION_ID, refusal).to_bytes()
    return httpx.Response(reason.status, headers={"content-type": PROBLEM}, stream=httpx.ByteStream(body))
