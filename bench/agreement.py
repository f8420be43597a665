"""A throwaway network: keys, a roster, a manifest that all have signed, and one real data directory."""

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mcbn_broker.keystore.home import Home
from mcbn_broker.keystore.identity import Identity
from mcbn_broker.keystore.kek import create_kek
from mcbn_broker.storage.store import Store
from mcbn_protocol.identifiers import Role
from mcbn_protocol.key_schedule import Scheme
from mcbn_protocol.manifest import AgreedManifest, BrokerAddress, ChannelKind, Manifest, RoleTerms
from mcbn_protocol.roster import Participant, Roster
from mcbn_protocol.sealing import Kem
from mcbn_protocol.shares import Share, commitment
from mcbn_protocol.signatures import Label, join, sign
from mcbn_simulator.demo.images import image_digest, machine_for, reference_for
from mcbn_simulator.machine import SimulatedMachine

NETWORK: Final = "bench"
INSTANCES: Final = 100
LEASE_SECONDS: Final = 300
_OPERATOR: Final = {Role.SERVER: {"MCBN_LISTEN": "127.0.0.1:4433"}, Role.CLIENT: {"MCBN_CONNECT": "127.0.0.1:4433"}}


def now() -> int:
    """Unix seconds."""
    return int(time.time())


def machine(role: Role, number: int, operator: Mapping[str, str] | None = None) -> SimulatedMachine:
    """Return one of the VMs that the manifest admits.

    Args:
        role: The image's role.
        number: Tells the VMs apart.
        operator: What the operator sets in its environment.
    """
    base = machine_for(role, f"{role.value}-{number}", number, image_digest(role, b"bench"))
    members = base.to_json() | {"env_override": dict(operator or _OPERATOR[role])}
    return SimulatedMachine.from_json({name: _listed(value) for name, value in members.items()})


def _listed(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


@dataclass(frozen=True)
class Party:
    """One participant whose keys this process holds."""

    name: str
    consent_key: Ed25519PrivateKey
    release_key: Ed25519PrivateKey
    share: Share

    @classmethod
    def fresh(cls, name: str) -> "Party":
        """Draw new keys and a share."""
        return cls(name, Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate(), Share(os.urandom(32)))


def roster_of(parties: Sequence[Party]) -> Roster:
    """Return the roster in which everybody is needed."""
    keys = ((one.name, one.consent_key.public_key(), one.release_key.public_key()) for one in parties)
    listed = tuple(
        Participant(name, consent.public_bytes_raw(), release.public_bytes_raw()) for name, consent, release in keys
    )
    return Roster(network=NETWORK, participants=listed, threshold=len(listed))


def agree(
    parties: Sequence[Party],
    roster: Roster,
    *,
    issuer: str,
    urls: Mapping[str, str],
    kems: tuple[Kem, ...],
    commitments: Mapping[str, bytes] | None = None,
) -> AgreedManifest:
    """Return the manifest of epoch 1 with everybody's signature.

    Args:
        parties: All of the roster.
        roster: Theirs.
        issuer: The simulated attestation service.
        urls: Of the brokers, by participant.
        kems: Preferred first.
        commitments: Where they are not of the parties' own shares.
    """
    own = {one.name: commitment(NETWORK, one.name, 1, one.share) for one in parties}
    manifest = Manifest(
        roster_hash=roster.hash,
        epoch=1,
        previous=None,
        valid_from=now() - 60,
        valid_until=now() + 86_400,
        overlap_seconds=0,
        scheme=Scheme.HKDF_SHA256,
        commitments=own | dict(commitments or {}),
        brokers={name: BrokerAddress(url, None) for name, url in urls.items()},
        roles={role: _terms(role, issuer, roster.names) for role in Role},
        channels=(ChannelKind.TLS13_PSK,),
        kems=kems,
        lease_seconds=LEASE_SECONDS,
        insecure_http=False,
        insecure_scheme=False,
    )
    payload = manifest.to_payload()
    signed = [sign(one.consent_key, one.name, Label.MANIFEST, roster.hash, payload) for one in parties]
    return AgreedManifest.parse(join(signed).to_bytes(), roster)


def _terms(role: Role, issuer: str, names: Sequence[str]) -> RoleTerms:
    return RoleTerms(INSTANCES, (reference_for(role, machine(role, 0), issuer=issuer, participants=names),))


@dataclass(frozen=True)
class Broker:
    """A data directory whose broker can be served, with what its workloads need to know."""

    participant: str
    roster: Roster
    agreed: AgreedManifest
    witnesses: tuple[Party, ...]
    data_dir: Path
    kek_file: Path

    @property
    def environment(self) -> dict[str, str]:
        """The settings under which it is measured: free ports, and no limit for one address."""
        return {
            "MCBN_DATA_DIR": str(self.data_dir),
            "MCBN_KEK_FILE": str(self.kek_file),
            "MCBN_LISTEN": "127.0.0.1:0",
            "MCBN_HEALTH_LISTEN": "127.0.0.1:0",
            "MCBN_RATE_PER_SECOND": "0",
            "MCBN_IN_FLIGHT": "512",
            "MCBN_TRACEBACK": "1",
        }


def set_up_broker(folder: Path, issuer: str) -> Broker:
    """Make Alice's data directory through the real store, with a manifest of three participants, and allow releases."""
    data_dir, kek_file = folder / "state", folder / "kek"
    kek = create_kek(kek_file, data_dir)
    home = Home.create(data_dir, Identity(NETWORK, "alice", "http://127.0.0.1:1"), kek)
    alice = Party("alice", Ed25519PrivateKey.generate(), home.release_key, Share(os.urandom(32)))
    others = (Party.fresh("bob"), Party.fresh("carol"))
    parties = (alice, *others)
    roster = roster_of(parties)
    urls = {one.name: f"http://127.0.0.1:{number}" for number, one in enumerate(parties, 1)}
    with Store.initialise(home, clock=now) as store:
        home.note_consent_key(alice.consent_key.public_key().public_bytes_raw())
        home.adopt_roster(roster.canonical_bytes)
        committed = {"alice": store.new_share().commitment}
        kems = (Kem.MLKEM768_X25519, Kem.X25519)
        agreed = agree(parties, roster, issuer=issuer, urls=urls, kems=kems, commitments=committed)
        store.accept_manifest(agreed.bundle)
        store.allow()
    return Broker("alice", roster, agreed, others, data_dir, kek_file)
