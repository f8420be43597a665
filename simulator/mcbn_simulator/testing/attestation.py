"""An attestation service and a VM's launcher, both in the test's own process."""

import contextlib
import dataclasses
import shutil
import tempfile
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mcbn_simulator.claims import claims_for
from mcbn_simulator.document_faults import DocumentFaults
from mcbn_simulator.issuer import Issuer
from mcbn_simulator.machine import SimulatedMachine
from mcbn_simulator.serving import serve_issuer, serve_launcher
from mcbn_simulator.testing.backstage import Backstage
from mcbn_simulator.token_options import TokenOptions

_DIGEST = "sha256:" + "ab" * 32


class TokenIssuer:
    """A simulated attestation service that answers at `url`. Its tokens prove nothing."""

    def __init__(self, issuer: Issuer) -> None:
        self.issuer = issuer

    @property
    def url(self) -> str:
        """Its name, the tokens' `iss`; discovery and key set are below."""
        return self.issuer.issuer_url

    def token(
        self,
        *,
        audience: str,
        nonces: Sequence[str],
        machine: SimulatedMachine | None = None,
        claims: Mapping[str, Any] | None = None,
        removed: Sequence[str] = (),
        token_type: str = "OIDC",  # noqa: S107  # a kind of token
    ) -> str:
        """Return a token, as a launcher gets it.

        Args:
            audience: Its `aud`.
            nonces: Its `eat_nonce`, each of 10 to 74 bytes.
            machine: The VM that it is about.
            claims: Claims to set, by dotted path (`submods.gce.zone`).
            removed: Claims to leave out, by dotted path.
            token_type: `OIDC` or `PKI`.
        """
        machine = machine or SimulatedMachine(image_digest=_DIGEST)
        machine = dataclasses.replace(
            machine, overrides={**machine.overrides, **(claims or {})}, removed=(*machine.removed, *removed)
        )
        return self.issuer.issue(machine, TokenOptions(audience=audience, nonces=tuple(nonces), token_type=token_type))

    def claims(self, machine: SimulatedMachine, *, audience: str, nonces: Sequence[str], now: int) -> dict[str, Any]:
        """Return a token's claims, to be changed and given to `sign`."""
        return claims_for(machine, issuer=self.url, audience=audience, nonces=tuple(nonces), now=now)

    def sign(self, claims: dict[str, Any]) -> str:
        """Return a token over exactly these claims."""
        return self.issuer.sign(claims)

    def rotate(self) -> None:
        """Sign with a new key from now on; the set keeps the last one."""
        self.issuer.rotate()

    def set_faults(self, **faults: str | None) -> None:
        """Set or clear (None) what is wrong with the documents `discovery` and `jwks`; see `document_faults`."""
        self.issuer.faults = dataclasses.replace(self.issuer.faults, **faults)

    @property
    def faults(self) -> DocumentFaults:
        """What is wrong with the published documents now."""
        return self.issuer.faults


@dataclasses.dataclass
class Launcher:
    """A VM's launcher.

    Attributes:
        socket: The unix socket that gives tokens: `launcher_socket` in `workload.toml`.
        machine: What its tokens say; assign another machine, with overridden claims or a fault, at any time.
    """

    socket: Path
    machine: SimulatedMachine


@contextlib.contextmanager
def token_issuer(stage: Backstage) -> Generator[TokenIssuer]:
    """Serve an attestation service on a free port of 127.0.0.1 while the block runs."""
    issuer = Issuer()
    with stage.inside(serve_issuer(issuer)):
        yield TokenIssuer(issuer)


@contextlib.contextmanager
def launcher(stage: Backstage, issuer: TokenIssuer) -> Generator[Launcher]:
    """Serve a launcher's socket while the block runs."""
    folder = Path(tempfile.mkdtemp(prefix="mcbn-"))  # short: a unix socket's path has at most 107 bytes (unix(7))
    one = Launcher(folder / "tee.sock", SimulatedMachine(image_digest=_DIGEST))
    try:
        with stage.inside(serve_launcher(one.socket, lambda: one.machine, issuer.issuer.token)):
            yield one
    finally:
        shutil.rmtree(folder)
