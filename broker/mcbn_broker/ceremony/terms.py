"""The terms file: what the participants agree on for the next epoch, written by a person as TOML."""

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Self

from mcbn_broker.ceremony.certificates import read_certificates
from mcbn_broker.ceremony.template import PLACEHOLDER
from mcbn_broker.ceremony.term_names import check_names
from mcbn_broker.errors import CeremonyError
from mcbn_protocol import limits
from mcbn_protocol.encoding import JsonObject
from mcbn_protocol.fields import Fields
from mcbn_protocol.identifiers import check_name
from mcbn_protocol.participants import check_broker_url

TERMS_BYTES: Final = 1024 * 1024
_DAY: Final = 24 * 3600
_VALID_DAYS_MAX: Final = limits.VALIDITY_SECONDS_MAX // _DAY
_MANIFEST_MEMBERS: Final = ("overlap_seconds", "scheme", "lease_seconds", "channels", "kems", "roles")
_OPTIONAL: Final = (
    *("insecure_http", "insecure_scheme", "mutual_tls"),
    *("insecure_psk_suites", "insecure_psk_profile", "key_log"),
)


@dataclass(frozen=True)
class BrokerOverride:
    """What the terms say of a broker beyond its card; None leaves the card's URL, or the system's TLS roots."""

    url: str | None
    tls_ca: str | None


@dataclass(frozen=True)
class Terms:
    """The terms. `members` go into the manifest as they are and are checked there.

    Attributes:
        valid_from: Unix seconds, or None for the time of drafting.
        valid_until: Unix seconds, or None where `valid_days` is given.
        valid_days: Days after `valid_from`, or None where `valid_until` is given.
        brokers: Overrides by participant.
        members: The manifest's members that the terms hold.
    """

    valid_from: int | None
    valid_until: int | None
    valid_days: int | None
    brokers: Mapping[str, BrokerOverride]
    members: JsonObject

    @classmethod
    def parse(cls, data: bytes, *, read_text: Callable[[str], str]) -> Self:
        """Read a terms file.

        Args:
            data: TOML, UTF-8.
            read_text: Gives the text of a file that the terms name, by its path as written there.

        Raises:
            CeremonyError: Not TOML, or a named file holds anything but certificates.
            MalformedError: A member is unknown, missing or of another type.
        """
        members = _toml(data)
        check_names(members)
        with Fields(members, "terms") as fields:
            terms = cls(
                valid_from=_moment(fields, "valid_from"),
                valid_until=_moment(fields, "valid_until"),
                valid_days=_days(fields),
                brokers=_overrides(fields, read_text),
                members={name: fields.take(name) for name in _present(fields)},
            )
        if (terms.valid_until is None) == (terms.valid_days is None):
            raise CeremonyError("terms: give either valid_days or valid_until")
        return terms

    def validity(self, now: int) -> tuple[int, int]:
        """Return from when and until when, in Unix seconds, for a draft that is made at `now`."""
        start = now if self.valid_from is None else self.valid_from
        if self.valid_until is not None:
            return start, self.valid_until
        return start, start + (self.valid_days or 0) * _DAY


def _toml(data: bytes) -> dict[str, Any]:
    if len(data) > TERMS_BYTES:
        raise CeremonyError(f"terms: more than {TERMS_BYTES} bytes")
    try:
        text = data.decode("utf-8")
        left = ", ".join(sorted(set(PLACEHOLDER.findall(text))))
        if left:
            raise CeremonyError(f"terms: fill in {left}")
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CeremonyError(f"terms: not TOML: {error}") from error


def _present(fields: Fields) -> tuple[str, ...]:
    return (*_MANIFEST_MEMBERS, *(name for name in _OPTIONAL if fields.has(name)))


def _days(fields: Fields) -> int | None:
    return fields.integer("valid_days", minimum=1, maximum=_VALID_DAYS_MAX) if fields.has("valid_days") else None


def _moment(fields: Fields, name: str) -> int | None:
    if not fields.has(name):
        return None
    value: Any = fields.take(name)
    if not isinstance(value, datetime) or value.tzinfo is None or value.microsecond:
        raise fields.fail(name, "a date with time and zone, and without quotes, is expected: 2030-01-31T12:00:00Z")
    return int(value.timestamp())


def _overrides(fields: Fields, read_text: Callable[[str], str]) -> dict[str, BrokerOverride]:
    if not fields.has("brokers"):
        return {}
    members = fields.object("brokers")
    with Fields(members, fields.path("brokers")) as each:
        return {check_name(name): _override(each, name, read_text) for name in members}


def _override(each: Fields, name: str, read_text: Callable[[str], str]) -> BrokerOverride:
    with Fields(each.take(name), each.path(name)) as fields:
        return BrokerOverride(
            url=fields.optional("url", lambda name: fields.decoded(name, check_broker_url)),
            tls_ca=fields.optional("tls_ca_file", lambda name: _authority(read_text(fields.text(name)))),
        )


def _authority(pem: str) -> str:
    read_certificates(pem)
    return pem
