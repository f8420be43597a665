"""A small lab: real brokers, workloads as the attestation service sees them, and the road between, which Frank owns."""

import asyncio
import contextlib
import dataclasses
import functools
import json
import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mcbn_broker.api.routes import create_api
from mcbn_broker.appraisal import Policy
from mcbn_broker.attestation.confidential_space import LEEWAY_SECONDS, MAXIMUM_AGE_SECONDS, ConfidentialSpaceVerifier
from mcbn_broker.attestation.fetching import new_client
from mcbn_broker.attestation.key_sets import KeySetLimits, KeySets
from mcbn_broker.audit.chain import AuditKind
from mcbn_broker.keystore.home import Home
from mcbn_broker.keystore.identity import Identity
from mcbn_broker.keystore.kek import KeyEncryptionKey
from mcbn_broker.release.service import ReleaseService
from mcbn_broker.settings import Settings as BrokerSettings
from mcbn_broker.storage.ledger import GroupLedger
from mcbn_broker.storage.store import Store
from mcbn_broker.telemetry.metrics import Metrics
from mcbn_protocol.binding import audience, nonces
from mcbn_protocol.encoding import b64u_encode
from mcbn_protocol.identifiers import ManifestHash, Role
from mcbn_protocol.key_schedule import Scheme
from mcbn_protocol.manifest import AgreedManifest, BrokerAddress, ChannelKind, Manifest, RoleTerms
from mcbn_protocol.messages import Challenge, ChallengeRequest, Problem, Refusal, Release, ReleaseRequest
from mcbn_protocol.reference_values import ConfidentialSpaceReference, EvidenceKind
from mcbn_protocol.roster import Participant, Roster
from mcbn_protocol.sealing import Kem, RecipientKey, seal_info
from mcbn_protocol.shares import Share, commitment
from mcbn_protocol.signatures import Label, join, sign
from mcbn_simulator.claims import claims_for
from mcbn_simulator.demo.images import image_digest, machine_for, reference_for
from mcbn_simulator.issuer import Issuer
from mcbn_simulator.machine import SimulatedMachine
from mcbn_simulator.public_documents import issuer_app
from mcbn_workload.attester import TokenKind
from mcbn_workload.brokers.addresses import Connector
from mcbn_workload.brokers.gatherer import Gatherer
from mcbn_workload.brokers.leases import Clock
from mcbn_workload.brokers.quorum import Patience
from mcbn_workload.epoch_keys.ring import KeyRing
from mcbn_workload.settings import Settings

NOW: Final = 1_900_000_000
LEASE: Final = 60
NAMES: Final = ("alice", "bob", "carol")
NETWORK: Final = "lab"
ISSUER: Final = "https://issuer.example"
FRANK: Final = "frank.example"
_QUIET_TURNS: Final = 100
JSON: Final = {"content-type": "application/json"}

Meddling = Callable[[httpx.Request], Awaitable[httpx.Response | None]]
"""Sees a request on its way, and answers it or (None) lets it pass."""


@functools.cache
def issuer(url: str) -> Issuer:
    """An attestation service; its key is made once in each test process."""
    return Issuer(url)


def key_pair(kem: Kem = Kem.MLKEM768_X25519) -> RecipientKey:
    return RecipientKey.from_seed(kem, os.urandom(32))


def json_answer(body: bytes, status: int = 200) -> httpx.Response:
    """An answer whose body is still to be read, as from a network."""
    return httpx.Response(status, headers=JSON, stream=httpx.ByteStream(body))


class LabTime:
    """The only clocks: what brokers and workloads read, moved by the test alone."""

    def __init__(self) -> None:
        self.boottime = 1000.0
        self.wall = float(NOW)
        self.workload = Clock(boottime=lambda: self.boottime, wall=lambda: self.wall)
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []

    def now(self) -> int:
        return int(self.wall)

    def monotonic(self) -> float:
        return self.boottime

    async def sleep(self, seconds: float) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers.append((self.boottime + seconds, future))
        await future

    def advance(self, seconds: float) -> None:
        """Move both clocks, and wake who sleeps until then."""
        self.wall += seconds
        self.boottime += seconds
        due = [one for one in self._sleepers if one[0] <= self.boottime]
        self._sleepers = [one for one in self._sleepers if one not in due]
        for _, future in due:
            if not future.done():
                future.set_result(None)


async def until(holds: Callable[[], object]) -> None:
    """Let the event loop turn until something holds; what never holds is ended by the test's timeout."""
    while not holds():  # noqa: ASYNC110  # the state of shipped objects, which carry no events for tests
        await asyncio.sleep(0)


class Road(httpx.AsyncBaseTransport):
    """The network: hosts by name, a list of all that passed, and a place for Frank to stand."""

    def __init__(self) -> None:
        self.hosts: dict[str, httpx.AsyncBaseTransport] = {}
        self.passed: list[httpx.Request] = []
        self.meddle: Meddling | None = None
        self._travelling = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self._travelling += 1
        try:
            await request.aread()
            self.passed.append(request)
            answer = None if self.meddle is None else await self.meddle(request)
            return await self.deliver(request) if answer is None else answer
        finally:
            self._travelling -= 1

    async def quiet(self) -> None:
        """Wait until nothing is on its way, and nobody who is awake has anything more to send."""
        turns = 0
        while turns < _QUIET_TURNS:
            await asyncio.sleep(0)
            turns = 0 if self._travelling else turns + 1

    async def deliver(self, request: httpx.Request) -> httpx.Response:
        """Carry a request to its host, whoever may stand on the road."""
        if request.url.host not in self.hosts:
            raise httpx.ConnectError(f"no such host: {request.url.host}")
        answer = await self.hosts[request.url.host].handle_async_request(request)
        return httpx.Response(answer.status_code, headers=answer.headers, stream=httpx.ByteStream(await answer.aread()))

    def asked(self, host: str) -> list[httpx.Request]:
        return [request for request in self.passed if request.url.host == host]


class Handler(httpx.AsyncBaseTransport):
    """A host that answers as a function says."""

    def __init__(self, answer: Callable[[httpx.Request], httpx.Response]) -> None:
        self._answer = answer

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return self._answer(request)


class RoadConnector(Connector):
    """The workload's connector, with the road instead of sockets."""

    def __init__(self, road: Road) -> None:
        super().__init__()
        self._road = road

    def transport(self, address: BrokerAddress) -> httpx.AsyncBaseTransport:
        return self._road


class LabBroker:
    """One participant's real broker on a data directory of its own, and its consent key."""

    def __init__(self, lab: "Lab", name: str, folder: Path) -> None:
        self.lab = lab
        self.name = name
        self.root = folder / name
        self.consent_key = Ed25519PrivateKey.generate()
        self.policy = Policy()
        self._kek = KeyEncryptionKey(os.urandom(32))
        self.home = Home.create(self.root, Identity(NETWORK, name, f"https://{name}.example"), self._kek)
        self.home.note_consent_key(self.consent_key.public_key().public_bytes_raw())
        Store.initialise(self.home, clock=lab.time.now).close()

    def start(self) -> None:
        """Open the data directory as `serve` does, and answer on the road."""
        lab, time = self.lab, self.lab.time
        self.home = Home.open(self.root, self._kek)
        self.store = Store.open(self.home, clock=time.now)
        self._client = new_client(lab.road)
        self.key_sets = KeySets(
            self._client, limits=lab.key_set_limits, clock=time.monotonic, sleep=asyncio.sleep, jitter=lambda: 0.5
        )
        self.service = ReleaseService(
            participant=self.name,
            roster=self.home.roster(),
            release_key=self.home.release_key,
            challenge_key=self.home.challenge_key,
            store=self.store,
            ledger=GroupLedger(self.store),
            verifier=ConfidentialSpaceVerifier(
                self.key_sets, maximum_age_seconds=MAXIMUM_AGE_SECONDS, leeway_seconds=LEEWAY_SECONDS
            ),
            policy=lambda: self.policy,
            clock=time.now,
            random=os.urandom,
            challenge_seconds=120,
        )
        settings = BrokerSettings(
            data_dir=self.root, kek_file=self.root.parent / "kek", rate_per_second=0, in_flight=512
        )
        lab.road.hosts[f"{self.name}.example"] = httpx.ASGITransport(create_api(self.service, settings, Metrics()))

    async def stop(self) -> None:
        await self.service.aclose()
        await self.key_sets.aclose()
        await self._client.aclose()
        self.store.close()

    def copy_database(self) -> Path:
        """Copy the database, as a backup would, while the broker is stopped; without the keys and the anchor."""
        target = self.root.parent / f"{self.name}-backup"
        target.mkdir()
        for path in self.root.glob("broker.sqlite3*"):
            shutil.copy2(path, target)
        return target

    def restore_database(self, backup: Path) -> None:
        for path in self.root.glob("broker.sqlite3*"):
            path.unlink()
        for path in backup.iterdir():
            shutil.copy2(path, self.root)

    def records(self, kind: AuditKind) -> list[dict[str, Any]]:
        """The audit's records of one kind, oldest first; the chain is verified on the way."""
        self.store.verify_audit()
        return [one.record for one in self.store.audit_tail(10_000) if one.record["kind"] == kind.value]

    async def rejected(self) -> dict[str, int]:
        """What the audit's summaries count: requests turned away before a good signature."""
        await self.service.keep_house()
        total: dict[str, int] = {}
        for record in self.records(AuditKind.REJECTED_SUMMARY):
            for name, count in record["counts"].items():
                total[name] = total.get(name, 0) + count
        return total

    def share(self, epoch: int = 1) -> Share:
        return self.store.terms().shares[epoch]


class LabAttester:
    """What a VM's launcher gives: tokens of the issuer about this machine."""

    def __init__(self, lab: "Lab", machine: SimulatedMachine) -> None:
        self._lab = lab
        self._machine = machine

    async def token(self, kind: TokenKind, audience: str, nonces: tuple[str, ...]) -> str:
        return self._lab.token(self._machine, audience, nonces)


class Lab:
    """A network of three participants, of whom some run a broker, and whatever a test needs around it."""

    def __init__(self, folder: Path, running: Iterable[str], key_set_limits: KeySetLimits) -> None:
        self.folder = folder
        self.key_set_limits = key_set_limits
        self.endings: set[str] = set()
        self.time = LabTime()
        self.road = Road()
        self.road.hosts["issuer.example"] = httpx.ASGITransport(issuer_app(issuer(ISSUER)))
        self.client = httpx.AsyncClient(transport=self.road)
        self.brokers = {name: LabBroker(self, name, folder) for name in running}
        absent = [name for name in NAMES if name not in self.brokers]
        self._absent_keys = {name: (Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()) for name in absent}
        self.roster = Roster(NETWORK, tuple(self._participant(name) for name in NAMES), len(NAMES))

    def _keys(self, name: str) -> tuple[Ed25519PrivateKey, Ed25519PrivateKey]:
        """The consent key and the release key of a participant."""
        broker = self.brokers.get(name)
        return self._absent_keys[name] if broker is None else (broker.consent_key, broker.home.release_key)

    def _participant(self, name: str) -> Participant:
        consent, release = (key.public_key().public_bytes_raw() for key in self._keys(name))
        return Participant(name, consent, release)

    @property
    def alice(self) -> LabBroker:
        return self.brokers["alice"]

    @property
    def bob(self) -> LabBroker:
        return self.brokers["bob"]

    def _commitment(self, name: str, epoch: int) -> bytes:
        broker = self.brokers.get(name)
        if broker is not None:
            return broker.store.new_share(epoch).commitment
        return commitment(NETWORK, name, epoch, Share(os.urandom(32)))

    def manifest(self, previous: AgreedManifest | None = None, **changes: Any) -> Manifest:
        """The next epoch's manifest, with fresh commitments of all."""
        epoch = 1 if previous is None else previous.manifest.epoch + 1
        manifest = Manifest(
            roster_hash=self.roster.hash,
            epoch=epoch,
            previous=None if previous is None else previous.hash,
            valid_from=NOW - 100,
            valid_until=NOW + 100_000,
            overlap_seconds=0,
            scheme=Scheme.HKDF_SHA256,
            commitments={name: self._commitment(name, epoch) for name in NAMES},
            brokers={name: BrokerAddress(f"https://{name}.example", None) for name in NAMES},
            roles={role: RoleTerms(2, (reference(role),)) for role in Role},
            channels=(ChannelKind.TLS13_PSK,),
            kems=(Kem.MLKEM768_X25519,),
            lease_seconds=LEASE,
            insecure_http=False,
            insecure_scheme=False,
        )
        return dataclasses.replace(manifest, **changes)

    def bundle(self, manifest: Manifest, signers: Iterable[str] = NAMES) -> bytes:
        """A manifest with the signatures of these participants' real consent keys."""
        payload = manifest.to_payload()
        signed = [sign(self._keys(name)[0], name, Label.MANIFEST, self.roster.hash, payload) for name in signers]
        return join(signed).to_bytes()

    def open_epoch(self, previous: AgreedManifest | None = None, **changes: Any) -> AgreedManifest:
        """Let all agree on the next epoch, and every broker accept it."""
        bundle = self.bundle(self.manifest(previous, **changes))
        for broker in self.brokers.values():
            broker.store.accept_manifest(bundle)
        self.agreed = AgreedManifest.parse(bundle, self.roster)
        return self.agreed

    def token(
        self,
        machine: SimulatedMachine,
        for_audience: str,
        with_nonces: Iterable[str],
        *,
        age: int = 0,
        signer: str = ISSUER,
        claimed_issuer: str | None = None,
    ) -> str:
        """A token about a machine, signed by an issuer's key.

        Args:
            machine: The VM.
            for_audience: `aud`.
            with_nonces: `eat_nonce`.
            age: Seconds since it was issued.
            signer: The issuer whose key signs.
            claimed_issuer: `iss`, if not the signer's own.
        """
        claims = claims_for(
            machine,
            issuer=claimed_issuer or signer,
            audience=for_audience,
            nonces=tuple(with_nonces),
            now=self.time.wall - age,
        )
        return issuer(signer).sign(claims)

    def workload(self, role: Role = Role.CLIENT, number: int = 1, **changes: Any) -> "LabWorkload":
        """A genuine workload, or with changes one that Frank started differently."""
        return LabWorkload(self, role, dataclasses.replace(machine(role, number), **changes))

    def settings(self, role: Role, environment: Mapping[str, str] | None = None, **members: str) -> Settings:
        """Settings read from an image's files and Frank's environment (all brokers' true addresses if not given)."""
        folder = self.folder / "image"
        folder.mkdir(exist_ok=True)
        (folder / "roster.json").write_bytes(self.roster.canonical_bytes)
        path = folder / f"{role.value}.toml"
        told = {"role": role.value, "roster": "roster.json", "channel": "tls13-psk", "engine": "pyopenssl", **members}
        path.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in told.items()), encoding="utf-8")
        return Settings.load(path, self.environment() if environment is None else environment)

    @staticmethod
    def environment(**changes: str) -> dict[str, str]:
        """What a well-meaning operator sets, with changes."""
        return {f"MCBN_BROKER_{name.upper()}": f"https://{name}.example" for name in NAMES} | changes

    def gatherer(self, role: Role = Role.CLIENT, settings: Settings | None = None, **changes: Any) -> Gatherer:
        """The shipped gathering of a workload, on the road; changes are of its machine."""
        return Gatherer(
            settings or self.settings(role),
            LabAttester(self, dataclasses.replace(machine(role, 1), **changes)),
            clock=self.time.workload,
            patience=Patience(gather_seconds=60, jitter=lambda: 0.5, sleep=lambda _seconds: asyncio.sleep(0)),
            connector=RoadConnector(self.road),
        )

    def ring(self, role: Role = Role.CLIENT, settings: Settings | None = None, **changes: Any) -> KeyRing:
        """The shipped key ring of a workload; it sleeps on the lab's clock."""
        patience = Patience(gather_seconds=60, jitter=lambda: 0.5, sleep=self.time.sleep)
        gatherer = self.gatherer(role, settings, **changes)
        return KeyRing(gatherer, NAMES, clock=self.time.workload, patience=patience)

    def holds_no_share(self, data: bytes) -> None:
        """Check that bytes hold nothing that could be a share, open or sealed."""
        assert b"sealed_share" not in data
        for broker in self.brokers.values():
            for share in broker.store.terms().shares.values():
                raw = share.reveal()
                for form in (raw, raw.hex().encode(), b64u_encode(raw).encode()):
                    assert form not in data

    def refused(
        self,
        answer: httpx.Response,
        code: str,
        *,
        check: str | None = None,
        signed_over: ReleaseRequest | None,
        by: str = "alice",
    ) -> None:
        """Check that an answer is exactly this refusal: no share, the code, the check, and signed or not.

        Args:
            answer: The broker's.
            code: The refusal's.
            check: The failing check's name.
            signed_over: The request over which the participant must have signed it; None if it must be unsigned.
            by: The participant.
        """
        self.holds_no_share(answer.content)
        assert answer.headers["content-type"] == "application/problem+json"
        problem = Problem.parse(answer.content)
        assert (problem.reason.code, problem.check, answer.status_code) == (code, check, problem.reason.status)
        if signed_over is None:
            assert problem.unverified_refusal is None
            return
        assert problem.unverified_refusal is not None
        refusal = Refusal.from_envelope(problem.unverified_refusal, participant=by, roster=self.roster)
        assert (refusal.reason.code, refusal.check, refusal.challenge) == (code, check, signed_over.challenge)
        assert refusal.binding == signed_over.binding(self.roster.hash, by)

    def released(self, answer: httpx.Response, workload: "LabWorkload", by: str = "alice") -> Release:
        """Check that an answer is a signed release whose share this workload, and it alone, can open."""
        assert answer.status_code == httpx.codes.OK, answer.text
        release = Release.parse(answer.content, participant=by, roster=self.roster)
        info = seal_info(release.binding, release.epoch, release.share_index)
        share = workload.key.open(release.sealed_share, info=info)
        assert share.reveal() == self.brokers[by].share(release.epoch).reveal()
        assert self.brokers[by].records(AuditKind.RELEASE)[-1]["binding"] == b64u_encode(release.binding)
        return release


@dataclass
class LabWorkload:
    """A workload that is asked for one step at a time, so that Frank can stand between the steps."""

    lab: Lab
    role: Role
    machine: SimulatedMachine

    def __post_init__(self) -> None:
        self.key = key_pair()

    async def ask_challenge(
        self, by: str = "alice", *, role: Role | None = None, manifest_hash: ManifestHash | None = None
    ) -> httpx.Response:
        asked = ChallengeRequest(role or self.role, manifest_hash or self.lab.agreed.hash)
        return await self.lab.client.post(f"https://{by}.example/v1/challenges", content=asked.to_bytes(), headers=JSON)

    async def challenge(self, by: str = "alice", **asked: Any) -> str:
        answer = await self.ask_challenge(by, **asked)
        assert answer.status_code == httpx.codes.OK, answer.text
        return Challenge.parse(answer.content).challenge

    def request(self, challenge: str, by: str = "alice", *, to: str | None = None, **token: Any) -> ReleaseRequest:
        """A request with evidence for a challenge.

        Args:
            challenge: The challenge.
            by: The participant for whom the binding is made.
            to: The participant for whom the token is asked, if another.
            token: What is wrong with the token; see `Lab.token`.
        """
        asked = ReleaseRequest(
            challenge=challenge,
            role=self.role,
            manifest_hash=self.lab.agreed.hash,
            kind=EvidenceKind.CONFIDENTIAL_SPACE,
            unverified_token="e30.e30.e30",
            kem=self.key.kem,
            recipient_key=self.key.public_bytes,
            audit_heads=(),
        )
        binding = asked.binding(self.lab.roster.hash, by)
        meant_for = audience(self.lab.roster.hash, to or by)
        evidence = self.lab.token(self.machine, meant_for, nonces(challenge, binding), **token)
        return dataclasses.replace(asked, unverified_token=evidence)

    async def send(self, request: ReleaseRequest, by: str = "alice") -> httpx.Response:
        body = request.to_bytes()
        return await self.lab.client.post(f"https://{by}.example/v1/releases", content=body, headers=JSON)

    async def is_served(self, by: str = "alice") -> Release:
        """The control: a genuine request of this workload is released."""
        answer = await self.send(self.request(await self.challenge(by), by), by)
        return self.lab.released(answer, self, by)


def machine(role: Role, number: int) -> SimulatedMachine:
    """A VM that runs the agreed image as agreed."""
    return machine_for(role, f"{role.value}-{number}", 10 * number + list(Role).index(role), _digest(role))


def _digest(role: Role) -> str:
    return image_digest(role, b"attacks")


def reference(role: Role) -> ConfidentialSpaceReference:
    """The reference values on which everybody agrees for a role."""
    return reference_for(role, machine(role, 1), issuer=ISSUER, participants=NAMES)


@contextlib.asynccontextmanager
async def new_lab(
    folder: Path, *running: str, key_set_limits: KeySetLimits | None = None, **terms: Any
) -> AsyncIterator[Lab]:
    """Set up a network whose named participants run brokers, all of which accepted epoch 1 and allow releases."""
    lab = Lab(folder, running, key_set_limits or KeySetLimits())
    for broker in lab.brokers.values():
        broker.home.adopt_roster(lab.roster.canonical_bytes)
        broker.start()
    lab.open_epoch(**terms)
    for broker in lab.brokers.values():
        broker.store.allow()
    try:
        yield lab
    finally:
        for broker in lab.brokers.values():
            await broker.stop()
        await lab.client.aclose()
