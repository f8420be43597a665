"""The manifest: everything the participants agree on for one epoch, signed by every one of them."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Self, TypeVar

from mcbn_protocol import limits
from mcbn_protocol.encoding import JsonObject, JsonValue
from mcbn_protocol.errors import MalformedError, ManifestError
from mcbn_protocol.fields import Fields
from mcbn_protocol.identifiers import ManifestHash, Role, RosterHash, check_name, sha256
from mcbn_protocol.key_schedule import LEGACY_SCHEMES, Scheme
from mcbn_protocol.mutual_tls import MutualTlsTerms
from mcbn_protocol.participants import check_broker_url, plain_http_beyond_loopback
from mcbn_protocol.psk_terms import PskProfile, PskSuite
from mcbn_protocol.reference_values import ConfidentialSpaceReference
from mcbn_protocol.roster import Roster
from mcbn_protocol.sealing import Kem
from mcbn_protocol.signatures import Envelope, Label, verify

FORMAT: Final = "mcbn-manifest-v1"
TLS_CA: Final = re.compile(
    r"(-----BEGIN CERTIFICATE-----\r?\n([A-Za-z0-9+/=]{1,76}\r?\n)+-----END CERTIFICATE-----(\r?\n)*)+"
)
"""PEM certificates (RFC 7468 section 5) and nothing else: comments would be read differently by different libraries."""

T = TypeVar("T")


class ChannelKind(StrEnum):
    """The channels that a manifest may allow."""

    TLS13_PSK = "tls13-psk"
    TLS12_PSK = "tls12-psk"
    DTLS12_PSK = "dtls12-psk"
    MTLS13 = "mtls13"


PSK_CHANNELS: Final = frozenset({ChannelKind.TLS13_PSK, ChannelKind.TLS12_PSK, ChannelKind.DTLS12_PSK})
_OLD_SUITES: Final = frozenset({ChannelKind.TLS12_PSK, ChannelKind.DTLS12_PSK})


@dataclass(frozen=True)
class BrokerAddress:
    """Where a participant's broker answers: its base URL and, if its certificate is not a public one, the CA's PEM."""

    url: str
    tls_ca: str | None


@dataclass(frozen=True)
class RoleTerms:
    """What a workload of one role must be, and how many VMs may hold a lease at once."""

    instances: int
    evidence: tuple[ConfidentialSpaceReference, ...]


@dataclass(frozen=True)
class Manifest:
    """The terms of one epoch. Times are Unix seconds; hashes and commitments are 32 bytes.

    Attributes:
        roster_hash: The roster to which it belongs.
        epoch: Rises by one from manifest to manifest; the first is 1.
        previous: The hash of the manifest of the epoch before, or None for epoch 1.
        valid_from: From when brokers release under it.
        valid_until: When they stop.
        overlap_seconds: How long after `valid_from` the previous epoch still serves; 0 when revoking.
        scheme: How shares are combined.
        commitments: Each participant's commitment to its share.
        brokers: Each participant's broker.
        roles: The terms of each role.
        channels: Which channels the keys may open.
        kems: Which KEMs a workload may use, preferred first.
        lease_seconds: How long one release permits a workload to hold the share.
        insecure_http: Whether brokers may be reached over plain HTTP beyond loopback.
        insecure_scheme: Whether a legacy scheme may be used.
        mutual_tls: The keys in the certificates of the channel `mtls13`; None where it is not among the channels.
        insecure_psk_suites: Cipher suites without forward secrecy that `tls12-psk` and `dtls12-psk` may use too.
        insecure_psk_profile: Which old system's PSK and identity the channels use; None for our key schedule's.
        key_log: Whether an image that can may write its channels' secrets to a file, for whoever debugs them.
    """

    roster_hash: RosterHash
    epoch: int
    previous: ManifestHash | None
    valid_from: int
    valid_until: int
    overlap_seconds: int
    scheme: Scheme
    commitments: Mapping[str, bytes]
    brokers: Mapping[str, BrokerAddress]
    roles: Mapping[Role, RoleTerms]
    channels: tuple[ChannelKind, ...]
    kems: tuple[Kem, ...]
    lease_seconds: int
    insecure_http: bool
    insecure_scheme: bool
    mutual_tls: MutualTlsTerms | None = None
    insecure_psk_suites: tuple[PskSuite, ...] = ()
    insecure_psk_profile: PskProfile | None = None
    key_log: bool = False

    def __post_init__(self) -> None:
        for rule, broken in self._rules():
            if broken:
                raise ManifestError(f"manifest: {rule}")

    def _rules(self) -> list[tuple[str, bool]]:
        """Return each rule and whether it is broken."""
        length = self.valid_until - self.valid_from
        legacy = self.scheme in LEGACY_SCHEMES
        plain = any(plain_http_beyond_loopback(broker.url) for broker in self.brokers.values())
        mutual = ChannelKind.MTLS13 in self.channels
        channels = frozenset(self.channels)
        issuers = {one.simulated for terms in self.roles.values() for one in terms.evidence}
        client, server = (
            {digest for one in self.roles[role].evidence for digest in one.image_digests} for role in Role
        )
        signers = [
            {signer.key_id for one in self.roles[role].evidence for signer in one.image_signatures or ()}
            for role in Role
        ]
        shared_digests, shared_signers = client & server, signers[0] & signers[1]
        return [
            ("epoch 1 has no previous manifest, and every later one has", (self.epoch == 1) != (self.previous is None)),
            ("valid_until is at most two years after valid_from", not 0 < length <= limits.VALIDITY_SECONDS_MAX),
            ("overlap_seconds must not pass the validity", self.overlap_seconds > length),
            ("a legacy scheme needs insecure_scheme, and no other may have it", legacy != self.insecure_scheme),
            ("plain HTTP to a broker beyond loopback needs insecure_http", plain and not self.insecure_http),
            ("mutual_tls is there exactly when mtls13 is among the channels", mutual != (self.mutual_tls is not None)),
            (
                "insecure_psk_suites needs tls12-psk or dtls12-psk among the channels",
                bool(self.insecure_psk_suites) and not channels & _OLD_SUITES,
            ),
            (
                "insecure_psk_profile needs a channel under a PSK, a legacy scheme, and overlap_seconds = 0, because "
                "its identity is the same in each epoch",
                self.insecure_psk_profile is not None
                and not (channels & PSK_CHANNELS and legacy and self.overlap_seconds == 0),
            ),
            ("two participants have the same commitment", len(set(self.commitments.values())) != len(self.commitments)),
            ("simulated and production issuers cannot be mixed", len(issuers) != 1),
            (f"an image digest belongs to one role only, not to {_both(shared_digests)}", bool(shared_digests)),
            (
                f"a key that signs images belongs to one role only, not to {_both(shared_signers)}",
                bool(shared_signers),
            ),
        ]

    @property
    def simulated(self) -> bool:
        """Whether its tokens come from a simulator: then nothing is protected by hardware."""
        return any(one.simulated for terms in self.roles.values() for one in terms.evidence)

    @property
    def insecure_terms(self) -> tuple[str, ...]:
        """The insecure terms, to be shown to whoever signs or runs it."""
        debug = any(one.insecure_debug for terms in self.roles.values() for one in terms.evidence)
        flags = {
            "insecure_debug": debug,
            "insecure_http": self.insecure_http,
            "insecure_scheme": self.insecure_scheme,
            "insecure_psk_suites": bool(self.insecure_psk_suites),
            "insecure_psk_profile": self.insecure_psk_profile is not None,
            "key_log": self.key_log,
        }
        mutual = () if self.mutual_tls is None else self.mutual_tls.insecure_terms
        return (*(name for name, there in flags.items() if there), *mutual)

    def check_roster(self, roster: Roster) -> None:
        """Check that this manifest belongs to a roster and speaks of all of its participants.

        Raises:
            ManifestError: Another roster; a participant missing or unknown; a threshold that the scheme cannot serve.
        """
        if self.roster_hash != roster.hash:
            raise ManifestError("the manifest belongs to another roster: compare the roster hashes")
        for what, names in (("commitments", self.commitments), ("brokers", self.brokers)):
            if set(names) != set(roster.names):
                raise ManifestError(f"manifest: {what} must name every participant of the roster and nobody else")
        if roster.threshold != len(roster.participants):
            raise ManifestError(
                f"manifest: the scheme {self.scheme} combines the shares of all participants, "
                f"but the roster's threshold is {roster.threshold} of {len(roster.participants)}"
            )

    def to_payload(self) -> JsonObject:
        """Return the payload that is hashed and signed."""
        payload: JsonObject = {
            "format": FORMAT,
            "roster_hash": self.roster_hash.hex(),
            "epoch": self.epoch,
            "previous": None if self.previous is None else self.previous.hex(),
            "valid_from": self.valid_from,
            "valid_until": self.valid_until,
            "overlap_seconds": self.overlap_seconds,
            "scheme": self.scheme.value,
            "commitments": {name: value.hex() for name, value in self.commitments.items()},
            "brokers": {name: _broker_json(value) for name, value in self.brokers.items()},
            "roles": {role.value: _role_json(terms) for role, terms in self.roles.items()},
            "channels": [channel.value for channel in self.channels],
            "kems": [kem.value for kem in self.kems],
            "lease_seconds": self.lease_seconds,
        }
        for name in ("insecure_http", "insecure_scheme", "key_log"):
            if name in self.insecure_terms:
                payload[name] = True
        if self.mutual_tls is not None:
            payload["mutual_tls"] = self.mutual_tls.to_json()
        if self.insecure_psk_suites:
            payload["insecure_psk_suites"] = [suite.value for suite in self.insecure_psk_suites]
        if self.insecure_psk_profile is not None:
            payload["insecure_psk_profile"] = self.insecure_psk_profile.value
        return payload

    @classmethod
    def from_payload(cls, payload: JsonObject) -> Self:
        """Read a payload.

        Raises:
            MalformedError: Another shape.
            ManifestError: A rule of the agreement is broken.
        """
        with Fields(payload, "manifest") as fields:
            fields.exactly("format", FORMAT)
            return cls(
                roster_hash=RosterHash(fields.hash("roster_hash")),
                epoch=fields.integer("epoch", minimum=1, maximum=limits.EPOCH_MAX),
                previous=fields.nullable("previous", lambda name: ManifestHash(fields.hash(name))),
                valid_from=fields.integer("valid_from", minimum=0, maximum=limits.TIME_MAX),
                valid_until=fields.integer("valid_until", minimum=0, maximum=limits.TIME_MAX),
                overlap_seconds=fields.integer("overlap_seconds", minimum=0, maximum=limits.VALIDITY_SECONDS_MAX),
                scheme=fields.choice("scheme", Scheme),
                commitments=_by_participant(fields, "commitments", lambda each, name: each.hash(name)),
                brokers=_by_participant(fields, "brokers", _broker),
                roles=_roles(fields),
                channels=fields.choices("channels", ChannelKind),
                kems=fields.choices("kems", Kem),
                lease_seconds=fields.integer(
                    "lease_seconds", minimum=limits.LEASE_SECONDS_MIN, maximum=limits.LEASE_SECONDS_MAX
                ),
                insecure_http=fields.flag("insecure_http"),
                insecure_scheme=fields.flag("insecure_scheme"),
                mutual_tls=fields.optional(
                    "mutual_tls", lambda name: MutualTlsTerms.from_json(fields.take(name), fields.path(name))
                ),
                insecure_psk_suites=fields.optional("insecure_psk_suites", lambda name: fields.choices(name, PskSuite))
                or (),
                insecure_psk_profile=fields.optional(
                    "insecure_psk_profile", lambda name: fields.choice(name, PskProfile)
                ),
                key_log=fields.flag("key_log"),
            )


def _both(shared: set[str]) -> str:
    return f"{' and '.join(role.value for role in Role)}: {', '.join(sorted(shared))}"


def _broker_json(broker: BrokerAddress) -> JsonObject:
    value: JsonObject = {"url": broker.url}
    if broker.tls_ca is not None:
        value["tls_ca"] = broker.tls_ca
    return value


def _role_json(terms: RoleTerms) -> JsonObject:
    return {"instances": terms.instances, "evidence": [one.to_json() for one in terms.evidence]}


def _by_participant(fields: Fields, member: str, read: Callable[[Fields, str], T]) -> dict[str, T]:
    members = fields.object(member)
    if len(members) > limits.PARTICIPANTS:
        raise fields.fail(member, f"at most {limits.PARTICIPANTS} participants")
    with Fields(members, fields.path(member)) as each:
        return {check_name(name): read(each, name) for name in members}


def _broker(each: Fields, name: str) -> BrokerAddress:
    with Fields(each.take(name), each.path(name)) as fields:
        return BrokerAddress(
            url=fields.decoded("url", check_broker_url),
            tls_ca=fields.optional("tls_ca", lambda name: fields.decoded(name, check_tls_ca)),
        )


def check_tls_ca(text: str) -> str:
    """Return `text` if it is one PEM certificate or more, in ASCII and without comments.

    Raises:
        MalformedError: Anything else.
    """
    if not TLS_CA.fullmatch(text):
        raise MalformedError("one PEM certificate or more is expected, in ASCII, without comments")
    return text


def _roles(fields: Fields) -> dict[Role, RoleTerms]:
    with Fields(fields.object("roles"), "manifest.roles") as each:
        return {role: _role(each.take(role.value), each.path(role.value)) for role in Role}


def _role(value: JsonValue, where: str) -> RoleTerms:
    with Fields(value, where) as fields:
        instances = fields.integer("instances", minimum=1, maximum=limits.INSTANCES_MAX)
        evidence = fields.array("evidence", minimum=1, maximum=limits.EVIDENCE_PER_ROLE)
    return RoleTerms(
        instances, tuple(ConfidentialSpaceReference.from_json(one, f"{where}.evidence") for one in evidence)
    )


def manifest_hash(payload_bytes: bytes) -> ManifestHash:
    """Return SHA-256 of a manifest payload's canonical bytes."""
    return ManifestHash(sha256(payload_bytes))


@dataclass(frozen=True)
class AgreedManifest:
    """A manifest whose signatures, by every participant of the roster, were all verified."""

    manifest: Manifest
    hash: ManifestHash
    bundle: bytes

    @classmethod
    def parse(cls, data: bytes, roster: Roster) -> Self:
        """Read a manifest bundle and verify that every participant of the roster signed it.

        Raises:
            MalformedError: Not canonical JSON of this shape.
            ManifestError: A rule is broken, another roster, or a participant's signature is missing.
            SignatureInvalidError: A signature does not verify under the roster's consent key.
        """
        envelope = Envelope.parse(data, limit=limits.MANIFEST_BYTES)
        manifest = Manifest.from_payload(envelope.payload)
        manifest.check_roster(roster)
        signers = [one.participant for one in envelope.signatures]
        if signers != list(roster.names):
            missing = ", ".join(sorted(set(roster.names) - set(signers))) or "nobody, but the list is not the roster's"
            raise ManifestError(f"manifest: every participant must have signed, in order of names; missing: {missing}")
        for one in envelope.signatures:
            verify_manifest_signature(envelope, one.participant, one.signature, roster)
        return cls(manifest, manifest_hash(envelope.payload_bytes), data)


def verify_manifest_signature(envelope: Envelope, participant: str, signature: bytes, roster: Roster) -> None:
    """Verify one participant's signature of a manifest under its consent key of the roster.

    Raises:
        RosterError: The participant is not in the roster.
        SignatureInvalidError: The signature does not verify.
    """
    verify(
        roster.participant(participant).consent_key,
        signature,
        label=Label.MANIFEST,
        roster_hash=roster.hash,
        payload_bytes=envelope.payload_bytes,
        participant=participant,
        what="manifest",
    )
