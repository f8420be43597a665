"""What the smoke test needs of a cloud: a place for VMs that can reach this machine, and an end of everything in it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from mcbn_protocol.identifiers import Role


@dataclass(frozen=True)
class Site:
    """What is known once the cloud is open.

    Attributes:
        issuer: Who signs the VMs' tokens.
        project_number: Of the project that the VMs run in.
        hwmodel: What their tokens say of the hardware.
        debug: Whether they boot the debug image of Confidential Space.
        host: Where the VMs find this machine.
        ports: By this machine's port, the port at `host` that leads to it.
        listen: The ciphertext address that the server is told to listen on.
    """

    issuer: str
    project_number: str
    hwmodel: str
    debug: bool
    host: str
    ports: Mapping[int, int]
    listen: str


@dataclass(frozen=True)
class Order:
    """One VM.

    Attributes:
        role: What its image plays.
        image: `REGISTRY/REPOSITORY@sha256:DIGEST`.
        environment: What its operator sets.
        debug: Whether it boots the debug image of Confidential Space, also where the others do not.
    """

    role: Role
    image: str
    environment: Mapping[str, str]
    debug: bool = False


class Cloud(Protocol):
    """A place for two VMs. Whatever happened, `close` comes last."""

    async def open(self, ports: Sequence[int]) -> Site:
        """Make everything but the VMs, and let these ports of this machine be reached from them.

        Raises:
            SmokeError: It cannot be made.
        """

    async def publish(self, layout: Path, name: str) -> str:
        """Put an image where VMs find it; returns its reference by digest.

        Raises:
            SmokeError: It cannot be put there, or has another digest there.
        """

    async def start(self, order: Order) -> str:
        """Start a VM, in the place of one that has its role; returns where other VMs find it: a server's with its port.

        Raises:
            SmokeError: It does not start.
        """

    async def log(self, role: Role) -> Sequence[str]:
        """Return the last lines that a VM has written, for a person who asks why; none if there are none to be had."""

    async def close(self) -> None:
        """Delete everything that was made here, also what was only half made.

        Raises:
            LeftBehindError: Something is still there.
        """
