"""How a launcher can misbehave: a table of named faults."""

import base64
import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:  # a machine names its fault, so machine imports this module
    from mcbn_simulator.machine import SimulatedMachine
    from mcbn_simulator.token_options import TokenOptions

_EXPIRED_SECONDS: Final = 7200


def _expired(machine: "SimulatedMachine") -> "SimulatedMachine":
    return dataclasses.replace(machine, clock_offset=machine.clock_offset - _EXPIRED_SECONDS)


def _other_nonces(options: "TokenOptions") -> "TokenOptions":
    return dataclasses.replace(options, nonces=tuple(f"other-nonce-{number}" for number in range(len(options.nonces))))


def _wrong_signature(token: str) -> str:
    """One flipped bit; still canonical base64url of the same length."""
    signed, _, signature = token.rpartition(".")
    raw = bytearray(base64.urlsafe_b64decode(signature + "=" * (-len(signature) % 4)))
    raw[0] ^= 1
    return f"{signed}.{base64.urlsafe_b64encode(raw).decode().rstrip('=')}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class TokenFault:
    """What a faulty launcher changes on the way to a token.

    Attributes:
        machine: Applied to the machine that the service sees.
        options: Applied to what the workload asked.
        token: Applied to the token that the service signed.
        reply: Instead of any token: an error with status 500, or no answer while the client waits.
    """

    machine: Callable[["SimulatedMachine"], "SimulatedMachine"] = lambda machine: machine
    options: Callable[["TokenOptions"], "TokenOptions"] = lambda options: options
    token: Callable[[str], str] = lambda token: token
    reply: Literal["error", "hang"] | None = None


NO_FAULT: Final = TokenFault()
TOKEN_FAULTS: Final[Mapping[str, TokenFault]] = {
    "error": TokenFault(reply="error"),
    "hang": TokenFault(reply="hang"),
    "garbage": TokenFault(token=lambda _: "this is not a token"),
    "truncated": TokenFault(token=lambda token: token[: len(token) * 2 // 3]),
    "wrong-signature": TokenFault(token=_wrong_signature),
    "expired": TokenFault(machine=_expired),
    "other-nonces": TokenFault(options=_other_nonces),
}
"""Faults of a launcher, by the name that a machine description uses."""
