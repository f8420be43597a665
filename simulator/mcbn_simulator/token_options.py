"""The body of a token request, judged as the launcher's Go decoder judges it.

The texts are the observable interface of the public launcher: what a workload's log shows when it asks wrongly.
"""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any, Final, NoReturn, Self

from mcbn_simulator.errors import TokenOptionsError

DEFAULT_AUDIENCE: Final = "https://sts.googleapis.com"
_GO_TYPES: Final[Mapping[str, tuple[type, str]]] = {
    "audience": (str, "string"),
    "nonces": (list, "[]string"),
    "token_type": (str, "string"),
    "aws_principal_tag_options": (dict, "models.AWSPrincipalTagsOptions"),
}
_GO_KINDS: Final = {str: "string", bool: "bool", int: "number", float: "number", list: "array", dict: "object"}
_GO_SYNTAX_TEXTS: Final = {
    "Expecting property name enclosed in double quotes": "looking for beginning of object key string",
    "Expecting ',' delimiter": "after object key:value pair",
    "Expecting ':' delimiter": "after object key",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class TokenOptions:
    """What a workload asks of the launcher.

    Attributes:
        audience: The token's `aud`.
        nonces: The token's `eat_nonce` values; the launcher passes them on unchecked.
        token_type: `OIDC`, `PKI`, `LIMITED_AWS` or `AWS_PRINCIPALTAGS`; the service decides.
    """

    audience: str = DEFAULT_AUDIENCE
    nonces: tuple[str, ...] = ()
    token_type: str = "OIDC"  # noqa: S105  a kind of token, not a secret

    @classmethod
    def parse(cls, body: bytes) -> Self:
        """The options in the body of `POST /v1/token`.

        Raises:
            TokenOptionsError: With the launcher's own answer.
        """
        members = _decoded(body)
        options = cls(
            audience=_text(members.get("audience")),
            nonces=tuple(_text(nonce) for nonce in members.get("nonces") or ()),
            token_type=_text(members.get("token_type")),
        )
        if not options.audience:
            raise TokenOptionsError("use GET request for the default identity token")
        if not options.token_type:
            raise TokenOptionsError("token_type is a required parameter")
        return options


def _decoded(body: bytes) -> dict[str, Any]:
    """The first JSON value of the body as Go stores it: names in any case, the last of two wins."""
    value = _first_value(body.decode("utf-8", errors="replace").lstrip(" \t\r\n"))
    if not isinstance(value, dict):
        if value is None:
            return {}
        raise _unparsable(f"json: cannot unmarshal {_GO_KINDS[type(value)]} into Go value of type models.TokenOptions")
    for name, member in value.items():
        _check_member(name, member)
    return {name.lower(): member for name, member in value.items()}


def _first_value(text: str) -> Any:
    if not text:
        raise _unparsable("EOF")
    try:
        return json.JSONDecoder(parse_constant=_refuse_constant).raw_decode(text)[0]
    except json.JSONDecodeError as error:
        raise _unparsable(_syntax_text(error)) from error
    except RecursionError as error:
        raise _unparsable("exceeded max depth") from error


def _refuse_constant(name: str) -> NoReturn:
    raise _unparsable(f"invalid character '{name[0]}' looking for beginning of value")


def _syntax_text(error: json.JSONDecodeError) -> str:
    if error.pos >= len(error.doc) or error.msg.startswith("Unterminated"):
        return "unexpected EOF"
    place = _GO_SYNTAX_TEXTS.get(error.msg, "looking for beginning of value")
    return f"invalid character '{error.doc[error.pos]}' {place}"


def _check_member(name: str, member: object) -> None:
    field = name.lower()
    if field not in _GO_TYPES:
        raise _unparsable(f'json: unknown field "{name}"')
    if field == "nonces" and isinstance(member, list):
        for item in member:
            _require_type(field, item, str, "string")
    else:
        _require_type(field, member, *_GO_TYPES[field])


def _require_type(field: str, value: object, python_type: type, go_type: str) -> None:
    """Null is no mismatch: Go leaves the field empty."""
    if value is not None and not isinstance(value, python_type):
        kind = _GO_KINDS[type(value)]
        raise _unparsable(f"json: cannot unmarshal {kind} into Go struct field TokenOptions.{field} of type {go_type}")


def _text(value: str | None) -> str:
    """A lone surrogate (JSON can spell one) has no UTF-8 form, so it is replaced."""
    return (value or "").encode("utf-8", errors="replace").decode("utf-8")


def _unparsable(reason: str) -> TokenOptionsError:
    return TokenOptionsError(f"failed to parse POST body as TokenOptions: {reason}")
