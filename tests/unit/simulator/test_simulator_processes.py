import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx

from mcbn_protocol import __version__
from mcbn_simulator.document_faults import DocumentFaults
from mcbn_simulator.machine import SimulatedMachine

Verify = Callable[[str, dict[str, Any]], dict[str, Any]]
WriteMachine = Callable[[SimulatedMachine], Path]
SIMULATOR = (sys.executable, "-m", "mcbn_simulator")
DEADLINE = 30


@contextlib.contextmanager
def running(*arguments: str | Path) -> Iterator[tuple[subprocess.Popen[str], dict[str, str]]]:
    """A process of the simulator that has said it is ready, and what it said; killed if the test leaves it running."""
    reader, writer = os.pipe()
    process = subprocess.Popen(
        [*SIMULATOR, *map(str, arguments), "--ready-fd", str(writer)],
        pass_fds=[writer],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    os.close(writer)
    try:
        with os.fdopen(reader) as pipe:
            ready = pipe.read()
        assert ready.count("\n") == 1, process.communicate(timeout=DEADLINE)
        yield process, json.loads(ready)
    finally:
        process.kill()
        process.communicate(timeout=DEADLINE)


def ended(process: subprocess.Popen[str], number: signal.Signals) -> tuple[int, str, str]:
    process.send_signal(number)
    out, err = process.communicate(timeout=DEADLINE)
    return process.returncode, out, err


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*SIMULATOR, *map(str, arguments)], capture_output=True, text=True, timeout=DEADLINE, check=False
    )


def test_issuer_and_launchers_are_processes_of_their_own(
    short_folder: Path, machine: SimulatedMachine, write_machine: WriteMachine, verified: Verify
) -> None:
    control = short_folder / "control.sock"
    debug = dataclasses.replace(machine, debug=True, instance_name="debug-vm")
    with contextlib.ExitStack() as stack:
        issuer, ready = stack.enter_context(running("issuer", "--listen", "127.0.0.1:0", "--control", control))
        jwks_uri = httpx.get(ready["url"] + "/.well-known/openid-configuration").json()["jwks_uri"]
        jwks = httpx.get(jwks_uri).json()
        launchers = []
        for vm in (machine, debug):
            folder = short_folder / f"{vm.instance_name}.run"
            folder.mkdir()
            launcher, said = stack.enter_context(
                running(
                    *("launcher", "--socket", folder / "teeserver.sock"),
                    *("--control", control, "--machine", write_machine(vm)),
                )
            )
            launchers.append(launcher)
            body = {"audience": "me", "nonces": ["n" * 10], "token_type": "OIDC"}
            with httpx.Client(transport=httpx.HTTPTransport(uds=said["socket"])) as client:
                claims = verified(client.post("http://localhost/v1/token", json=body).text, jwks)
            assert claims["iss"] == ready["url"]
            assert claims["eat_nonce"] == "n" * 10
            assert claims["dbgstat"] == ("enabled" if vm.debug else "disabled-since-boot")
            default = verified(Path(said["token_file"]).read_text(), jwks)
            assert default["aud"] == "https://sts.googleapis.com"
        for process, number in zip((*launchers, issuer), (signal.SIGTERM, signal.SIGINT, signal.SIGTERM), strict=True):
            code, out, err = ended(process, number)
            assert code == 0
            assert out == ""
            assert err.count("\n") == 1
            assert "PROTECTS NOTHING" in err
    assert sorted(path.name for path in short_folder.rglob("*")) == [
        *("debug-vm.json", "debug-vm.run", "simulated-vm.json", "simulated-vm.run")
    ]


def test_orders_to_a_running_issuer(
    short_folder: Path, machine: SimulatedMachine, write_machine: WriteMachine, verified: Verify
) -> None:
    control = short_folder / "control.sock"
    name = ("--issuer", "http://issuer.compose:8080")
    with (
        running("issuer", "--control", control, *name) as (_, ready),
        httpx.Client(transport=httpx.HTTPTransport(uds=str(control)), base_url="http://control") as orders,
        httpx.Client(base_url=ready["url"]) as public,
    ):
        discovery = public.get("/.well-known/openid-configuration").json()
        assert discovery["issuer"] == name[1]
        path = discovery["jwks_uri"].removeprefix(name[1])
        printed = run(
            *("token", "--control", control, "--machine", write_machine(machine)),
            *("--audience", "me", "--nonce", "n" * 10, "--nonce", "m" * 10),
        )
        assert printed.returncode == 0, printed.stderr
        claims = verified(printed.stdout.strip(), public.get(path).json())
        assert (claims["iss"], claims["aud"], claims["eat_nonce"]) == (name[1], "me", ["n" * 10, "m" * 10])
        kids = orders.post("/control/rotate").json()["kids"]
        assert [key["kid"] for key in public.get(path).json()["keys"]] == kids
        faults = orders.post("/control/faults", json={"jwks": "down"}).json()
        assert DocumentFaults(**faults) == DocumentFaults(jwks="down")
        assert public.get(path).status_code == 503
        orders.post("/control/faults", json={"jwks": None})
        assert public.get(path).status_code == 200


def test_a_running_vm_changes_with_its_file(
    short_folder: Path, machine: SimulatedMachine, write_machine: WriteMachine
) -> None:
    control, path = short_folder / "control.sock", short_folder / "teeserver.sock"
    with (
        running("issuer", "--control", control),
        running("launcher", "--socket", path, "--control", control, "--machine", write_machine(machine)),
        httpx.Client(transport=httpx.HTTPTransport(uds=str(path)), base_url="http://localhost") as client,
    ):
        assert client.get("/v1/token").status_code == 200
        write_machine(dataclasses.replace(machine, fault="error"))
        assert client.get("/v1/token").status_code == 500
        write_machine(machine)
        assert client.get("/v1/token").status_code == 200


def test_the_first_error_is_one_sentence(
    short_folder: Path, machine: SimulatedMachine, write_machine: WriteMachine
) -> None:
    missing, file = short_folder / "missing.sock", write_machine(machine)
    cases: list[tuple[tuple[str | Path, ...], str]] = [
        (("token", "--control", missing, "--machine", file, "--audience", "me"), "start `mcbn-simulator issuer` first"),
        (("token", "--control", missing, "--machine", missing, "--audience", "me"), "cannot be read"),
        (("launcher", "--socket", short_folder / "s", "--control", missing, "--machine", file), "No issuer answers"),
        (("issuer", "--control", missing, "--listen", "here"), "HOST:PORT"),
        (("issuer", "--control", missing, "--ready-fd", "77"), "--ready-fd 77"),
    ]
    for arguments, complaint in cases:
        result = run(*arguments)
        assert result.returncode == 1
        assert result.stdout == ""
        assert result.stderr.startswith(("mcbn-simulator: ", "SIMULATED CONFIDENTIAL SPACE"))
        assert complaint in result.stderr
        assert "Traceback" not in result.stderr


def test_version_and_usage() -> None:
    assert run("--version").stdout == f"mcbn-simulator {__version__}\n"
    assert run("issuer").returncode == 2
    installed = Path(sys.executable).parent / "mcbn-simulator"
    shown = subprocess.run([installed, "--help"], capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert shown.returncode == 0
    assert all(command in shown.stdout for command in ("issuer", "launcher", "token"))
