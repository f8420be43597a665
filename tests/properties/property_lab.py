"""Alice's real broker, copied from a template that is made once, and everybody's keys around it."""

import atexit
import functools
import json
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from mcbn_broker.api.routes import create_api
from mcbn_broker.appraisal import Policy
from mcbn_broker.attestation.confidential_space import LEEWAY_SECONDS, MAXIMUM_AGE_SECONDS, ConfidentialSpaceVerifier
from mcbn_broker.attestation.errors import NotAuthentic, TokenCheck
from mcbn_broker.attestation.result import AttestationResult
from mcbn_broker.keystore.home import Home
from mcbn_broker.keystore.identity import Identity
from mcbn_broker.keystore.kek import KeyEncryptionKey
from mcbn_broker.release.service import ReleaseService
from mcbn_broker.settings import Settings
from mcbn_broker.storage.ledger import GroupLedger
from mcbn_broker.storage.store import Store
from mcbn_broker.telemetry.metrics import Metrics
from mcbn_protocol.binding import audience, nonces
from mcbn_protocol.encoding import JsonObject
from mcbn_protocol.identifiers import ManifestHash, Role
from mcbn_protocol.key_schedule import Scheme
from mcbn_protocol.manifest import BrokerAddress, ChannelKind, Manifest, RoleTerms
from mcbn_protocol.messages import Challenge, ChallengeRequest, ReleaseRequest
from mcbn_protocol.reference_values import EvidenceKind
from mcbn_protocol.roster import Participant, Roster
from mcbn_protocol.sealing import Kem, RecipientKey
from mcbn_protocol.shares import Share, commitment
from mcbn_protocol.signatures import Label, join, sign
from mcbn_simulator.claims import claims_for
from mcbn_simulator.demo.images import image_digest, machine_for, reference_for
from mcbn_simulator.machine import SimulatedMachine
from mcbn_simulator.signing_keys import SigningKey, encoded_claims
from tests.properties.asgi import Answer, ask

NOW: Final = 1_900_000_000
NAMES: Final = ("alice", "bob", "carol")
ALICE: Final = "alice"
NETWORK: Final = "properties"
ISSUER: Final = "https://issuer.example"
CHALLENGE_SECONDS: Final = 120
JSON: Final = "application/json"
_MEMORY: Final = Path("/dev/shm")
_DATABASE: Final = "broker.sqlite3"


@functools.cache
def _scratch() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="mcbn-properties-", dir=_MEMORY if os.access(_MEMORY, os.W_OK) else None))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def scratch_folder() -> Path:
    """A new folder, in memory where there is such a place: these tests commit thousands of times."""
    return Path(tempfile.mkdtemp(dir=_scratch()))


@dataclass
class Time:
    """The only clock, moved by the test alone."""

    now: int = NOW

    def __call__(self) -> int:
        return self.now


class Logged:
    """Takes the broker's log lines instead of a terminal; `text` is what was logged since it was last asked."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def __call__(self, _logger: Any, _method: str, event: Mapping[str, Any]) -> Any:
        self._lines.append(repr(dict(event)))
        raise structlog.DropEvent

    def text(self) -> str:
        lines, self._lines = self._lines, []
        return "\n".join(lines)


def machine(role: Role, number: int = 1) -> SimulatedMachine:
    """A VM that runs the agreed image as agreed."""
    digest = image_digest(role, b"properties")
    return machine_for(role, f"{role.value}-{number}", 10 * number + list(Role).index(role), digest)


class PublishedKeys:
    """The attestation service's key set, at hand."""

    def __init__(self, *keys: SigningKey) -> None:
        self._keys: dict[str, RSAPublicKey] = {key.kid: key.private_key.public_key() for key in keys}

    async def key(self, issuer: str, key_id: str) -> RSAPublicKey:
        if issuer != ISSUER or key_id not in self._keys:
            raise NotAuthentic(TokenCheck.KEY, "no such key")
        return self._keys[key_id]


class InterruptedVerifier:
    """The real verifier. Once, `meanwhile` happens between its answer and what the broker does with it."""

    def __init__(self, verifier: ConfidentialSpaceVerifier) -> None:
        self._verifier = verifier
        self.meanwhile: Callable[[], Awaitable[None]] | None = None

    async def verify(self, unverified_token: str, **expected: Any) -> AttestationResult:
        result = await self._verifier.verify(unverified_token, **expected)
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            await meanwhile()
        return result


class Network:
    """Three participants with their keys, the attestation service's keys, and Alice's data directory to be copied."""

    def __init__(self) -> None:
        self.kek = KeyEncryptionKey(os.urandom(32))
        self.signer, self.stranger = SigningKey.generate(), SigningKey.generate()
        self.template = scratch_folder() / ALICE
        home = Home.create(self.template, Identity(NETWORK, ALICE, f"https://{ALICE}.example"), self.kek)
        self.consent_keys = {name: Ed25519PrivateKey.generate() for name in NAMES}
        self.release_keys = {name: Ed25519PrivateKey.generate() for name in NAMES} | {ALICE: home.release_key}
        self.roster = Roster(NETWORK, tuple(self._participant(name) for name in NAMES), len(NAMES))
        self.audience = audience(self.roster.hash, ALICE)
        self._shares: dict[tuple[str, int], Share] = {}
        home.note_consent_key(self.roster.participant(ALICE).consent_key)
        home.adopt_roster(self.roster.canonical_bytes)
        with Store.initialise(home, clock=lambda: NOW) as store:
            bundle = self.bundle(self.manifest(1, commitment_of_alice=store.new_share(1).commitment).to_payload())
            self.first = store.accept_manifest(bundle)

    def _participant(self, name: str) -> Participant:
        consent, release = (
            keys[name].public_key().public_bytes_raw() for keys in (self.consent_keys, self.release_keys)
        )
        return Participant(name, consent, release)

    def share(self, name: str, epoch: int) -> Share:
        """Bob's or Carol's share of an epoch."""
        return self._shares.setdefault((name, epoch), Share(os.urandom(32)))

    def manifest(
        self, epoch: int, *, commitment_of_alice: bytes, previous: ManifestHash | None = None, **terms: Any
    ) -> Manifest:
        """The terms of an epoch, with changes."""
        others = {name: commitment(NETWORK, name, epoch, self.share(name, epoch)) for name in NAMES if name != ALICE}
        manifest = Manifest(
            roster_hash=self.roster.hash,
            epoch=epoch,
            previous=previous,
            valid_from=NOW - 100,
            valid_until=NOW + 1_000_000,
            overlap_seconds=0,
            scheme=Scheme.HKDF_SHA256,
            commitments={ALICE: commitment_of_alice, **others},
            brokers={name: BrokerAddress(f"https://{name}.example", None) for name in NAMES},
            roles={role: RoleTerms(2, (_reference(role),)) for role in Role},
            channels=(ChannelKind.TLS13_PSK,),
            kems=(Kem.X25519,),
            lease_seconds=60,
            insecure_http=False,
            insecure_scheme=False,
        )
        return replace(manifest, **terms)

    def signed(self, claims: Mapping[str, Any], *, by: SigningKey | None = None, key_id: str | None = None) -> str:
        """A token over these claims: by the attestation service, or by another key, under its own or another's id."""
        return (by or self.signer).sign(encoded_claims(dict(claims)), None if key_id is None else {"kid": key_id})

    def bundle(self, payload: JsonObject, signers: Sequence[str] = NAMES) -> bytes:
        """A payload, whatever it says, with the signatures of these participants' real consent keys."""
        keys, roster_hash = self.consent_keys, self.roster.hash
        return join([sign(keys[name], name, Label.MANIFEST, roster_hash, payload) for name in signers]).to_bytes()


@functools.cache
def network() -> Network:
    """The network of this process."""
    return Network()


def _reference(role: Role) -> Any:
    return reference_for(role, machine(role), issuer=ISSUER, participants=NAMES)


class Alice:
    """Alice's broker: store, service and the application in front of it."""

    def __init__(self, folder: Path, time: Time) -> None:
        self.time = time
        self.root = folder / ALICE
        shutil.copytree(network().template, self.root)
        self._folder = folder
        self._backups = 0

    def start(self) -> None:
        """Open the data directory as `serve` does."""
        home = Home.open(self.root, network().kek)
        self.store = Store.open(home, clock=self.time)
        verifier = ConfidentialSpaceVerifier(
            PublishedKeys(network().signer), maximum_age_seconds=MAXIMUM_AGE_SECONDS, leeway_seconds=LEEWAY_SECONDS
        )
        self.verifier = InterruptedVerifier(verifier)
        self.service = ReleaseService(
            participant=ALICE,
            roster=home.roster(),
            release_key=home.release_key,
            challenge_key=home.challenge_key,
            store=self.store,
            ledger=GroupLedger(self.store),
            verifier=self.verifier,
            policy=Policy,
            clock=self.time,
            random=os.urandom,
            challenge_seconds=CHALLENGE_SECONDS,
        )
        settings = Settings(data_dir=self.root, kek_file=self._folder / "kek", rate_per_second=0)
        self.app = create_api(self.service, settings, Metrics())
        self._reader = sqlite3.connect(f"file:{self.root / _DATABASE}?mode=ro", uri=True, isolation_level=None)

    async def stop(self) -> None:
        """Stop as `serve` does. What it wrote last can still be read until the next start."""
        await self.service.aclose()
        self.store.close()

    def release_file(self) -> None:
        """Close the reader's own connection, before the file is replaced."""
        self._reader.close()

    def discard(self) -> None:
        """Remove the data directory."""
        shutil.rmtree(self._folder)

    def backup(self) -> Path:
        """Copy the database, as a backup program does: without keys and anchor."""
        self._backups += 1
        target = self._folder / f"backup-{self._backups}"
        with closing(sqlite3.connect(self.root / _DATABASE)) as source, closing(sqlite3.connect(target)) as copy:
            source.backup(copy)
        target.chmod(0o600)
        return target

    def replace_database(self, backup: Path | None, *, lose_anchor: bool) -> None:
        """Put a backup, or nothing, in the place of the stopped broker's database."""
        for path in self.root.glob(f"{_DATABASE}*"):
            path.unlink()
        if backup is not None:
            shutil.copy2(backup, self.root / _DATABASE)
        if lose_anchor:
            (self.root / "anchor").unlink()

    def rows(self, after: int) -> list[tuple[int, bytes, bytes]]:
        """The audit's records beyond a sequence, as anybody who opens the file reads them now."""
        return list(
            self._reader.execute("SELECT sequence, record, hash FROM audit WHERE sequence > ? ORDER BY 1", (after,))
        )

    def consent(self) -> str:
        """The decision that is stored."""
        ((state,),) = self._reader.execute("SELECT state FROM consent")
        return str(state)

    async def post(self, path: str, body: bytes) -> Answer:
        return await ask(self.app, "POST", path, body, [(b"content-type", JSON.encode())])

    async def challenge(self, role: Role, manifest_hash: ManifestHash) -> str:
        answer = await self.post("/v1/challenges", ChallengeRequest(role, manifest_hash).to_bytes())
        assert answer.status == 200, answer.body
        return Challenge.parse(answer.body).challenge

    def secrets(self) -> dict[str, bytes]:
        """Everything that must never leave the broker unsealed, by what it is."""
        shares = {f"share of epoch {epoch}": one.reveal() for epoch, one in self.store.terms().shares.items()}
        return shares | {
            "release key": network().release_keys[ALICE].private_bytes_raw(),
            "challenge key": self.store.home.challenge_key.reveal(),
        }


@dataclass(frozen=True)
class Asked:
    """A release request with all that its workload knows of it."""

    request: ReleaseRequest
    key: RecipientKey
    claims: dict[str, Any]

    def with_token(self, token: str) -> ReleaseRequest:
        return replace(self.request, unverified_token=token)


def prepare(
    challenge: str, role: Role, manifest_hash: ManifestHash, *, vm: SimulatedMachine, now: int, kem: Kem = Kem.X25519
) -> Asked:
    """A request of a genuine workload on this VM, its token's claims, and its recipient key."""
    key = RecipientKey.from_seed(kem, os.urandom(32))
    request = ReleaseRequest(
        challenge=challenge,
        role=role,
        manifest_hash=manifest_hash,
        kind=EvidenceKind.CONFIDENTIAL_SPACE,
        unverified_token="e30.e30.e30",
        kem=kem,
        recipient_key=key.public_bytes,
        audit_heads=(),
    )
    pair = nonces(challenge, request.binding(network().roster.hash, ALICE))
    claims = claims_for(vm, issuer=ISSUER, audience=network().audience, nonces=pair, now=now)
    token = network().signer.sign(encoded_claims(claims))
    return Asked(replace(request, unverified_token=token), key, json.loads(json.dumps(claims)))
