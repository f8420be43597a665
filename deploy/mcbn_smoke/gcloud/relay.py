"""A small VM that leads from the workloads' network to this machine, by SSH through Identity-Aware Proxy.

The brokers stay on this machine, as a participant's broker stays with its participant; the relay sees their TLS only.
Nothing of it is reachable from the Internet, and its one SSH key is of this run.
"""

import asyncio
import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from mcbn_smoke.errors import SmokeError
from mcbn_smoke.gcloud.programs import Programs

FIRST_PORT: Final = 9440
USER: Final = "relay"
READY: Final = "ready"
IAP_RANGE: Final = "35.235.240.0/20"
"""Where Identity-Aware Proxy connects from, as Google documents it."""

_BOOT_SECONDS: Final = 300.0
_ATTEMPT_SECONDS: Final = 60.0
_AGAIN_SECONDS: Final = 5.0

# The key comes last: who can log in finds an SSH server that listens for others.
_STARTUP: Final = """\
#!/bin/bash
set -eu
id {user} 2>/dev/null || useradd --create-home --shell /bin/bash {user}
printf 'GatewayPorts clientspecified\\n' > /etc/ssh/sshd_config.d/mcbn-smoke.conf
systemctl reload ssh
cd /home/{user}
install --directory --mode 700 --owner {user} --group {user} .ssh
printf '%s\\n' 'restrict,port-forwarding,command="echo {ready}; exec sleep infinity" {key}' > .ssh/authorized_keys
"""


def remote_ports(ports: Sequence[int]) -> dict[int, int]:
    """Return, by this machine's port, the relay's port that leads to it."""
    return {port: FIRST_PORT + number for number, port in enumerate(ports)}


class Relay:
    """The way from the relay's VM to this machine.

    Args:
        name: The VM's.
        place: `--project=...` and `--zone=...`.
        folder: For the key, which is of this run alone.
        programs: Runs ssh-keygen.
    """

    def __init__(self, name: str, place: Sequence[str], folder: Path, programs: Programs) -> None:
        self._name = name
        self._place = place
        self._folder = folder
        self._programs = programs
        self._process: asyncio.subprocess.Process | None = None

    async def startup_script(self) -> Path:
        """Make the key; returns the script that the VM has to run when it starts."""
        key = self._folder / "relay"
        await self._programs.run(
            "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "mcbn-smoke", "-f", key, shown=False
        )
        public = key.with_suffix(".pub").read_text(encoding="ascii").strip()
        script = self._folder / "relay-startup"
        script.write_text(_STARTUP.format(user=USER, ready=READY, key=public), encoding="ascii")
        return script

    async def connect(self, ports: Mapping[int, int]) -> None:
        """Forward the relay's ports to this machine, as soon as the VM has booted.

        Args:
            ports: By this machine's port, the relay's.

        Raises:
            SmokeError: It has not booted in time, or Identity-Aware Proxy refuses.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + _BOOT_SECONDS
        while not await self._attempt(ports):
            if loop.time() > end:
                log = self._log.read_text(encoding="utf-8", errors="replace").splitlines()
                raise SmokeError(
                    "The relay cannot be reached by SSH through Identity-Aware Proxy. You need the role "
                    "roles/iap.tunnelResourceAccessor in the project.",
                    [f"{self._name}:", *log[-10:]],
                )
            await asyncio.sleep(_AGAIN_SECONDS)

    async def close(self) -> None:
        """End the connection."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGTERM)
            await self._process.wait()
            self._process = None

    @property
    def _log(self) -> Path:
        return self._folder / "relay.log"

    async def _attempt(self, ports: Mapping[int, int]) -> bool:
        """Connect once. The key's command prints a word, and can do so only once every port is forwarded."""
        with self._log.open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._ssh(ports),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        assert self._process.stdout is not None  # noqa: S101  # for the type checker: it was started with a pipe
        with suppress(TimeoutError):
            async with asyncio.timeout(_ATTEMPT_SECONDS):
                if await self._process.stdout.readline() == f"{READY}\n".encode():
                    return True
        await self.close()
        return False

    def _ssh(self, ports: Mapping[int, int]) -> list[str]:
        tunnel = [
            "gcloud",
            "compute",
            "start-iap-tunnel",
            self._name,
            "22",
            "--listen-on-stdin",
            "--quiet",
            *self._place,
        ]
        options = {
            "BatchMode": "yes",
            "ExitOnForwardFailure": "yes",
            "IdentitiesOnly": "yes",
            "IdentityFile": str(self._folder / "relay"),
            "ProxyCommand": " ".join(tunnel),
            "ServerAliveInterval": "15",
            "StrictHostKeyChecking": "accept-new",  # a VM of a minute ago; the TLS inside is checked for itself
            "UserKnownHostsFile": str(self._folder / "known_hosts"),
        }
        forwards = [word for port, remote in ports.items() for word in ("-R", f"*:{remote}:127.0.0.1:{port}")]
        settings = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        return ["ssh", "-F", "none", "-T", *settings, *forwards, f"{USER}@{self._name}"]
