"""Which names a terms file may have: a misspelt one is reported as such, before the right one is reported missing."""

import dataclasses
import difflib
from collections.abc import Iterator, Mapping
from typing import Any, Final

from mcbn_protocol.errors import MalformedError
from mcbn_protocol.identifiers import Role
from mcbn_protocol.mutual_tls import MutualTlsTerms
from mcbn_protocol.reference_values import ConfidentialSpaceReference

_TERMS: Final = frozenset(
    {"valid_from", "valid_until", "valid_days", "overlap_seconds", "scheme", "lease_seconds", "channels", "kems"}
    | {"roles", "brokers", "insecure_http", "insecure_scheme", "mutual_tls"}
    | {"insecure_psk_suites", "insecure_psk_profile", "key_log"}
)
_ROLE: Final = frozenset({"instances", "evidence"})
_EVIDENCE: Final = frozenset(one.name for one in dataclasses.fields(ConfidentialSpaceReference)) | {
    *("kind", "swname", "secboot")
}
_MUTUAL_TLS: Final = frozenset(one.name for one in dataclasses.fields(MutualTlsTerms))
_PLACES: Final = (
    (_TERMS, "above the first table"),
    (_ROLE, "in [roles.ROLE]"),
    (_EVIDENCE, "in [[roles.ROLE.evidence]]"),
    (_MUTUAL_TLS, "in [mutual_tls]"),
)
"""The names of each table, and where it stands in the file."""

_QUOTED: Final = ("project_numbers", "instance_ids")


def check_names(terms: Mapping[str, Any]) -> None:
    """Check the names of a terms file, and that long numbers are in quotes; shapes and values are checked elsewhere.

    Raises:
        MalformedError: An unknown name, with its place in another table or else the most similar one of this table; or
            a number without quotes.
    """
    _check(terms, _TERMS, "terms")
    _check(_table(terms, "mutual_tls"), _MUTUAL_TLS, "terms.mutual_tls")
    roles = _table(terms, "roles")
    _check(roles, frozenset(role.value for role in Role), "terms.roles")
    for role in roles:
        _check(_table(roles, role), _ROLE, f"terms.roles.{role}")
        for evidence in _tables(_table(roles, role).get("evidence")):
            _check(evidence, _EVIDENCE, f"terms.roles.{role}.evidence")
            _check_quotes(evidence, f"terms.roles.{role}.evidence")


def _check(table: Mapping[str, Any], known: frozenset[str], where: str) -> None:
    for name in sorted(set(table) - known):
        raise MalformedError(f"{where}: unknown member {name!a}{_hint(name, known)}")


def _hint(name: str, known: frozenset[str]) -> str:
    elsewhere = [place for names, place in _PLACES if name in names]
    if elsewhere:
        return f": it belongs {elsewhere[0]}"
    similar = difflib.get_close_matches(name, sorted(known), n=1)
    return f": did you mean {similar[0]}?" if similar else ""


def _check_quotes(evidence: Mapping[str, Any], where: str) -> None:
    for name in _QUOTED:
        value = evidence.get(name)
        if isinstance(value, list) and any(type(one) is int for one in value):
            raise MalformedError(f'{where}.{name}: a list of strings is expected (in quotes): ["1234567890"]')


def _table(value: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = value.get(name)
    return found if isinstance(found, dict) else {}


def _tables(value: object) -> Iterator[Mapping[str, Any]]:
    yield from (one for one in value if isinstance(one, dict)) if isinstance(value, list) else ()
