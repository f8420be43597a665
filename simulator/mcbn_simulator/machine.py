"""What a simulated VM is: everything that its tokens say about it."""

import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Self

from mcbn_simulator.errors import MachineError
from mcbn_simulator.token_faults import TOKEN_FAULTS

HARDWARE_MODELS: Final = frozenset({"GCP_AMD_SEV", "GCP_INTEL_TDX"})
RESTART_POLICIES: Final = frozenset({"Always", "OnFailure", "Never"})


@dataclasses.dataclass(frozen=True, kw_only=True)
class SimulatedMachine:
    """One VM with one container, as its operator started it.

    The container's `args` claim is `entrypoint` followed by `cmd`, or by `cmd_override` where the operator gave one.

    Attributes:
        hwmodel: `GCP_AMD_SEV` or `GCP_INTEL_TDX`.
        debug: The debug flavour of the Confidential Space image (`dbgstat` enabled, no support attributes).
        swversion: Version of the Confidential Space image, six digits.
        image_reference: The name by which the operator asked for the image.
        image_digest: `sha256:` and 64 hexadecimal digits.
        image_id: Digest of the image's configuration.
        restart_policy: `Always`, `OnFailure` or `Never`.
        entrypoint: The image's own entry point.
        cmd: The image's own command.
        env: The image's own environment; PATH has the usual value unless it is given here.
        env_override: Environment set by the operator; empty means that the claim is absent.
        cmd_override: Command set by the operator; empty means that the claim is absent.
        project_id: Name of the project.
        project_number: Its number, decimal digits.
        zone: Where the VM runs.
        instance_name: The VM's name, which is also its HOSTNAME.
        instance_id: Its number, decimal digits.
        service_accounts: Service accounts; empty means the project's default compute account.
        clock_offset: Seconds added to the service's clock for this VM's tokens; -7200 gives expired tokens.
        overrides: Claims to set, by dotted path (`submods.gce.zone`), to any JSON value; missing objects are made.
        removed: Claims to leave out, by dotted path, after the overrides.
        fault: How this VM's launcher misbehaves: a name in `token_faults.TOKEN_FAULTS`, or None.

    Raises:
        MachineError: A value outside the ones listed.
    """

    image_digest: str
    hwmodel: str = "GCP_INTEL_TDX"
    debug: bool = False
    swversion: str = "260300"
    image_reference: str = "registry.simulator.invalid/mcbn/workload:latest"
    image_id: str = "sha256:" + "1d" * 32
    restart_policy: str = "Never"
    entrypoint: tuple[str, ...] = ("/usr/local/bin/mcbn-workload",)
    cmd: tuple[str, ...] = ()
    env: Mapping[str, str] = dataclasses.field(default_factory=dict)
    env_override: Mapping[str, str] = dataclasses.field(default_factory=dict)
    cmd_override: tuple[str, ...] = ()
    project_id: str = "mcbn-simulated"
    project_number: str = "100000000001"
    zone: str = "us-central1-a"
    instance_name: str = "simulated-vm"
    instance_id: str = "1000000000000000001"
    service_accounts: tuple[str, ...] = ()
    clock_offset: int = 0
    overrides: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    removed: tuple[str, ...] = ()
    fault: str | None = None

    def __post_init__(self) -> None:
        _require_one_of("hwmodel", self.hwmodel, HARDWARE_MODELS)
        _require_one_of("restart_policy", self.restart_policy, RESTART_POLICIES)
        _require_one_of("fault", self.fault, {None, *TOKEN_FAULTS})

    @classmethod
    def from_json(cls, members: object) -> Self:
        """The machine that a JSON object describes, with this class's attributes as members.

        Raises:
            MachineError: Not an object, an unknown or missing member, a member of another type.
        """
        if not isinstance(members, dict):
            raise MachineError("A machine description is a JSON object.")
        unknown = members.keys() - _SHAPES.keys()
        if unknown:
            raise MachineError(f"Unknown members {sorted(unknown)} in a machine description; known: {sorted(_SHAPES)}.")
        if "image_digest" not in members:
            raise MachineError("A machine description needs image_digest.")
        return cls(**{name: _typed(name, value) for name, value in members.items()})

    @classmethod
    def load(cls, path: Path) -> Self:
        """The machine that a JSON file describes.

        Raises:
            MachineError: The file is unreadable, not JSON, or not a machine.
        """
        try:
            members = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise MachineError(f"The machine file {path} cannot be read: {error}") from error
        return cls.from_json(members)

    def to_json(self) -> dict[str, Any]:
        """The JSON object from which `from_json` makes this machine again."""
        return dataclasses.asdict(self)


def _require_one_of(name: str, value: str | None, allowed: frozenset[str] | set[str | None]) -> None:
    if value not in allowed:
        raise MachineError(f"{name} is {value!r}; it must be one of {sorted(map(str, allowed))}.")


def _is_string_list(value: object) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(item, str) for item in value)


def _is_string_map(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(item, str) for item in value.values())


_SHAPE_OF_TYPE: Final[Mapping[object, tuple[str, Callable[[object], bool]]]] = {
    str: ("a string", lambda value: isinstance(value, str)),
    str | None: ("a string or null", lambda value: value is None or isinstance(value, str)),
    bool: ("true or false", lambda value: isinstance(value, bool)),
    int: ("an integer", lambda value: isinstance(value, int) and not isinstance(value, bool)),
    tuple[str, ...]: ("a list of strings", _is_string_list),
    Mapping[str, str]: ("an object of strings", _is_string_map),
    Mapping[str, Any]: ("an object", lambda value: isinstance(value, dict)),
}
_SHAPES: Final = {field.name: _SHAPE_OF_TYPE[field.type] for field in dataclasses.fields(SimulatedMachine)}


def _typed(name: str, value: object) -> Any:
    shape, matches = _SHAPES[name]
    if not matches(value):
        raise MachineError(f"{name} in a machine description must be {shape}.")
    return tuple(value) if isinstance(value, list) else value
