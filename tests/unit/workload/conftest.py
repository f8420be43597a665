"""A whole network in memory: participants, a roster, signed manifests, and brokers that can be told to misbehave."""

import asyncio
import dataclasses
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mcbn_protocol.encoding import b64u_encode, canonical
from mcbn_protocol.identifiers import ManifestHash, Role
from mcbn_protocol.key_schedule import Scheme
from mcbn_protocol.manifest import AgreedManifest, BrokerAddress, ChannelKind, Manifest, RoleTerms
from mcbn_protocol.messages import (
    AuditHead,
    Challenge,
    ChallengeRequest,
    Problem,
    Refusal,
    Release,
    ReleaseRequest,
)
from mcbn_protocol.reference_values import ConfidentialSpaceReference, SupportAttribute
from mcbn_protocol.refusals import REFUSAL_CODES
from mcbn_protocol.roster import Participant, Roster
from mcbn_protocol.sealing import Kem, seal, seal_info
from mcbn_protocol.shares import Share, commitment
from mcbn_protocol.signatures import Envelope, Label, join, sign
from mcbn_workload.attester import TokenKind
from mcbn_workload.brokers.addresses import Connector
from mcbn_workload.brokers.client import Terms
from mcbn_workload.brokers.gatherer import Gatherer
from mcbn_workload.brokers.leases import Clock
from mcbn_workload.brokers.quorum import Patience, Quorum
from mcbn_workload.kinds import EngineName
from mcbn_workload.settings import Deadlines, Operator, Settings

NOW = 1_800_000_000
LEASE = 60
CORRELATION_ID = "01234567-89ab-cdef-0123-456789abcdef"
TOKEN = "e30.e30.c2ln"


def seeded(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def private_key(text: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(seeded(text))


class VirtualTime:
    """Both clocks and `sleep`, moved by the test alone."""

    def __init__(self) -> None:
        self.boottime = 1000.0
        self.wall = float(NOW)
        self.slept: list[float] = []
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []
        self.clock = Clock(boottime=lambda: self.boottime, wall=lambda: self.wall)

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers.append((self.boottime + seconds, future))
        await future

    async def settle(self) -> None:
        for _ in range(200):
            await asyncio.sleep(0)

    async def advance(self, seconds: float) -> None:
        """Move on, waking each sleeper at its own time."""
        await self.settle()
        until = self.boottime + seconds
        while due := [one for one in self._sleepers if one[0] <= until and not one[1].done()]:
            when, future = min(due, key=lambda one: one[0])
            self._move(max(when, self.boottime))
            self._sleepers.remove((when, future))
            future.set_result(None)
            await self.settle()
        self._move(until)
        await self.settle()

    def _move(self, boottime: float) -> None:
        self.wall += boottime - self.boottime
        self.boottime = boottime


class FakeAttester:
    def __init__(self) -> None:
        self.asked: list[tuple[str, tuple[str, ...]]] = []
        self.error: Exception | None = None

    async def token(self, kind: TokenKind, audience: str, nonces: tuple[str, ...]) -> str:
        self.asked.append((audience, nonces))
        if self.error is not None:
            raise self.error
        return TOKEN


@dataclass
class FakeBroker:
    """One participant's broker. Assign its hooks to make it misbehave."""

    network: "FakeNetwork"
    name: str
    agreed: AgreedManifest
    signing_key: Ed25519PrivateKey
    share: Share
    previous: tuple[AgreedManifest, Share] | None = None  # of the epoch before, served until its overlap is over
    lease_seconds: int = LEASE
    refusal: str | None = None
    refusal_key: Ed25519PrivateKey | None = None
    change_refusal: Callable[[Refusal], Refusal] = lambda one: one
    change_release: Callable[[Release], Release] = lambda one: one
    change_envelope: Callable[[Envelope], Envelope] = lambda one: one
    reply: Callable[[httpx.Request], Awaitable[httpx.Response] | httpx.Response | None] = lambda _request: None
    requests: list[httpx.Request] = field(default_factory=list)
    releases: list[ReleaseRequest] = field(default_factory=list)
    challenges: int = 0

    async def handle(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        reply = self.reply(request)
        if isinstance(reply, Awaitable):
            reply = await reply
        if reply is not None:
            return reply
        route = {
            "/v1/manifest": self._manifest,
            "/v1/audit-head": self._audit_head,
            "/v1/challenges": self._challenge,
            "/v1/releases": self._release,
        }[request.url.path]
        return route(request)

    def _manifest(self, _request: httpx.Request) -> httpx.Response:
        return self.json(self.agreed.bundle)

    def _audit_head(self, _request: httpx.Request) -> httpx.Response:
        roster_hash = self.network.roster.hash
        head = AuditHead(roster_hash, self.name, bytes(16), 7, bytes(32), int(self.network.time.wall))
        return self.json(head.sign(self.signing_key).to_bytes())

    def _challenge(self, request: httpx.Request) -> httpx.Response:
        if self._is_over(ChallengeRequest.parse(request.content).manifest_hash):
            return self.problem("manifest_not_accepted")
        self.challenges += 1
        raw = hashlib.sha512(f"{self.name} {self.challenges}".encode()).digest()[:41]
        return self.json(Challenge(b64u_encode(raw), int(self.network.time.wall) + 120).to_bytes())

    def _release(self, request: httpx.Request) -> httpx.Response:
        asked = ReleaseRequest.parse(request.content)
        self.releases.append(asked)
        if self.refusal is not None:
            return self.refuse(asked)
        envelope = self.change_release(self.release(asked)).sign(self.signing_key)
        return self.json(self.change_envelope(envelope).to_bytes())

    def _is_over(self, manifest_hash: ManifestHash) -> bool:
        if self.previous is None or self.previous[0].hash != manifest_hash:
            return False
        newer = self.agreed.manifest
        return self.network.time.wall >= newer.valid_from + newer.overlap_seconds

    def release(self, asked: ReleaseRequest) -> Release:
        agreed, share = self.agreed, self.share
        if self.previous is not None and self.previous[0].hash == asked.manifest_hash:
            agreed, share = self.previous
        manifest = agreed.manifest
        binding = asked.binding(self.network.roster.hash, self.name)
        index = self.network.roster.share_index(self.name)
        info = seal_info(binding, manifest.epoch, index)
        return Release(
            roster_hash=self.network.roster.hash,
            participant=self.name,
            epoch=manifest.epoch,
            manifest_hash=asked.manifest_hash,
            role=asked.role,
            share_index=index,
            kem=asked.kem,
            binding=binding,
            issued_at=int(self.network.time.wall),
            lease_seconds=self.lease_seconds,
            audit_sequence=len(self.releases),
            audit_hash=bytes(32),
            sealed_share=seal(asked.kem, asked.recipient_key, info=info, share=share),
        )

    def refuse(self, asked: ReleaseRequest) -> httpx.Response:
        reason = REFUSAL_CODES[self.refusal or ""]
        refusal = Refusal(
            roster_hash=self.network.roster.hash,
            participant=self.name,
            manifest_hash=asked.manifest_hash,
            role=asked.role,
            challenge=asked.challenge,
            binding=asked.binding(self.network.roster.hash, self.name),
            reason=reason,
            check=None,
            issued_at=int(self.network.time.wall),
            correlation_id=CORRELATION_ID,
        )
        envelope = self.change_refusal(refusal).sign(self.refusal_key or self.signing_key)
        return self.problem(self.refusal or "", envelope)

    @staticmethod
    def problem(code: str, envelope: Envelope | None = None, **headers: str) -> httpx.Response:
        reason = REFUSAL_CODES[code]
        body = Problem(reason, None, CORRELATION_ID, envelope).to_bytes()
        return httpx.Response(
            reason.status, content=body, headers={"Content-Type": "application/problem+json", **headers}
        )

    @staticmethod
    def json(body: bytes, status: int = 200) -> httpx.Response:
        return httpx.Response(status, content=body, headers={"Content-Type": "application/json"})


class FakeConnector(Connector):
    """Carries requests to the brokers in memory; a URL's host is `<participant>.example`."""

    def __init__(self, network: "FakeNetwork") -> None:
        super().__init__()
        self._network = network
        self.addresses: list[BrokerAddress] = []

    def transport(self, address: BrokerAddress) -> httpx.AsyncBaseTransport:
        self.addresses.append(address)
        return httpx.MockTransport(self._handle)

    async def _handle(self, request: httpx.Request) -> httpx.Response:
        host = request.url.host
        name = host.removesuffix(".example")
        if name not in self._network.brokers:
            raise httpx.ConnectError(f"no such host: {host}")
        return _unread(await self._network.brokers[name].handle(request))


def _unread(response: httpx.Response) -> httpx.Response:
    """A response that was made from bytes has been read; a real one has not."""
    if not response.is_stream_consumed:
        return response
    return httpx.Response(response.status_code, headers=response.headers, stream=httpx.ByteStream(response.content))


class FakeNetwork:
    def __init__(self, names: tuple[str, ...] = ("alice", "bob", "carol")) -> None:
        self.names = names
        self.time = VirtualTime()
        self.consent_keys = {name: private_key(f"consent {name}") for name in names}
        self.release_keys = {name: private_key(f"release {name}") for name in names}
        self.roster = Roster(
            network="net-1",
            participants=tuple(
                Participant(
                    name,
                    self.consent_keys[name].public_key().public_bytes_raw(),
                    self.release_keys[name].public_key().public_bytes_raw(),
                )
                for name in names
            ),
            threshold=len(names),
        )
        self.attester = FakeAttester()
        self.overrides: dict[str, str] = {}
        self.connector = FakeConnector(self)
        self.agreed = self.agree()
        self.brokers = {name: self.broker(name, self.agreed) for name in names}

    def share(self, name: str, epoch: int = 1) -> Share:
        return Share(seeded(f"share {name} {epoch}"))

    def broker(self, name: str, agreed: AgreedManifest) -> FakeBroker:
        return FakeBroker(self, name, agreed, self.release_keys[name], self.share(name, agreed.manifest.epoch))

    def manifest(self, epoch: int = 1, **changes: Any) -> Manifest:
        def reference(role: str) -> ConfidentialSpaceReference:
            return ConfidentialSpaceReference(
                issuer="https://issuer.example",
                root=None,
                image_digests=(f"sha256:{seeded(role).hex()}",),
                image_signatures=None,
                hwmodels=("GCP_INTEL_TDX",),
                dbgstat="disabled-since-boot",
                support_attribute=SupportAttribute.STABLE,
                args=("mcbn-workload", role),
                env={},
                env_override={},
                restart_policies=("Never",),
                monitoring_memory=False,
                project_numbers=(),
                instance_ids=None,
                service_accounts=None,
                insecure_debug=False,
            )

        network = self.roster.network
        manifest = Manifest(
            roster_hash=self.roster.hash,
            epoch=epoch,
            previous=None if epoch == 1 else ManifestHash(seeded("previous")),
            valid_from=NOW - 100,
            valid_until=NOW + 10**6,
            overlap_seconds=10**5,
            scheme=Scheme.HKDF_SHA256,
            commitments={name: commitment(network, name, epoch, self.share(name, epoch)) for name in self.names},
            brokers={name: BrokerAddress(f"https://{name}.example", None) for name in self.names},
            roles={role: RoleTerms(1, (reference(role.value),)) for role in Role},
            channels=(ChannelKind.TLS13_PSK,),
            kems=(Kem.X25519,),
            lease_seconds=LEASE,
            insecure_http=False,
            insecure_scheme=False,
        )
        return dataclasses.replace(manifest, **changes)

    def agree(self, epoch: int = 1, **changes: Any) -> AgreedManifest:
        payload = self.manifest(epoch, **changes).to_payload()
        bundle = join(
            [sign(self.consent_keys[name], name, Label.MANIFEST, self.roster.hash, payload) for name in self.names]
        )
        return AgreedManifest.parse(bundle.to_bytes(), self.roster)

    def open_epoch(self, epoch: int, **changes: Any) -> AgreedManifest:
        """Let every participant agree on a new epoch, with fresh shares. The one before is served as it says."""
        agreed = self.agree(epoch, **changes)
        for name, broker in self.brokers.items():
            broker.previous = (broker.agreed, broker.share) if broker.agreed.manifest.epoch < epoch else None
            broker.agreed, broker.share = agreed, self.share(name, epoch)
        return agreed

    def settings(self, role: Role = Role.SERVER, **changes: Any) -> Settings:
        operator = Operator(brokers={name: f"https://{name}.example" for name in self.names})
        settings = Settings(
            role=role,
            roster=self.roster,
            channel=ChannelKind.TLS13_PSK,
            engine=EngineName.PYOPENSSL,
            forward=None,
            listen=None,
            launcher_socket=Path("/nonexistent/launcher.sock"),
            deadlines=Deadlines(gather_seconds=5, request_seconds=2),
            insecure_loopback_brokers=False,
            operator=operator,
        )
        return dataclasses.replace(settings, **changes)

    def patience(self, **changes: Any) -> Patience:
        async def sleep(seconds: float) -> None:
            self.time.slept.append(seconds)
            await asyncio.sleep(0)

        patience = Patience(gather_seconds=60, jitter=lambda: 0.5, sleep=sleep)
        return dataclasses.replace(patience, **changes)

    def terms(self, **changes: Any) -> Terms:
        terms = Terms(
            roster=self.roster,
            agreed=self.agreed,
            role=Role.SERVER,
            attester=self.attester,
            clock=self.time.clock,
            random=lambda count: seeded("recipient")[:count],
            request_seconds=2,
            heads={},
        )
        return dataclasses.replace(terms, **changes)

    def quorum(self, patience: Patience | None = None, **changes: Any) -> Quorum:
        return Quorum(self.terms(**changes), self.connector, patience or self.patience(), self.overrides)

    def gatherer(self, patience: Patience | None = None, **changes: Any) -> Gatherer:
        return Gatherer(
            self.settings(**changes),
            self.attester,
            clock=self.time.clock,
            patience=patience or self.patience(),
            connector=self.connector,
        )

    def write_configuration(self, folder: Path, text: str) -> Path:
        (folder / "roster.json").write_bytes(self.roster.canonical_bytes)
        path = folder / "workload.toml"
        path.write_text(text, encoding="utf-8")
        return path


@pytest.fixture
def network() -> FakeNetwork:
    return FakeNetwork()


@pytest.fixture
def make_network() -> type[FakeNetwork]:
    return FakeNetwork


@pytest.fixture
def canonical_json():
    return canonical
