"""Frank runs the machines: what he supplies can break availability, never secrecy or consent."""

import ast
import asyncio
import contextlib
import dataclasses
import datetime as dt
import importlib.util
import json
import os
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mcbn_broker.audit.chain import AuditKind
from mcbn_protocol.errors import MalformedError, ManifestError, SignatureInvalidError
from mcbn_protocol.identifiers import Role
from mcbn_protocol.manifest import AgreedManifest, Manifest
from mcbn_protocol.messages import Challenge, Release, ReleaseRequest
from mcbn_protocol.roster import Participant, Roster
from mcbn_protocol.sealing import seal, seal_info
from mcbn_protocol.shares import Share
from mcbn_protocol.signatures import Label, join, sign
from mcbn_workload.app.services import connect, serve
from mcbn_workload.app.stopping import Stopping
from mcbn_workload.brokers.errors import ManifestUnavailableError, QuorumIncompleteError
from mcbn_workload.channels import errors
from mcbn_workload.channels.engine import Engine
from mcbn_workload.channels.listener import ChannelServer, serve_channels
from mcbn_workload.channels.registry import Limits
from mcbn_workload.channels.streams import Channel, open_channel
from mcbn_workload.channels.tls_psk import TlsPskServer
from mcbn_workload.epoch_keys.epoch import LeaseEndedError
from mcbn_workload.epoch_keys.ring import KeyRing
from mcbn_workload.errors import ConfigurationError, WorkloadError
from mcbn_workload.tunnel.addresses import PlaintextAddressError
from tests.attacks.lab_brokers import (
    FRANK,
    ISSUER,
    LEASE,
    NAMES,
    Handler,
    Lab,
    json_answer,
    new_lab,
    until,
)

FAMILY = "Operator as adversary"

FRANKS_ISSUER = f"https://{FRANK}"
LIMITS = Limits(handshake_seconds=30)
OTHER_DIGEST = "sha256:" + "f0" * 32
LEFT_OUT = Path("key_log.py")  # for whoever debugs channels: production images are built without it


@pytest.fixture
async def lab(tmp_path):
    async with new_lab(tmp_path, "alice") as lab:
        yield lab


@pytest.fixture
async def three(tmp_path):
    async with new_lab(tmp_path, *NAMES) as lab:
        yield lab


async def echo(channel: Channel) -> None:
    while data := await channel.read():
        await channel.write(data)


@contextlib.asynccontextmanager
async def far_end(ring: KeyRing) -> AsyncIterator[ChannelServer]:
    """Serve an echo under a ring's keys, on a real listener."""
    async with serve_channels(
        "127.0.0.1", 0, TlsPskServer(ring.lookup), echo, guard=ring.guard, registry=ring.registry, limits=LIMITS
    ) as server:
        yield server


async def dial(ring: KeyRing, port: int, engine: Callable[[], Engine] | None = None) -> Channel:
    factory = engine or ring.client_engine
    return await open_channel("127.0.0.1", port, factory, guard=ring.guard, registry=ring.registry, limits=LIMITS)


async def started(lab: Lab, role: Role) -> KeyRing:
    """A ring whose keys are complete: the control that this network works."""
    ring = lab.ring(role)
    await ring.start()
    return ring


# -- fake brokers


class FranksBroker:
    """Speaks the protocol as Bob's broker does, but with Frank's release key and Frank's share."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._key = Ed25519PrivateKey.generate()

    def __call__(self, request: httpx.Request) -> httpx.Response:
        lab = self._lab
        if request.url.path == "/v1/challenges":
            return json_answer(Challenge("A" * 55, lab.time.now() + 120).to_bytes())
        if request.url.path != "/v1/releases":
            return httpx.Response(404)
        asked = ReleaseRequest.parse(request.content)
        binding, index = asked.binding(lab.roster.hash, "bob"), lab.roster.share_index("bob")
        info = seal_info(binding, lab.agreed.manifest.epoch, index)
        release = Release(
            roster_hash=lab.roster.hash,
            participant="bob",
            epoch=lab.agreed.manifest.epoch,
            manifest_hash=asked.manifest_hash,
            role=asked.role,
            share_index=index,
            kem=asked.kem,
            binding=binding,
            issued_at=lab.time.now(),
            lease_seconds=LEASE,
            audit_sequence=1,
            audit_hash=bytes(32),
            sealed_share=seal(asked.kem, asked.recipient_key, info=info, share=Share(os.urandom(32))),
        )
        return json_answer(release.sign(self._key).to_bytes())


async def test_fake_broker_in_the_environment(three):
    """Frank points Bob's address to a broker of his own, which gives a share that he knows."""
    three.road.hosts[FRANK] = Handler(FranksBroker(three))
    settings = three.settings(Role.CLIENT, three.environment(MCBN_BROKER_BOB=f"https://{FRANK}"))
    ring = three.ring(settings=settings)
    with pytest.raises(QuorumIncompleteError, match="no valid answer from bob") as caught:
        await ring.start()
    rows = {row.participant: row.outcome for row in caught.value.rows}
    assert rows == {"alice": "released", "bob": "no_valid_answer", "carol": "released"}
    assert {request.url.path for request in three.road.asked(FRANK)} == {
        "/v1/manifest",
        "/v1/challenges",
        "/v1/releases",
    }
    assert not ring.epochs
    with pytest.raises(LeaseEndedError):
        ring.client_engine()
    assert not three.bob.records(AuditKind.RELEASE)
    await started(three, Role.CLIENT)


async def test_every_address_in_the_environment_leads_to_alice(three):
    """Frank points every participant's address to Alice's broker, to make one share count three times."""
    alice = "https://alice.example"
    settings = three.settings(Role.CLIENT, three.environment(MCBN_BROKER_BOB=alice, MCBN_BROKER_CAROL=alice))
    ring = three.ring(settings=settings)
    with pytest.raises(QuorumIncompleteError) as caught:
        await ring.start()
    rows = {row.participant: row.outcome for row in caught.value.rows}
    assert rows == {"alice": "released", "bob": "no_valid_answer", "carol": "no_valid_answer"}
    assert await three.alice.rejected() == {"token_not_authentic/token.audience": 2}
    assert len(three.alice.records(AuditKind.RELEASE)) == 1
    assert not ring.epochs
    await started(three, Role.CLIENT)


async def test_broker_address_that_leads_into_the_plaintext_end(three):
    """Frank points a broker's address to the application's own plaintext port, to send it requests of his choice."""
    urls = (
        "http://127.0.0.1:8080",
        "http://localhost:8080",
        "https://[::1]:8080",
        "https://[::ffff:127.0.0.1]:8080",
        "http://0.0.0.0:8080",
        "http://2130706433:8080",
        f"http://{FRANK}",
        f"http://127.0.0.1:8080@{FRANK}",
    )
    for url in urls:
        for name in ("MCBN_BROKER_BOB", "MCBN_MANIFEST"):
            with pytest.raises(ConfigurationError, match=name):
                three.settings(Role.CLIENT, three.environment(**{name: url}))
    assert not three.road.passed
    await started(three, Role.CLIENT)


async def test_broker_that_redirects_into_the_plaintext_end(three):
    """Frank's broker answers with a redirect to the application's plaintext port, and the workload would follow."""
    there = {"location": "http://127.0.0.1:8080/delete-everything"}
    three.road.hosts[FRANK] = Handler(lambda _request: httpx.Response(307, headers=there, stream=httpx.ByteStream(b"")))
    settings = three.settings(Role.CLIENT, three.environment(MCBN_BROKER_BOB=f"https://{FRANK}"))
    with pytest.raises(QuorumIncompleteError, match="no valid answer from bob: status 307"):
        await three.ring(settings=settings).start()
    assert not three.road.asked("127.0.0.1")
    await started(three, Role.CLIENT)


# -- fake manifests


def franks_manifest(lab: Lab) -> Manifest:
    """What Frank would like everybody to have agreed: his own image as a client too."""
    manifest = lab.agreed.manifest
    (reference,) = manifest.roles[Role.CLIENT].evidence
    terms = dataclasses.replace(
        manifest.roles[Role.CLIENT], evidence=(dataclasses.replace(reference, image_digests=(OTHER_DIGEST,)),)
    )
    return dataclasses.replace(
        manifest, epoch=2, previous=lab.agreed.hash, roles={**manifest.roles, Role.CLIENT: terms}
    )


def self_signed(lab: Lab) -> bytes:
    """With the genuine roster's hash and names, and signatures of Frank's keys."""
    payload = franks_manifest(lab).to_payload()
    keys = {name: Ed25519PrivateKey.generate() for name in NAMES}
    return join([sign(key, name, Label.MANIFEST, lab.roster.hash, payload) for name, key in keys.items()]).to_bytes()


def signed_by_too_few(lab: Lab) -> bytes:
    """With two genuine signatures, of participants who would help Frank."""
    return lab.bundle(franks_manifest(lab), signers=("alice", "bob"))


def signed_twice_by_one(lab: Lab) -> bytes:
    """With two genuine signatures, and Bob's again under Carol's name."""
    members = json.loads(signed_by_too_few(lab))
    members["signatures"].append({**members["signatures"][1], "participant": "carol"})
    return json.dumps(members, sort_keys=True, separators=(",", ":")).encode()


def of_another_roster(lab: Lab) -> bytes:
    """Of a network of Frank's own, whose participants have the same names and whose signatures are right."""
    keys = {name: (Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()) for name in NAMES}
    participants = (
        Participant(name, *(key.public_key().public_bytes_raw() for key in both)) for name, both in keys.items()
    )
    roster = Roster(lab.roster.network, tuple(participants), len(NAMES))
    payload = dataclasses.replace(franks_manifest(lab), roster_hash=roster.hash).to_payload()
    signed = [sign(both[0], name, Label.MANIFEST, roster.hash, payload) for name, both in keys.items()]
    bundle = join(signed).to_bytes()
    assert AgreedManifest.parse(bundle, roster).manifest.epoch == 2  # for his own network it is right
    return bundle


def with_altered_terms(lab: Lab) -> bytes:
    """With everybody's signatures of the true manifest, and another image digest in it."""
    members = json.loads(lab.agreed.bundle)
    members["payload"]["roles"]["client"]["evidence"][0]["image_digests"] = [OTHER_DIGEST]
    return json.dumps(members, sort_keys=True, separators=(",", ":")).encode()


FAKES = [
    pytest.param(self_signed, SignatureInvalidError, "alice", id="self-signed"),
    pytest.param(signed_by_too_few, ManifestError, "missing: carol", id="signed by too few"),
    pytest.param(signed_twice_by_one, SignatureInvalidError, "carol", id="signed twice by one"),
    pytest.param(of_another_roster, ManifestError, "another roster", id="of another roster"),
    pytest.param(with_altered_terms, SignatureInvalidError, "alice", id="altered after signing"),
]


@pytest.mark.parametrize(("fake", "error", "said"), FAKES)
async def test_fake_manifest_given_to_a_workload(three, fake, error, said):
    """Frank serves a manifest of his own, which would let his image in, to a genuine workload."""
    bundle = fake(three)
    three.road.hosts[FRANK] = Handler(lambda _request: json_answer(bundle))
    only_franks = {"MCBN_MANIFEST": f"https://{FRANK}/v1/manifest"}
    ring = three.ring(settings=three.settings(Role.CLIENT, only_franks))
    with pytest.raises(ManifestUnavailableError, match=said):
        await ring.start()
    assert not ring.epochs
    assert not three.alice.records(AuditKind.RELEASE)
    beside_true_ones = three.settings(Role.CLIENT, three.environment(**only_franks))
    keys = await three.ring(settings=beside_true_ones).start()
    assert keys.agreed.hash == three.agreed.hash


@pytest.mark.parametrize(("fake", "error", "said"), FAKES)
async def test_fake_manifest_given_to_a_broker(lab, fake, error, said):
    """Frank has a participant accept a manifest of his own, and then asks with the image that it names."""
    bundle = fake(lab)
    with pytest.raises(error, match=said):
        lab.alice.store.accept_manifest(bundle)
    assert [one.agreed.hash for one in lab.alice.store.manifests()] == [lab.agreed.hash]
    frank = lab.workload(image_digest=OTHER_DIGEST)
    request = frank.request(await frank.challenge())
    lab.refused(await frank.send(request), "appraisal_failed", check="image_digest", signed_over=request)
    await lab.workload().is_served()


async def test_old_manifest_given_to_a_fresh_workload(three):
    """Frank restarts a VM of a removed epoch and hides the new manifest from it: the brokers are what it rests on.

    Known as: rollback of signed metadata (CVE-2022-29173 in go-tuf).
    """
    old = three.agreed
    three.open_epoch(old)
    path = three.folder / "old.json"
    path.write_bytes(old.bundle)
    ring = three.ring(settings=three.settings(Role.CLIENT, {"MCBN_MANIFEST": str(path)}))
    with pytest.raises(QuorumIncompleteError, match="manifest_not_accepted"):
        await ring.start()
    assert not ring.epochs
    assert not any(broker.records(AuditKind.RELEASE) for broker in three.brokers.values())
    assert (await three.ring().start()).epoch == 2


# -- the key log


async def test_key_log_in_the_process_environment(three, monkeypatch, tmp_path):
    """Frank sets SSLKEYLOGFILE, which many TLS libraries follow, while a real channel is opened."""
    key_log, control = tmp_path / "keys.log", tmp_path / "control.log"
    client, server = await started(three, Role.CLIENT), await started(three, Role.SERVER)
    monkeypatch.setenv("SSLKEYLOGFILE", str(control))
    assert ssl.create_default_context().keylog_filename == str(control)  # the variable does something elsewhere
    monkeypatch.setenv("SSLKEYLOGFILE", str(key_log))
    async with far_end(server) as listener, await dial(client, listener.addresses[0][1]) as channel:
        await channel.write(b"secret")
        assert await channel.read() == b"secret"
    assert not key_log.exists()


def test_the_workload_has_no_key_log_code():
    """Frank looks for any way in a production image, which lacks one module, by which TLS secrets are written down."""
    forbidden = ("keylog", "create_default_context", "_create_unverified_context", "sslkeylogfile")
    for package in ("mcbn_workload", "mcbn_protocol"):
        spec = importlib.util.find_spec(package)
        assert spec is not None
        assert spec.origin is not None
        folder = Path(spec.origin).parent
        paths = sorted(set(folder.rglob("*.py")) - {folder / LEFT_OUT})
        assert paths
        for path in paths:
            used = {name for name in _names_used(path) if any(word in name.lower() for word in forbidden)}
            assert not used, f"{path}: {used}"
            assert f"mcbn_workload.{LEFT_OUT.stem}" not in _imported_at_once(path), f"{path} needs what is left out"


def _imported_at_once(path: Path) -> set[str]:
    """What a module imports when it is loaded, with the names that it takes from there."""
    found: set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            found |= {one.name for one in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module or ""} | {f"{node.module}.{one.name}" for one in node.names}
    return found


def _names_used(path: Path) -> set[str]:
    """Every name and attribute in the code, and every string that could be one; not its comments and docstrings."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute):
            found.add(node.attr)
        elif isinstance(node, ast.Name):
            found.add(node.id)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.isidentifier():
            found.add(node.value)
    return found


@pytest.mark.parametrize(
    "name", ["SSLKEYLOGFILE", "LD_PRELOAD", "PYTHONPATH", "HTTPS_PROXY", "https_proxy", "SSL_CERT_FILE", "HOSTNAME"]
)
def test_override_that_no_manifest_may_allow(lab, name):
    """Frank persuades everybody to sign a manifest that lets him set a variable which steers TLS, loader or Python."""
    payload = lab.agreed.manifest.to_payload()
    roles = json.loads(json.dumps(payload["roles"]))
    roles["client"]["evidence"][0]["env_override"][name] = {"pattern": "*"}
    with pytest.raises(MalformedError, match="can never be allowed"):
        Manifest.from_payload({**payload, "roles": roles})
    assert Manifest.from_payload(payload) == lab.agreed.manifest


# -- a machine that was started differently


LISTEN = {"MCBN_CONNECT": "127.0.0.1:4433"}
MACHINES = {
    "variable outside the list": ({"env_override": {"MCBN_FORWARD": "127.0.0.1:1"}}, "env_override"),
    "value outside the pattern": ({"env_override": {"MCBN_CONNECT": "203.0.113.9:443"}}, "env_override"),
    "value that breaks out of the pattern": ({"env_override": {"MCBN_CONNECT": "127.0.0.1:1 x"}}, "env_override"),
    "one good and one bad variable": ({"env_override": {**LISTEN, "DEBUG": "1"}}, "env_override"),
    "key log": ({"env_override": {"SSLKEYLOGFILE": "/tmp/keys"}}, "env_override"),
    "loader": ({"env_override": {"LD_PRELOAD": "/tmp/frank.so"}}, "env_override"),
    "interpreter": ({"env_override": {"PYTHONPATH": "/tmp/frank"}}, "env_override"),
    "proxy": ({"env_override": {"HTTPS_PROXY": "http://frank.example:3128"}}, "env_override"),
    "other command": ({"cmd_override": ("sh", "-c", "cat /proc/*/environ")}, "args"),
    "the same command as an override": ({"cmd_override": ("client", "--config", "workload.toml")}, "cmd_override"),
    "other arguments": ({"cmd": ("client", "--config", "/tmp/frank.toml")}, "args"),
    "one argument more": ({"cmd": ("client", "--config", "workload.toml", "--verbose")}, "args"),
    "other entry point": ({"entrypoint": ("/bin/sh",)}, "args"),
    "other image": ({"image_digest": OTHER_DIGEST}, "image_digest"),
    "environment in the image's place": ({"env": {"PATH": "/tmp/frank"}}, "env"),
    "other hostname": (
        {
            "overrides": {
                "submods.container.env": {
                    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                    "HOSTNAME": "frank",
                }
            }
        },
        "env",
    ),
    "debug image": ({"debug": True}, "dbgstat"),
    "debug image that hides its support attributes": ({"overrides": {"dbgstat": "enabled"}}, "dbgstat"),
    "no memory encryption": ({"overrides": {"hwmodel": "GCP_SHIELDED_VM"}}, "hwmodel"),
    "plain confidential VM": ({"overrides": {"swname": "GCE"}}, "swname"),
    "no secure boot": ({"overrides": {"secboot": False}}, "secboot"),
    "another operator's project": ({"project_number": "999"}, "project_number"),
    "restarts at will": ({"restart_policy": "Always"}, "restart_policy"),
    "memory monitoring": (
        {"overrides": {"submods.confidential_space.monitoring_enabled": {"memory": True}}},
        "monitoring_memory",
    ),
    "support withdrawn": (
        {"overrides": {"submods.confidential_space.support_attributes": ["EXPERIMENTAL"]}},
        "support_attributes",
    ),
}


@pytest.mark.parametrize(("changes", "check"), MACHINES.values(), ids=MACHINES)
async def test_machine_started_differently(lab, changes, check):
    """Frank starts the agreed image in another way, or another one, on true hardware with a genuine token."""
    frank = lab.workload(**changes)
    request = frank.request(await frank.challenge())
    lab.refused(await frank.send(request), "appraisal_failed", check=check, signed_over=request)
    (record,) = lab.alice.records(AuditKind.REFUSAL)
    assert (record["code"], record["check"]) == ("appraisal_failed", check)
    assert record["failed_checks"][0]["name"] == check
    assert not lab.alice.records(AuditKind.RELEASE)
    spent = lab.workload().request(request.challenge)
    lab.refused(await frank.send(spent), "challenge_used", signed_over=spent)
    await lab.workload(env_override=LISTEN).is_served()


# -- discovery


async def test_discovery_that_names_a_plain_address(lab):
    """Frank has the discovery document name an address without TLS, where he would serve his own keys."""
    document = {"issuer": ISSUER, "jwks_uri": f"http://{FRANK}/jwks"}
    await _is_unavailable(lab, lambda _request: json_answer(json.dumps(document).encode()))
    assert not lab.road.asked(FRANK)


async def test_discovery_that_speaks_of_another_issuer(lab):
    """Frank answers with the genuine-looking discovery document of an issuer of his own."""
    document = {"issuer": FRANKS_ISSUER, "jwks_uri": f"{FRANKS_ISSUER}/jwks"}
    await _is_unavailable(lab, lambda _request: json_answer(json.dumps(document).encode()))
    assert not lab.road.asked(FRANK)


async def test_discovery_that_redirects_to_an_attacker(lab):
    """Frank answers the request for the discovery document with a redirect to himself."""
    there = {"location": f"{FRANKS_ISSUER}/.well-known/openid-configuration"}
    await _is_unavailable(lab, lambda _request: httpx.Response(302, headers=there, stream=httpx.ByteStream(b"")))
    assert not lab.road.asked(FRANK)


async def _is_unavailable(lab: Lab, answer: Callable[[httpx.Request], httpx.Response]) -> None:
    """Check that with this instead of the attestation service nothing is released, nor the challenge spent."""
    genuine = lab.road.hosts["issuer.example"]
    lab.road.hosts["issuer.example"] = Handler(answer)
    workload = lab.workload()
    request = workload.request(await workload.challenge())
    lab.refused(await workload.send(request), "keys_unavailable", signed_over=request)
    assert not lab.alice.records(AuditKind.RELEASE)
    assert not lab.alice.records(AuditKind.REFUSAL)
    lab.road.hosts["issuer.example"] = genuine
    lab.time.advance(60)
    lab.released(await workload.send(workload.request(request.challenge)), workload)


async def test_token_signed_with_an_attackers_key(lab):
    """Frank signs a token about a machine that does not exist with a key of his own, in the true issuer's name."""
    workload = lab.workload()
    challenge = await workload.challenge()
    request = workload.request(challenge, signer=FRANKS_ISSUER, claimed_issuer=ISSUER)
    lab.refused(await workload.send(request), "token_not_authentic", check="token.key", signed_over=request)
    assert not lab.road.asked(FRANK)
    assert not lab.alice.records(AuditKind.REFUSAL)
    lab.released(await workload.send(workload.request(challenge)), workload)


async def test_token_of_an_attackers_issuer(lab):
    """Frank runs an attestation service of his own, discovery and keys included, and lets the token name it.

    Known as: issuer unchecked (RFC 8725 section 3.8).
    """
    lab.road.hosts[FRANK] = Handler(lambda _request: pytest.fail("the broker talked to Frank"))
    workload = lab.workload()
    challenge = await workload.challenge()
    request = workload.request(challenge, signer=FRANKS_ISSUER)
    lab.refused(await workload.send(request), "token_not_authentic", check="token.issuer", signed_over=request)
    assert not lab.road.asked(FRANK)
    lab.released(await workload.send(workload.request(challenge)), workload)


async def test_far_end_address_of_an_attacker(three):
    """Frank's discovery gives the client his own address as the far end: he gets ciphertext that says nothing."""
    client, server = await started(three, Role.CLIENT), await started(three, Role.SERVER)
    heard = bytearray()

    async def listen_and_hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.extend(await reader.read(1 << 16))
        writer.close()

    async with await asyncio.start_server(listen_and_hang_up, "127.0.0.1", 0) as franks:
        with pytest.raises(errors.HandshakeCutError):
            await dial(client, franks.sockets[0].getsockname()[1])
    assert heard
    three.holds_no_share(bytes(heard))
    psk = client.epochs[0].psk
    assert psk is not None
    assert psk.reveal() not in heard
    await _talk(client, server)


# -- plaintext


@pytest.mark.parametrize("role", Role)
async def test_plaintext_address_outside_of_the_container(three, role):
    """Frank gets an image built that forwards plaintext to another machine: it is refused before anything starts."""
    member = "forward" if role is Role.SERVER else "listen"
    environment = three.environment(MCBN_LISTEN="127.0.0.1:0", MCBN_CONNECT="127.0.0.1:1")
    run = serve if role is Role.SERVER else connect
    for address in ("0.0.0.0:80", "203.0.113.9:80", "[::]:80", f"{FRANK}:80", "localhost:80", "[::1%eth0]:80"):
        settings = three.settings(role, environment, **{member: address})
        with Stopping() as stopping, pytest.raises(PlaintextAddressError):
            await run(settings, stopping)
    assert not three.road.passed
    inside = three.settings(role, environment, **{member: "127.0.0.1:8080"})
    await three.ring(role, inside).start()


# -- the far end


async def test_rogue_server_with_a_certificate_and_no_psk(three, tmp_path):
    """Frank listens at the far end's address, with a certificate for its name that every root would sign."""
    client, server = await started(three, Role.CLIENT), await started(three, Role.SERVER)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(_certificate(tmp_path))
    heard = bytearray()

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            heard.extend(await reader.read())
        writer.close()

    async with await asyncio.start_server(listen, "127.0.0.1", 0, ssl=context) as rogue:
        with pytest.raises(errors.PeerNotAuthenticatedError, match="certificate"):
            await dial(client, rogue.sockets[0].getsockname()[1])
    assert not heard
    await _talk(client, server)


async def test_reflected_client(three):
    """Frank sends everything that the client says back to it, so that it talks with itself (Selfie).

    Known as: the Selfie attack (Drucker and Gueron, IACR ePrint 2019/347; RFC 9257).
    """
    client, server = await started(three, Role.CLIENT), await started(three, Role.SERVER)

    async def reflect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                writer.write(data)
        writer.close()

    async with await asyncio.start_server(reflect, "127.0.0.1", 0) as mirror:
        with pytest.raises(errors.HandshakeError):
            await dial(client, mirror.sockets[0].getsockname()[1])
    await until(lambda: not len(client.registry))
    await _talk(client, server)


async def _talk(client: KeyRing, server: KeyRing) -> None:
    """The control: these two ends can open a channel."""
    async with far_end(server) as listener, await dial(client, listener.addresses[0][1]) as channel:
        await channel.write(b"hello")
        assert await channel.read() == b"hello"


def _certificate(folder: Path) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "far-end.example")])
    now, day = dt.datetime.now(dt.UTC), dt.timedelta(days=1)
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, now - day, now + day).sign(key, hashes.SHA256())
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = folder / "rogue.pem"
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM) + private)
    return path


# -- clocks and consent


def _wall_back(lab: Lab) -> None:
    lab.time.wall -= 3600
    lab.time.boottime += LEASE


def _boottime_stands(lab: Lab) -> None:
    lab.time.wall += LEASE


def _suspended(lab: Lab) -> None:
    """The VM slept: both clocks went on, and no timer of the event loop fired."""
    lab.time.wall += LEASE
    lab.time.boottime += LEASE


@pytest.mark.parametrize("step", [_wall_back, _boottime_stands, _suspended])
async def test_stepped_clock_of_the_vm(three, step):
    """Frank sets the VM's clock back, holds it, or suspends the VM, to keep keys beyond their lease."""
    client, server = await started(three, Role.CLIENT), await started(three, Role.SERVER)
    async with far_end(server) as listener:
        channel = await dial(client, listener.addresses[0][1])
        await channel.write(b"within the lease")
        assert await channel.read() == b"within the lease"
        (keys,) = client.epochs
        step(three)
        with pytest.raises(LeaseEndedError):
            await channel.write(b"after it")
        assert keys.psk is None
        assert not client.epochs
        with pytest.raises(LeaseEndedError):
            client.client_engine()
        await channel.wire.gone()
        await until(lambda: not len(server.registry))


async def test_lease_lasts_until_its_end_and_no_longer(three):
    """Nobody attacks: a second before the end of a lease everything works."""
    client, server = await started(three, Role.CLIENT), await started(three, Role.SERVER)
    three.time.advance(LEASE - 1)
    await _talk(client, server)
    three.time.advance(1)
    with pytest.raises(LeaseEndedError):
        client.guard()


async def test_pause_ends_an_open_channel_within_the_lease(three):
    """Frank keeps both VMs running after Bob has paused, and goes on using the channel that is open."""
    client, server = await started(three, Role.CLIENT), await started(three, Role.SERVER)
    async with _renewing(client), _renewing(server), far_end(server) as listener:
        channel = await dial(client, listener.addresses[0][1])
        three.time.advance(
            LEASE / 2 + 5
        )  # renewals are due, and everybody allows: the channel outlives its first lease
        await three.road.quiet()
        assert not any(ring.epochs[0].due() for ring in (client, server))
        three.time.advance(LEASE / 2 - 1)
        await channel.write(b"still agreed")
        assert await channel.read() == b"still agreed"

        three.bob.store.pause("enough")
        paused_at = three.time.now()
        released = len(three.bob.records(AuditKind.RELEASE))
        reading = asyncio.create_task(channel.read())
        while not reading.done():
            three.time.advance(1)
            await three.road.quiet()
        assert three.time.now() - paused_at <= LEASE
        with pytest.raises(WorkloadError):
            await reading
        with pytest.raises(LeaseEndedError) as caught:
            client.guard()
        assert caught.value.participants == ("bob",)
        await until(lambda: not server.epochs and not len(server.registry))
        assert isinstance(channel.reason, LeaseEndedError | errors.ChannelTruncatedError)
        with pytest.raises(LeaseEndedError):
            server.guard()
    assert len(three.bob.records(AuditKind.RELEASE)) == released
    assert {one["code"] for one in three.bob.records(AuditKind.REFUSAL)} == {"consent_paused"}
    three.bob.store.allow()
    await _talk(await started(three, Role.CLIENT), await started(three, Role.SERVER))


@contextlib.asynccontextmanager
async def _renewing(ring: KeyRing) -> AsyncIterator[None]:
    """Let a ring renew and watch its leases, as the shipped program does."""
    task: asyncio.Task[None] = asyncio.create_task(ring.run())
    await asyncio.sleep(0)
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
