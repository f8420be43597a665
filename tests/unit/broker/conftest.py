"""Alice's broker on a real data directory, its two fellow participants, and workloads with made-up tokens."""

import itertools
import os
import shutil
import uuid
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mcbn_broker.appraisal import Policy
from mcbn_broker.attestation.anchors import TrustAnchors
from mcbn_broker.attestation.errors import NotAuthentic, TokenCheck
from mcbn_broker.attestation.result import AttestationResult
from mcbn_broker.keystore.home import Home
from mcbn_broker.keystore.identity import Identity
from mcbn_broker.keystore.kek import KeyEncryptionKey
from mcbn_broker.release.service import ReleaseService
from mcbn_broker.storage.ledger import GroupLedger
from mcbn_broker.storage.store import Store
from mcbn_protocol.binding import audience, binding_hash, nonces
from mcbn_protocol.identifiers import ManifestHash, Role
from mcbn_protocol.key_schedule import Scheme
from mcbn_protocol.manifest import AgreedManifest, BrokerAddress, ChannelKind, Manifest, RoleTerms
from mcbn_protocol.messages import ChallengeRequest, ReleaseRequest
from mcbn_protocol.reference_values import (
    PRODUCTION_ISSUER,
    ConfidentialSpaceReference,
    EvidenceKind,
    SupportAttribute,
)
from mcbn_protocol.roster import Participant, Roster
from mcbn_protocol.sealing import Kem, RecipientKey
from mcbn_protocol.signatures import Envelope, Label, join, sign

NOW = 1_900_000_000
NAMES = ("alice", "bob", "carol")
DIGESTS = {Role.CLIENT: "sha256:" + "c1" * 32, Role.SERVER: "sha256:" + "5e" * 32}
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass
class Clock:
    """A clock that only tests move."""

    now: int = NOW

    def __call__(self) -> int:
        return self.now


def reference(role: Role) -> ConfidentialSpaceReference:
    return ConfidentialSpaceReference(
        issuer=PRODUCTION_ISSUER,
        root=None,
        image_digests=(DIGESTS[role],),
        image_signatures=None,
        hwmodels=("GCP_AMD_SEV",),
        dbgstat="disabled-since-boot",
        support_attribute=SupportAttribute.STABLE,
        args=("/usr/local/bin/mcbn-workload", role.value),
        env={"PATH": PATH},
        env_override={},
        restart_policies=("Never",),
        monitoring_memory=False,
        project_numbers=("100000000001",),
        instance_ids=None,
        service_accounts=None,
        insecure_debug=False,
    )


def claims_of(role: Role, instance_id: str = "1001") -> dict[str, Any]:
    return {
        "aud": "x",
        "iss": PRODUCTION_ISSUER,
        "sub": "https://www.googleapis.com/compute/v1/projects/operator/zones/us-central1-a/instances/vm-1",
        "exp": NOW + 3590,
        "iat": NOW - 10,
        "nbf": NOW - 10,
        "eat_nonce": ["C" * 55, "B" * 43],
        "eat_profile": "https://cloud.google.com/confidential-computing/confidential-space/docs/reference/token-claims",
        "secboot": True,
        "oemid": 11129,
        "hwmodel": "GCP_AMD_SEV",
        "swname": "CONFIDENTIAL_SPACE",
        "swversion": ["250800"],
        "dbgstat": "disabled-since-boot",
        "submods": {
            "confidential_space": {
                "support_attributes": ["LATEST", "STABLE", "USABLE"],
                "monitoring_enabled": {"memory": False},
            },
            "container": {
                "image_reference": "registry.example/workload:latest",
                "image_digest": DIGESTS[role],
                "restart_policy": "Never",
                "image_id": "sha256:" + "cd" * 32,
                "env": {"PATH": PATH, "HOSTNAME": "vm-1"},
                "args": ["/usr/local/bin/mcbn-workload", role.value],
            },
            "gce": {
                "zone": "us-central1-a",
                "project_id": "operator",
                "project_number": "100000000001",
                "instance_name": "vm-1",
                "instance_id": instance_id,
            },
        },
        "google_service_accounts": ["workload@operator.iam.gserviceaccount.com"],
    }


class TokenBook:
    """An attestation service and its verifier in one: a token is a random name for what was said about a workload."""

    def __init__(self) -> None:
        self._said: dict[str, tuple[str, frozenset[str], dict[str, Any]]] = {}
        self.error: Exception | None = None
        self.before_answer: Any = None

    def token(self, audience: str, nonces: tuple[str, str], claims: dict[str, Any]) -> str:
        name = f"{os.urandom(8).hex()}.token.canary"
        self._said[name] = (audience, frozenset(nonces), claims)
        return name

    async def verify(
        self, unverified_token: str, *, anchors: TrustAnchors, audience: str, nonces: tuple[str, str], now: int
    ) -> AttestationResult:
        if self.error is not None:
            raise self.error
        if unverified_token not in self._said:
            raise NotAuthentic(TokenCheck.SIGNATURE, "unknown token")
        for_audience, with_nonces, claims = self._said[unverified_token]
        if for_audience != audience:
            raise NotAuthentic(TokenCheck.AUDIENCE, "another broker's")
        if with_nonces != frozenset(nonces):
            raise NotAuthentic(TokenCheck.NONCES, "other nonces")
        if claims["iss"] not in anchors.issuers:
            raise NotAuthentic(TokenCheck.ISSUER, "another issuer's")
        if self.before_answer is not None:
            self.before_answer()
        return AttestationResult(EvidenceKind.CONFIDENTIAL_SPACE, claims["iss"], None, claims)


@dataclass
class World:
    """Everything that a test of Alice's broker needs."""

    root: Path
    kek: KeyEncryptionKey
    home: Home
    roster: Roster
    consent_keys: dict[str, Ed25519PrivateKey]
    release_keys: dict[str, Ed25519PrivateKey]
    clock: Clock = field(default_factory=Clock)
    tokens: TokenBook = field(default_factory=TokenBook)

    def initialise(self) -> Store:
        return Store.initialise(self.home, clock=self.clock)

    def open(self) -> Store:
        return Store.open(Home.open(self.root, self.kek), clock=self.clock)

    def manifest(self, store: Store, *, epoch: int = 1, previous: AgreedManifest | None = None, **changes) -> Manifest:
        mine = {one.epoch: one.commitment for one in store.shares()}
        return replace(
            Manifest(
                roster_hash=self.roster.hash,
                epoch=epoch,
                previous=None if previous is None else previous.hash,
                valid_from=NOW - 100,
                valid_until=NOW + 100_000,
                overlap_seconds=600,
                scheme=Scheme.HKDF_SHA256,
                commitments={"alice": mine.get(epoch, os.urandom(32)), "bob": os.urandom(32), "carol": os.urandom(32)},
                brokers={name: BrokerAddress(f"https://{name}.example", None) for name in NAMES},
                roles={role: RoleTerms(2, (reference(role),)) for role in Role},
                channels=(ChannelKind.TLS13_PSK,),
                kems=(Kem.MLKEM768_X25519, Kem.X25519),
                lease_seconds=300,
                insecure_http=False,
                insecure_scheme=False,
            ),
            **changes,
        )

    def bundle(self, manifest: Manifest, signers=NAMES) -> bytes:
        payload = manifest.to_payload()
        keys = self.consent_keys
        return join([sign(keys[name], name, Label.MANIFEST, self.roster.hash, payload) for name in signers]).to_bytes()

    def open_epoch(self, store: Store, *, previous: AgreedManifest | None = None, **changes) -> AgreedManifest:
        epoch = changes.pop("epoch", 1 if previous is None else previous.manifest.epoch + 1)
        store.new_share(epoch)
        return store.accept_manifest(self.bundle(self.manifest(store, epoch=epoch, previous=previous, **changes)))

    def service(self, store: Store, *, ledger: Any = None, **changes) -> ReleaseService:
        arguments: dict[str, Any] = {
            "participant": "alice",
            "roster": self.roster,
            "release_key": store.home.release_key,
            "challenge_key": store.home.challenge_key,
            "store": store,
            "ledger": ledger or GroupLedger(store),
            "verifier": self.tokens,
            "policy": Policy,
            "clock": self.clock,
            "random": os.urandom,
            "challenge_seconds": 120,
        }
        return ReleaseService(**(arguments | changes))

    def workload(self, service: ReleaseService, agreed: AgreedManifest, role: Role = Role.CLIENT, **changes):
        return Workload(self, service, agreed.hash, role, **changes)

    def copy_database(self, name: str) -> Path:
        """Copy the database as a backup program would, with its journal."""
        target = self.root.parent / name
        target.mkdir()
        for path in self.root.glob("broker.sqlite3*"):
            shutil.copy2(path, target)
        return target

    def restore_database(self, source: Path) -> None:
        for path in self.root.glob("broker.sqlite3*"):
            path.unlink()
        for path in source.glob("broker.sqlite3*"):
            shutil.copy2(path, self.root)


@dataclass
class Workload:
    """One workload that asks Alice's broker."""

    world: World
    service: ReleaseService
    manifest_hash: ManifestHash
    role: Role
    instance_id: str = "1001"
    kem: Kem = Kem.X25519
    audit_heads: tuple[Envelope, ...] = ()
    counter = itertools.count(1)

    def __post_init__(self) -> None:
        self.key = RecipientKey.from_seed(self.kem, os.urandom(32))

    async def challenge(self) -> str:
        return (await self.service.challenge(ChallengeRequest(self.role, self.manifest_hash))).challenge

    def binding(self, challenge: str) -> bytes:
        return binding_hash(
            roster_hash=self.world.roster.hash,
            participant="alice",
            role=self.role,
            manifest_hash=self.manifest_hash,
            challenge=challenge,
            kem=self.kem,
            recipient_key=self.key.public_bytes,
        )

    def request(self, challenge: str, **claims: Any) -> ReleaseRequest:
        said = claims_of(self.role, self.instance_id) | claims
        to = audience(self.world.roster.hash, "alice")
        token = self.world.tokens.token(to, nonces(challenge, self.binding(challenge)), said)
        return ReleaseRequest(
            challenge=challenge,
            role=self.role,
            manifest_hash=self.manifest_hash,
            kind=EvidenceKind.CONFIDENTIAL_SPACE,
            unverified_token=token,
            kem=self.kem,
            recipient_key=self.key.public_bytes,
            audit_heads=self.audit_heads,
        )

    async def send(self, request: ReleaseRequest) -> Envelope:
        return await self.service.release(request, correlation_id=str(uuid.UUID(int=next(self.counter))))

    async def ask(self, **claims: Any) -> Envelope:
        return await self.send(self.request(await self.challenge(), **claims))


@pytest.fixture
def world(tmp_path) -> World:
    kek = KeyEncryptionKey(os.urandom(32))
    root = tmp_path / "alice"
    home = Home.create(root, Identity("demo", "alice", "https://alice.example"), kek)
    consent_keys = {name: Ed25519PrivateKey.generate() for name in NAMES}
    release_keys = {name: Ed25519PrivateKey.generate() for name in NAMES} | {"alice": home.release_key}
    participants = tuple(
        Participant(
            name,
            consent_keys[name].public_key().public_bytes_raw(),
            release_keys[name].public_key().public_bytes_raw(),
        )
        for name in NAMES
    )
    roster = Roster("demo", participants, 3)
    home.note_consent_key(roster.participant("alice").consent_key)
    home.adopt_roster(roster.canonical_bytes)
    return World(root, kek, home, roster, consent_keys, release_keys)


@pytest.fixture
def store(world):
    with world.initialise() as store:
        yield store


@pytest.fixture
def agreed(world, store) -> AgreedManifest:
    """The manifest of epoch 1, accepted, with consent allowed."""
    agreed = world.open_epoch(store)
    store.allow()
    return agreed


@pytest.fixture
async def service(world, store, agreed):
    service = world.service(store)
    yield service
    await service.aclose()
