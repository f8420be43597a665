"""broker.json: whose broker this is."""

from dataclasses import dataclass
from typing import Final, Self

from mcbn_protocol.encoding import canonical, parse_json
from mcbn_protocol.fields import Fields
from mcbn_protocol.identifiers import check_name
from mcbn_protocol.participants import check_broker_url

FORMAT: Final = "mcbn-broker-v1"
_BYTES_MAX: Final = 16 * 1024


@dataclass(frozen=True)
class Identity:
    """The network, the participant's name in it, and the broker's base URL."""

    network: str
    name: str
    url: str

    def to_bytes(self) -> bytes:
        """Return the file's content."""
        return canonical({"format": FORMAT, "network": self.network, "name": self.name, "url": self.url})

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read the file's content.

        Raises:
            MalformedError: Not this file, or a name or URL that the protocol does not admit.
        """
        with Fields(parse_json(data, limit=_BYTES_MAX), "broker.json") as fields:
            fields.exactly("format", FORMAT)
            return cls(
                network=fields.decoded("network", check_name),
                name=fields.decoded("name", check_name),
                url=fields.decoded("url", check_broker_url),
            )
