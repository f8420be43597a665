"""The participant's own `policy.toml`: it narrows what the manifest admits and can widen nothing."""

import tomllib
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, InstanceOf, StringConstraints, ValidationError

from mcbn_broker.appraisal.conditions import CONDITIONS_MAX, Condition, ConditionError, compile_condition
from mcbn_broker.attestation.printable import printable
from mcbn_broker.errors import EXIT_CODES, BrokerError
from mcbn_protocol.identifiers import Role

POLICY_BYTES: Final = 64 * 1024
_SHAPE: Final = ConfigDict(extra="forbid", strict=True, frozen=True)
_List = Field(strict=False, min_length=1)  # TOML has lists, not sets; the items stay strict. Empty would admit nothing.


def _compiled(value: object) -> tuple[Condition, ...]:
    """Compile a list of CEL texts; what is wrong names the condition by its place, from 1."""
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise ValueError("a list of texts is expected")
    if not 0 < len(value) <= CONDITIONS_MAX:
        raise ValueError(f"1 to {CONDITIONS_MAX} conditions are expected")
    conditions = []
    for number, text in enumerate(value, start=1):
        try:
            conditions.append(compile_condition(text))
        except ConditionError as error:
            raise ValueError(f"condition {number}: {error}") from error
    return tuple(conditions)


def _text(pattern: str) -> StringConstraints:
    return StringConstraints(strict=True, pattern=f"^(?:{pattern})$")


Digests = Annotated[frozenset[Annotated[str, _text("sha256:[0-9a-f]{64}")]], _List]
Models = Annotated[frozenset[Annotated[str, _text("GCP_AMD_SEV|GCP_AMD_SEV_ES|GCP_INTEL_TDX")]], _List]
Numbers = Annotated[frozenset[Annotated[str, _text("[0-9]{1,32}")]], _List]
Zones = Annotated[frozenset[Annotated[str, _text("[a-z][a-z0-9-]{0,63}")]], _List]
Accounts = Annotated[frozenset[Annotated[str, _text("[A-Za-z0-9._%+-]{1,128}@[A-Za-z0-9.-]{1,128}")]], _List]
ClaimNames = Annotated[frozenset[Annotated[str, _text("[A-Za-z0-9_-]{1,64}")]], _List]
Conditions = Annotated[tuple[InstanceOf[Condition], ...], BeforeValidator(_compiled)]
Seconds = Annotated[int, Field(ge=1, le=3600)]


class PolicyError(BrokerError):
    """A policy file that cannot be used. Nothing of it was; the text says which member is wrong, and how."""

    code: ClassVar[str] = "policy_invalid"
    exit_code: ClassVar[int] = EXIT_CODES["usage"].number


class Limits(BaseModel):
    """What a participant may narrow. A member that is left out narrows nothing.

    Attributes:
        image_digests: Only these of the manifest's images.
        hwmodels: Only these of its hardware models.
        project_numbers: Only these of its projects.
        instance_ids: Only these VMs.
        zones: Only these zones; the manifest has no word on zones.
        service_accounts: No service account but these.
        maximum_token_age_seconds: Tokens issued longer ago are refused.
        conditions: In CEL over the claims, called `assertion`; each must come to true.
    """

    model_config = _SHAPE

    image_digests: Digests | None = None
    hwmodels: Models | None = None
    project_numbers: Numbers | None = None
    instance_ids: Numbers | None = None
    zones: Zones | None = None
    service_accounts: Accounts | None = None
    maximum_token_age_seconds: Seconds | None = None
    conditions: Conditions = ()


def _within(one: Any, other: Any) -> Any:
    """What two limits have in common: fewer values (perhaps none, which admits nothing), the lower number.

    Of conditions, all.
    """
    if isinstance(one, tuple):
        return one + other
    if one is None or other is None:
        return one if other is None else other
    return min(one, other) if isinstance(one, int) else one & other


class RoleLimits(BaseModel):
    """Limits that hold for one role only, besides those for both."""

    model_config = _SHAPE

    client: Limits = Limits()
    server: Limits = Limits()


class Policy(Limits):
    """A participant's appraisal policy. `Policy()` leaves the manifest as it is.

    Attributes:
        roles: Further limits for each role.
        container_claims_allowed: Members of `submods.container` that this program does not know and the participant has
            looked at. Without this list a new one is refused, for it may be a new way to change what runs.
    """

    roles: RoleLimits = RoleLimits()
    container_claims_allowed: ClaimNames = frozenset()

    def limits(self, role: Role) -> Limits:
        """Return what is within the limits for both roles and also within those for this one."""
        return self.limits_by_role[role]

    @cached_property
    def limits_by_role(self) -> Mapping[Role, Limits]:
        """The same for every role, put together once for each policy."""
        narrower = {Role.CLIENT: self.roles.client, Role.SERVER: self.roles.server}
        return {
            role: Limits.model_construct(
                **{name: _within(getattr(self, name), getattr(one, name)) for name in Limits.model_fields}
            )
            for role, one in narrower.items()
        }


def load_policy(path: Path) -> Policy:
    """Read a policy file (TOML, at most `POLICY_BYTES`).

    Raises:
        PolicyError: It is unreadable, too long, not TOML, or has an unknown member or one of another type.
    """
    try:
        with path.open("rb") as file:
            data = file.read(POLICY_BYTES + 1)
        if len(data) > POLICY_BYTES:
            raise PolicyError(f"{path}: longer than {POLICY_BYTES} bytes")
        return Policy.model_validate(tomllib.loads(data.decode("utf-8")))
    except ValidationError as error:
        raise PolicyError(f"{path}: {_problems(error)}; correct the file") from error
    except (OSError, ValueError, RecursionError) as error:
        raise PolicyError(f"{path}: {type(error).__name__}: {error}; correct the file") from error


def _problems(error: ValidationError) -> str:
    return "; ".join(
        f"{printable('.'.join(map(str, one['loc'])))}: {one['msg']}"
        for one in error.errors(include_url=False, include_context=False, include_input=False)
    )
