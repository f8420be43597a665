"""The card with which a participant introduces itself before a roster exists: its name, its two keys, its broker."""

import hashlib
import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final, Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mcbn_protocol import limits
from mcbn_protocol.encoding import JsonObject, b64u_encode
from mcbn_protocol.errors import MalformedError, RosterError
from mcbn_protocol.fields import Fields
from mcbn_protocol.identifiers import check_name
from mcbn_protocol.signatures import KEY_BYTES, Envelope, Label, Signature, check_public_key, signing_input, verify

FORMAT: Final = "mcbn-participant-v1"
BROKER_URL: Final = re.compile(
    r"https?://[A-Za-z0-9._~-]{1,253}(:[0-9]{1,5})?(/[A-Za-z0-9._~/-]*)?|https?://\[[0-9a-f:]+\](:[0-9]{1,5})?"
)
_AUTHORITY: Final = re.compile(
    r"(?P<scheme>https?)://(?:\[(?P<ipv6>[0-9a-f:]+)\]|(?P<host>[A-Za-z0-9._~-]+))(?::(?P<port>[0-9]{1,5}))?(?![^/])"
)
_LABELS: Final = re.compile(r"[A-Za-z0-9_~-]{1,63}(\.[A-Za-z0-9_~-]{1,63})*\.?")
# A host that ends in a number is an IPv4 address to resolvers, in notations that nobody reads alike: `0x7f.1`, `127.1`.
_ENDS_IN_NUMBER: Final = re.compile(r"(.*\.)?([0-9]+|0[xX][0-9A-Fa-f]*)\.?")
_PORT_MAX: Final = 65535
_SIGNERS: Final = 2  # the consent key and the release key each prove that their owner made the card


def check_broker_url(text: str) -> str:
    """Return `text` if it is a broker's base URL: http or https, a host, an optional port and path, nothing else.

    Raises:
        MalformedError: User information, a query, a fragment, a host that cannot be one, a port beyond 65535, or
            anything else.
    """
    authority = _AUTHORITY.match(text)
    if authority is None or len(text) > limits.TEXT_CHARS or not BROKER_URL.fullmatch(text):
        raise MalformedError("a broker's URL is http:// or https://, a host, and an optional port and path")
    try:
        _check_host(authority["ipv6"], authority["host"])
    except ValueError as error:
        raise MalformedError("the URL's host is not valid") from error
    if int(authority["port"] or 0) > _PORT_MAX:
        raise MalformedError(f"the URL's port is beyond {_PORT_MAX}")
    return text


def _check_host(ipv6: str | None, host: str) -> None:
    """Check a literal, a name's labels (RFC 1035 section 2.3.4), and that what looks like IPv4 is a dotted quad."""
    if ipv6 is not None:
        IPv6Address(ipv6)
    elif not _LABELS.fullmatch(host):
        raise ValueError("not a host name")
    elif _ENDS_IN_NUMBER.fullmatch(host):
        IPv4Address(host)


def plain_http_beyond_loopback(url: str) -> bool:
    """Whether a broker's URL means plain HTTP to anything but a loopback address literal (`localhost` is a name)."""
    authority = _AUTHORITY.match(url)
    if authority is None or authority["scheme"] == "https":
        return authority is None
    try:
        return not ip_address(authority["ipv6"] or authority["host"]).is_loopback
    except ValueError:
        return True


def names_this_machine(url: str) -> bool:
    """Whether a broker's URL leads back to whoever uses it: a loopback or unspecified address, or `localhost`.

    An unspecified address (`0.0.0.0`, `::`) is connected to as loopback.
    """
    authority = _AUTHORITY.match(url)
    if authority is None:
        return False
    host = (authority["ipv6"] or authority["host"]).lower().rstrip(".")
    try:
        address = ip_address(host)
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return any(one.is_loopback or one.is_unspecified for one in (address, mapped) if one is not None)


def plain_http_to_a_name(url: str) -> bool:
    """Whether a broker's URL means plain HTTP to a name, so that whoever answers for names decides where it leads."""
    authority = _AUTHORITY.match(url)
    if authority is None or authority["scheme"] == "https" or authority["ipv6"]:
        return False
    try:
        ip_address(authority["host"])
    except ValueError:
        return True
    return False


@dataclass(frozen=True)
class ParticipantCard:
    """What a participant says of itself. The card proves that its maker holds both private keys, not who it is.

    Who it is, people check by comparing the fingerprint over a road that they trust.
    """

    network: str
    name: str
    consent_key: bytes
    release_key: bytes
    url: str

    def __post_init__(self) -> None:
        if self.consent_key == self.release_key:
            raise RosterError(f"{self.name}: the consent key and the release key must differ")

    def to_payload(self) -> JsonObject:
        """Return the card's payload."""
        return {
            "format": FORMAT,
            "network": self.network,
            "name": self.name,
            "consent_key": b64u_encode(self.consent_key),
            "release_key": b64u_encode(self.release_key),
            "url": self.url,
        }

    @classmethod
    def from_payload(cls, payload: JsonObject) -> Self:
        """Read a card's payload.

        Raises:
            MalformedError: Another shape.
            RosterError: The two keys are the same.
        """
        with Fields(payload, "card") as fields:
            fields.exactly("format", FORMAT)
            return cls(
                network=fields.decoded("network", check_name),
                name=fields.decoded("name", check_name),
                consent_key=check_public_key(fields.base64url("consent_key", length=KEY_BYTES)),
                release_key=check_public_key(fields.base64url("release_key", length=KEY_BYTES)),
                url=fields.decoded("url", check_broker_url),
            )

    def sign(self, consent_key: Ed25519PrivateKey, release_key: Ed25519PrivateKey) -> Envelope:
        """Return the signed card: first the consent key's signature, then the release key's."""
        unsigned = Envelope(self.to_payload(), ())
        message = signing_input(Label.PARTICIPANT, None, unsigned.payload_bytes)
        return Envelope(
            unsigned.payload, tuple(Signature(self.name, key.sign(message)) for key in (consent_key, release_key))
        )


def parse_card(data: bytes) -> ParticipantCard:
    """Read a participant card and verify both of its signatures under its own keys.

    Raises:
        MalformedError: Not a card.
        SignatureInvalidError: A key's owner did not sign it.
    """
    envelope = Envelope.parse(data, limit=limits.CARD_BYTES)
    card = ParticipantCard.from_payload(envelope.payload)
    if [item.participant for item in envelope.signatures] != [card.name] * _SIGNERS:
        raise MalformedError(f"card: two signatures by {card.name} are expected")
    for key, item in zip((card.consent_key, card.release_key), envelope.signatures, strict=True):
        verify(
            key,
            item.signature,
            label=Label.PARTICIPANT,
            roster_hash=None,
            payload_bytes=envelope.payload_bytes,
            participant=card.name,
            what="participant card",
        )
    return card


def fingerprint(card: ParticipantCard) -> str:
    """Return what people read to each other to compare a card: SHA-256 of its payload as 16 groups of 4 hex digits."""
    digest = hashlib.sha256(Envelope(card.to_payload(), ()).payload_bytes).hexdigest()
    return " ".join(digest[start : start + 4] for start in range(0, len(digest), 4))
