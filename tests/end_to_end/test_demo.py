"""The demo as a person runs it: what it shows, its exit status, and what it leaves behind, which is nothing."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import IO

import psutil
import pytest

from mcbn_simulator.demo import processes
from mcbn_simulator.demo.acts import Act
from mcbn_simulator.demo.listeners import loopback_listener, url_of
from mcbn_simulator.demo.processes import DemoError, supervised

# One worker for all of them: each demo starts a dozen programs.
pytestmark = pytest.mark.timeout(900)

DEMO = (str(Path(sys.executable).with_name("mcbn-simulator")), "demo")
ACTS = ["release", "channels", "pause", "resume", "debug-image", "wrong-digest"]
DEADLINE = 600


@pytest.fixture
def temporary() -> Iterator[Path]:
    """The demos' TMPDIR. Its name is short, for unix sockets, and in the environment of everything that they start."""
    with tempfile.TemporaryDirectory(prefix="t-") as name:
        yield Path(name)


def started(temporary: Path, *arguments: str) -> subprocess.Popen[str]:
    environment = {
        **os.environ,
        "TMPDIR": str(temporary),
        "http_proxy": "http://127.0.0.1:1",
        "MCBN_DATA_DIR": "/nowhere",
    }
    return subprocess.Popen(
        [*DEMO, *arguments], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def running(temporary: Path) -> list[psutil.Process]:
    """Every process that a demo with this TMPDIR has started, and the demo."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get("TMPDIR") == str(temporary) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def read_until(stream: IO[str] | None, text: str) -> str:
    assert stream is not None
    said = []
    for line in stream:
        said.append(line)
        if text in line:
            return line
    pytest.fail(f"no {text!r} in:\n{''.join(said)}")


def test_two_demos_at_once_go_as_expected_and_leave_nothing(temporary: Path) -> None:
    began = time.monotonic()
    with started(temporary, "--output", "json") as one, started(temporary) as other:
        acts, talk = one.communicate(timeout=DEADLINE)
        summary, other_talk = other.communicate(timeout=DEADLINE)
    assert one.returncode == 0, talk
    assert other.returncode == 0, other_talk
    told = [json.loads(line) for line in acts.splitlines()]
    assert [act["act"] for act in told] == ACTS
    assert all(act["passed"] for act in told)
    facts = {act["act"]: act["facts"] for act in told}
    channel = {"protocol": "TLSv1.3", "suite": "TLS_CHACHA20_POLY1305_SHA256", "group": "X25519MLKEM768"}
    assert facts["release"] == facts["resume"] == channel
    assert facts["pause"]["participant"] == "bob"
    assert facts["channels"]["dtls12-psk"]["protocol"] == "DTLSv1.2"
    assert facts["channels"]["dtls12-psk"]["suite"] == "ECDHE-PSK-CHACHA20-POLY1305"
    assert facts["channels"]["mtls13"] == channel
    lines = {f"{line}{role}-vm" for line in ("", "dtls-", "mtls-") for role in ("server", "client")}
    assert set(facts["pause"]["ended"]) == lines
    names = ["alice", "bob", "carol"]
    assert facts["debug-image"] == {"checks": dict.fromkeys(names, "dbgstat")}
    assert facts["wrong-digest"] == {"checks": dict.fromkeys(names, "image_digest")}
    assert "Bob refuses" in talk or "bob refuses" in talk
    assert summary.count("as expected") == len(ACTS)
    assert ("client on mbedtls" in talk) is (find_spec("mbedtls") is not None)
    assert "\x1b" not in summary + other_talk + talk
    assert running(temporary) == []
    assert list(temporary.iterdir()) == []
    print(f"two demos at once took {time.monotonic() - began:.0f} s")  # noqa: T201  # a measurement, not a condition


@pytest.mark.parametrize(
    ("number", "moment"),
    [
        (signal.SIGTERM, "roster build"),
        pytest.param(signal.SIGINT, "Act 3.", marks=pytest.mark.long),
    ],
)
def test_an_interrupted_demo_leaves_no_process_and_no_folder(
    temporary: Path, number: signal.Signals, moment: str
) -> None:
    with started(temporary) as demo:
        read_until(demo.stderr, moment)
        assert len(running(temporary)) > 1
        assert len(list(temporary.iterdir())) == 1
        demo.send_signal(number)
        demo.send_signal(number)  # impatience changes nothing
        out, err = demo.communicate(timeout=DEADLINE)
    assert demo.returncode == 128 + number
    assert out == ""
    assert "Traceback" not in err
    assert running(temporary) == []
    assert list(temporary.iterdir()) == []


def test_a_killed_demo_takes_its_processes_along(temporary: Path) -> None:
    with started(temporary) as demo:
        read_until(demo.stderr, "roster build")
        orphans = [process for process in running(temporary) if process.pid != demo.pid]
        assert orphans
        demo.kill()
    while alive := running(temporary):  # the test's own deadline ends this
        psutil.wait_procs(alive, timeout=1)


def test_a_kept_folder_is_private_and_named(temporary: Path) -> None:
    with started(temporary, "--keep") as demo:
        line = read_until(demo.stderr, "Everything stays in")
        read_until(demo.stderr, "agree")
        demo.send_signal(signal.SIGINT)
        demo.communicate(timeout=DEADLINE)
    assert demo.returncode == 128 + signal.SIGINT
    assert running(temporary) == []
    (folder,) = temporary.iterdir()
    assert line.strip().endswith(str(folder))
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / "logs" / "issuer.log").exists()


async def test_an_act_that_goes_otherwise_is_not_as_expected() -> None:
    async def perform(_scene: object) -> object:
        raise DemoError("Carol sleeps.", ["carol: zzz"])

    act = Act("nap", "Carol", "Carol is awake", perform)  # type: ignore[arg-type]  # needs no scene
    outcome = await act.play(None)  # type: ignore[arg-type]  # same
    assert not outcome.passed
    assert outcome.happened == "Carol sleeps."
    assert outcome.facts == {"log": ["carol: zzz"]}
    assert json.loads(outcome.to_json())["passed"] is False


async def test_a_program_that_ignores_the_polite_signal_is_ended(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(processes, "STOP_SECONDS", 0.2)
    program = "import signal; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True); signal.pause()"
    async with supervised(tmp_path) as supervisor:
        process = await supervisor.start("deaf", sys.executable, "-c", program)
        await process.event("its word", lambda event: event.text == "deaf")
    assert process.status == -signal.SIGKILL
    assert (tmp_path / "deaf.log").read_text() == "deaf\n"


async def test_a_program_that_ends_early_shows_its_last_words(tmp_path: Path) -> None:
    async with supervised(tmp_path) as supervisor:
        process = await supervisor.start("brief", sys.executable, "-c", "raise SystemExit('no broker answers')")
        with pytest.raises(DemoError, match=r"(?s)brief ended with status 1 before its address.*no broker answers"):
            await process.event("its address", lambda event: event.name == "address")


async def test_sockets_are_handed_over_as_to_a_service(tmp_path: Path) -> None:
    program = (
        "import os, socket; print(os.environ['LISTEN_PID'] == str(os.getpid()), os.environ['LISTEN_FDNAMES']); "
        "[print(socket.socket(fileno=n).getsockname()[1]) for n in (3, 4)]"
    )
    async with supervised(tmp_path) as supervisor:
        with loopback_listener() as one, loopback_listener() as other:
            process = await supervisor.start(
                "service", sys.executable, "-c", program, sockets={"broker": one, "health": other}
            )
            await process.ended()
            ports = [url_of(listener).rpartition(":")[2] for listener in (one, other)]
    assert process.printed[:3] == ["True broker:health", *ports]


async def test_a_cancelled_demo_ends_its_programs(tmp_path: Path) -> None:
    listening = asyncio.Event()
    pids = []

    async def play() -> None:
        async with supervised(tmp_path) as supervisor:
            process = await supervisor.start("sleeper", sys.executable, "-c", "import signal; signal.pause()")
            pids.append(process.pid)
            listening.set()
            await process.ended()

    task = asyncio.create_task(play())
    await listening.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not psutil.pid_exists(pids[0])
