"""The real workload before three brokers on loopback, each of which may be told to lie in one way."""

import asyncio
import contextlib
import dataclasses
import datetime as dt
import ipaddress
import os
import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import NameOID

from mcbn_protocol.encoding import b64u_encode
from mcbn_protocol.identifiers import ManifestHash, Role, sha256
from mcbn_protocol.key_schedule import Scheme
from mcbn_protocol.limits import CHALLENGE_BYTES
from mcbn_protocol.manifest import AgreedManifest, BrokerAddress, ChannelKind, Manifest, RoleTerms
from mcbn_protocol.messages import AuditHead, Challenge, ChallengeRequest, Problem, Refusal, Release, ReleaseRequest
from mcbn_protocol.reference_values import ConfidentialSpaceReference, SupportAttribute
from mcbn_protocol.refusals import REFUSAL_CODES
from mcbn_protocol.roster import Participant, Roster
from mcbn_protocol.sealing import Kem, seal, seal_info
from mcbn_protocol.shares import Share, commitment
from mcbn_protocol.signatures import Envelope, Label, join, sign
from mcbn_workload.attester import TokenKind
from mcbn_workload.brokers.addresses import Connector
from mcbn_workload.brokers.gatherer import Gatherer
from mcbn_workload.brokers.leases import Clock
from mcbn_workload.brokers.quorum import Patience
from mcbn_workload.epoch_keys.ring import KeyRing
from mcbn_workload.kinds import EngineName
from mcbn_workload.settings import Deadlines, Operator, Settings

NAMES = ("alice", "bob", "carol")
NETWORK = "net-1"
LEASE_SECONDS = 60
CORRELATION_ID = "01234567-89ab-cdef-0123-456789abcdef"


def unchecked_share(value: bytes) -> Share:
    """Return a share that `Share` itself would refuse."""
    share = object.__new__(Share)
    share._value = value
    return share


class ShapedAttester:
    """Gives tokens of the right shape: the workload hands them on and looks at none."""

    async def token(self, kind: TokenKind, audience: str, nonces: tuple[str, ...]) -> str:
        return "e30.e30.c2ln"


@dataclass(frozen=True)
class Reply:
    """One HTTP answer, as it goes over the wire."""

    body: bytes = b""
    status: int = 200
    media_type: str | None = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        fields = {"content-length": str(len(self.body))} | dict(self.headers)
        if self.media_type is not None:
            fields["content-type"] = self.media_type
        lines = [f"HTTP/1.1 {self.status} -", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
        return "\r\n".join(lines).encode() + self.body


def problem(code: str, envelope: Envelope | None = None, **headers: str) -> Reply:
    reason = REFUSAL_CODES[code]
    body = Problem(reason, None, CORRELATION_ID, envelope).to_bytes()
    return Reply(body, reason.status, "application/problem+json", headers)


@dataclass
class Broker:
    """One participant's broker: honest, until a test assigns one of its hooks.

    Attributes:
        release_key: What it signs with.
        accepted: What it releases under: manifest and share, by manifest hash.
        bundle: What it gives to those who ask for the manifest.
        refuses: The code of the refusal that it signs for every request, or None.
        share_of: Chooses the share for a release.
        change_release: Alters a release before it is signed.
        change_refusal: Likewise a refusal.
        answer: Gives an answer of its own to a path and body; None for the honest one.
        change_reply: Alters what goes over the wire for a path.
        wire: Takes over the connection for a path; returns whether it did.
        asked: The paths it was asked for.
        releases: What it was asked to release.
        sent: Its answers, by path.
    """

    name: str
    roster: Roster
    release_key: Ed25519PrivateKey
    accepted: dict[ManifestHash, tuple[AgreedManifest, Share]] = field(default_factory=dict)
    bundle: bytes = b""
    refuses: str | None = None
    share_of: Callable[[Share], Share | Awaitable[Share]] = lambda share: share
    change_release: Callable[[Release, ReleaseRequest], Release] = lambda release, _asked: release
    change_refusal: Callable[[Refusal], Refusal] = lambda refusal: refusal
    answer: Callable[[str, bytes], Reply | None] = lambda _path, _body: None
    change_reply: Callable[[str, Reply], Reply] = lambda _path, reply: reply
    wire: Callable[[str, asyncio.StreamWriter], Awaitable[bool]] | None = None
    asked: list[str] = field(default_factory=list)
    releases: list[ReleaseRequest] = field(default_factory=list)
    sent: dict[str, list[Reply]] = field(default_factory=dict)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection's requests until it is closed."""
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            while True:
                path, body = await _read_request(reader)
                self.asked.append(path)
                if self.wire is not None and await self.wire(path, writer):
                    return
                reply = self.change_reply(path, self.answer(path, body) or await self._honest(path, body))
                self.sent.setdefault(path, []).append(reply)
                writer.write(reply.to_bytes())
                await writer.drain()

    async def _honest(self, path: str, body: bytes) -> Reply:
        if path == "/v1/manifest":
            return Reply(self.bundle)
        if path == "/v1/audit-head":
            return Reply(self._audit_head())
        return self._challenge(body) if path == "/v1/challenges" else await self._release(body)

    def _audit_head(self) -> bytes:
        head = AuditHead(self.roster.hash, self.name, bytes(16), 7, bytes(32), int(time.time()))
        return head.sign(self.release_key).to_bytes()

    def _challenge(self, body: bytes) -> Reply:
        if ChallengeRequest.parse(body).manifest_hash not in self.accepted:
            return problem("manifest_not_accepted")
        return Reply(Challenge(b64u_encode(os.urandom(CHALLENGE_BYTES)), int(time.time()) + 120).to_bytes())

    async def _release(self, body: bytes) -> Reply:
        asked = ReleaseRequest.parse(body)
        self.releases.append(asked)
        if self.refuses is not None:
            return self._refusal(self.refuses, asked)
        agreed, honest = self.accepted[asked.manifest_hash]
        chosen = self.share_of(honest)
        share = chosen if isinstance(chosen, Share) else await chosen
        release = self.change_release(self._honest_release(agreed, share, asked), asked)
        return Reply(release.sign(self.release_key).to_bytes())

    def _honest_release(self, agreed: AgreedManifest, share: Share, asked: ReleaseRequest) -> Release:
        binding, index = asked.binding(self.roster.hash, self.name), self.roster.share_index(self.name)
        info = seal_info(binding, agreed.manifest.epoch, index)
        return Release(
            roster_hash=self.roster.hash,
            participant=self.name,
            epoch=agreed.manifest.epoch,
            manifest_hash=agreed.hash,
            role=asked.role,
            share_index=index,
            kem=asked.kem,
            binding=binding,
            issued_at=int(time.time()),
            lease_seconds=agreed.manifest.lease_seconds,
            audit_sequence=len(self.releases),
            audit_hash=bytes(32),
            sealed_share=seal(asked.kem, asked.recipient_key, info=info, share=share),
        )

    def _refusal(self, code: str, asked: ReleaseRequest) -> Reply:
        refusal = Refusal(
            roster_hash=self.roster.hash,
            participant=self.name,
            manifest_hash=asked.manifest_hash,
            role=asked.role,
            challenge=asked.challenge,
            binding=asked.binding(self.roster.hash, self.name),
            reason=REFUSAL_CODES[code],
            check=None,
            issued_at=int(time.time()),
            correlation_id=CORRELATION_ID,
        )
        return problem(code, self.change_refusal(refusal).sign(self.release_key))


async def _read_request(reader: asyncio.StreamReader) -> tuple[str, bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    lengths = [int(line.split(":")[1]) for line in head if line.lower().startswith("content-length:")]
    return head[0].split(" ")[1], await reader.readexactly(lengths[0] if lengths else 0)


def _reference(role: Role) -> ConfidentialSpaceReference:
    return ConfidentialSpaceReference(
        issuer="https://issuer.example",
        root=None,
        image_digests=(f"sha256:{sha256(role.value.encode()).hex()}",),
        image_signatures=None,
        hwmodels=("GCP_INTEL_TDX",),
        dbgstat="disabled-since-boot",
        support_attribute=SupportAttribute.STABLE,
        args=("mcbn-workload", role.value),
        env={},
        env_override={},
        restart_policies=("Never",),
        monitoring_memory=False,
        project_numbers=(),
        instance_ids=None,
        service_accounts=None,
        insecure_debug=False,
    )


class Lab:
    """Alice, Bob and Carol with real keys, a manifest that all three signed, and their brokers on loopback ports."""

    def __init__(self) -> None:
        self.consent_keys = {name: Ed25519PrivateKey.generate() for name in NAMES}
        self.release_keys = {name: Ed25519PrivateKey.generate() for name in NAMES}
        self.roster = Roster(
            network=NETWORK,
            participants=tuple(
                Participant(
                    name,
                    self.consent_keys[name].public_key().public_bytes_raw(),
                    self.release_keys[name].public_key().public_bytes_raw(),
                )
                for name in NAMES
            ),
            threshold=len(NAMES),
        )
        self.sockets = {name: socket.create_server(("127.0.0.1", 0)) for name in NAMES}
        self.urls = {name: f"http://127.0.0.1:{self.port(name)}" for name in NAMES}
        self.brokers = {name: Broker(name, self.roster, self.release_keys[name]) for name in NAMES}
        self.shares: dict[tuple[str, int], Share] = {}
        self.slept: list[float] = []
        self.first = self.open_epoch(1)

    def port(self, name: str) -> int:
        """The port of a broker."""
        return int(self.sockets[name].getsockname()[1])

    def share(self, name: str, epoch: int = 1) -> Share:
        """A participant's own share of an epoch, drawn when it is first asked for."""
        return self.shares.setdefault((name, epoch), Share(os.urandom(32)))

    def manifest(self, epoch: int = 1, **changes: Any) -> Manifest:
        now = int(time.time())
        manifest = Manifest(
            roster_hash=self.roster.hash,
            epoch=epoch,
            previous=None if epoch == 1 else self.first.hash,
            valid_from=now - 60,
            valid_until=now + 86_400,
            overlap_seconds=0,
            scheme=Scheme.HKDF_SHA256,
            commitments={name: commitment(NETWORK, name, epoch, self.share(name, epoch)) for name in NAMES},
            brokers={name: BrokerAddress(self.urls[name], None) for name in NAMES},
            roles={role: RoleTerms(1, (_reference(role),)) for role in Role},
            channels=(ChannelKind.TLS13_PSK,),
            kems=(Kem.X25519,),
            lease_seconds=LEASE_SECONDS,
            insecure_http=False,
            insecure_scheme=False,
        )
        return dataclasses.replace(manifest, **changes)

    def agree(self, epoch: int = 1, **changes: Any) -> AgreedManifest:
        """Let all three sign a manifest."""
        bundle = self.signed(self.manifest(epoch, **changes).to_payload())
        return AgreedManifest.parse(bundle, self.roster)

    def signed(self, payload: Any) -> bytes:
        """Return the bundle of a payload that all three signed, whatever it says."""
        keys = self.consent_keys
        return join([sign(keys[name], name, Label.MANIFEST, self.roster.hash, payload) for name in NAMES]).to_bytes()

    def open_epoch(self, epoch: int, **changes: Any) -> AgreedManifest:
        """Let all three sign a manifest and accept it in place of every other."""
        agreed = self.agree(epoch, **changes)
        for name, broker in self.brokers.items():
            broker.bundle = agreed.bundle
            broker.accepted = {agreed.hash: (agreed, self.share(name, epoch))}
        return agreed

    def ring(
        self,
        *,
        gather_seconds: float = 20,
        request_seconds: int = 5,
        role: Role = Role.SERVER,
        file: Path | None = None,
    ) -> KeyRing:
        """Return a new workload's keys, of which none is gathered yet.

        Args:
            gather_seconds: The deadline of a gathering.
            request_seconds: The deadline of one request.
            role: The workload's.
            file: Where it finds the manifest; None to ask the brokers.
        """
        settings = Settings(
            role=role,
            roster=self.roster,
            channel=ChannelKind.TLS13_PSK,
            engine=EngineName.PYOPENSSL,
            forward=None,
            listen=None,
            launcher_socket=Path("/nonexistent/launcher.sock"),
            deadlines=Deadlines(request_seconds=request_seconds),
            insecure_loopback_brokers=True,
            operator=Operator(brokers={} if file else self.urls, manifest=str(file) if file else None),
        )
        patience = Patience(gather_seconds=gather_seconds, jitter=lambda: 0.5, sleep=self._sleep)
        clock = Clock()
        source = Gatherer(settings, ShapedAttester(), clock=clock, patience=patience, connector=Connector())
        return KeyRing(source, self.roster.names, clock=clock, patience=patience)

    async def _sleep(self, seconds: float) -> None:
        """Note a pause between attempts, and make it no longer than a turn of the loop."""
        self.slept.append(seconds)
        await asyncio.sleep(0)

    @contextlib.asynccontextmanager
    async def serving(self, contexts: Mapping[str, ssl.SSLContext] | None = None) -> AsyncIterator["Lab"]:
        """Listen for all three brokers, with TLS for those that have a context."""
        tasks: set[asyncio.Task[None]] = set()
        servers = [await self._listen(name, tasks, (contexts or {}).get(name)) for name in NAMES]
        try:
            yield self
        finally:
            for server in servers:
                server.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _listen(
        self, name: str, tasks: set[asyncio.Task[None]], context: ssl.SSLContext | None
    ) -> asyncio.Server:
        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            tasks.add(task)
            try:
                await self.brokers[name].serve(reader, writer)
            except asyncio.CancelledError:  # a handler that asyncio finds cancelled is reported as an error of its own
                pass
            finally:
                tasks.discard(task)
                writer.transport.abort()

        return await asyncio.start_server(connected, sock=self.sockets[name], ssl=context)


class Authority:
    """A certificate authority with one listener's certificate, for 127.0.0.1."""

    def __init__(self, folder: Path) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, folder.name)])
        folder.mkdir()
        self.pem = self._certificate(self._name, self._key, ca=True)
        key = ec.generate_private_key(ec.SECP256R1())
        leaf = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "broker")])
        (folder / "leaf.pem").write_text(self._certificate(leaf, key, ca=False))
        form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        (folder / "key.pem").write_bytes(key.private_bytes(*form))
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(folder / "leaf.pem", folder / "key.pem")

    def _certificate(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, *, ca: bool) -> str:
        now = dt.datetime.now(dt.UTC)
        day = dt.timedelta(days=1)
        usage = x509.KeyUsage(
            digital_signature=not ca,
            key_cert_sign=ca,
            crl_sign=ca,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            encipher_only=False,
            decipher_only=False,
        )
        own = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        builder = (
            x509.CertificateBuilder(self._name, subject, key.public_key(), x509.random_serial_number())
            .not_valid_before(now - day)
            .not_valid_after(now + day)
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(own, critical=False)
            .add_extension(issuer, critical=False)
            .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        )
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()
