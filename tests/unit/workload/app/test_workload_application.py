"""The application beside the tunnel, with real processes."""

import json
import signal
import sys

import pytest

WAIT_FOR_SIGTERM = """
import signal
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])  # so that one before sigwait is not lost
print("running", flush=True)
signal.sigwait([signal.SIGTERM])
print("told to end", flush=True)
"""

DEAF = """
import signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("running", flush=True)
while True:
    signal.pause()
"""

SHOW_SURROUNDINGS = """
import json, os, sys
print(json.dumps({"environment": dict(os.environ), "input": sys.stdin.read(), "folder": os.getcwd()}), flush=True)
"""

LEAVE_AN_ORPHAN = """
import os, time
readable, writable = os.pipe()
if os.fork() == 0:
    if os.fork() == 0:
        os.write(writable, str(os.getpid()).encode())
    os._exit(0)
os.wait()
orphan = int(os.read(readable, 20))
print("orphaned", flush=True)
while True:
    try:
        os.kill(orphan, 0)  # a process that nobody has reaped still counts
    except ProcessLookupError:
        print("reaped", flush=True)
        break
    time.sleep(0.01)
"""

LEAVE_A_CHILD = """
import os, signal
if os.fork() == 0:
    while True:
        signal.pause()
os._exit(7)
"""


@pytest.fixture
def start(machine):
    """Give `await start(program)`: a server that runs a Python program beside its tunnel."""

    async def run(program, *before, command=None, environment=""):
        path = machine.configuration("server", forward="127.0.0.1:1")
        words = json.dumps(command or [sys.executable, "-I", "-c", program])
        path.write_text(path.read_text() + f"[application]\ncommand = {words}\n{environment}")
        return await machine.start("server", "--config", path, before=before, MCBN_LISTEN="127.0.0.1:0")

    return run


async def line(workload) -> str:
    return (await workload.process.stdout.readline()).decode().strip()


async def test_sigterm_is_passed_on_and_both_end_in_peace(start):
    workload = await start(WAIT_FOR_SIGTERM)
    await workload.event("ready")
    assert await line(workload) == "running"
    workload.process.send_signal(signal.SIGTERM)
    assert await line(workload) == "told to end"
    assert await workload.end() == 0
    names = [event["event"] for event in workload.events]
    assert names.index("application_started") < names.index("application_ended") < names.index("stopped")


async def test_one_that_does_not_listen_is_killed_after_the_grace(start):
    workload = await start(DEAF)
    await workload.event("ready")
    assert await line(workload) == "running"
    workload.process.send_signal(signal.SIGTERM)
    assert await workload.end() == 0
    (ended,) = [event for event in workload.events if event["event"] == "application_ended"]
    assert ended["status"] == -signal.SIGKILL


async def test_a_second_sigterm_does_not_wait_for_it(start):
    workload = await start(DEAF)
    await workload.event("ready")
    assert await line(workload) == "running"
    workload.process.send_signal(signal.SIGTERM)
    await workload.event("stopping")
    workload.process.send_signal(signal.SIGTERM)
    assert await workload.end() == 0
    assert workload.events[-2]["status"] == -signal.SIGKILL


async def test_one_that_is_done_ends_the_workload(start):
    workload = await start("print('done')")
    assert await workload.end() == 0
    assert [event["event"] for event in workload.events][-2:] == ["stopping", "stopped"]


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("raise SystemExit(3)", "exit status 3"),
        ("import os; os.kill(os.getpid(), 9)", "signal 9"),
    ],
)
async def test_one_that_fails_ends_the_workload_with_a_code_of_its_own(start, program, said):
    workload = await start(program)
    assert await workload.end() == 6
    assert workload.events[-1]["code"] == "application_failed"
    assert said in workload.events[-1]["message"]


async def test_one_that_is_not_there_is_named(start):
    workload = await start("", command=["/nonexistent/program"])
    assert await workload.end() == 6
    assert "cannot start /nonexistent/program: No such file" in workload.events[-1]["message"]


async def test_its_environment_is_the_images_alone(start):
    workload = await start(SHOW_SURROUNDINGS, environment='environment = { TZ = "UTC", LANG = "C" }\n')
    surroundings = json.loads(await line(workload))
    assert surroundings == {
        "environment": {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C", "TZ": "UTC"}
        | {name: value for name, value in surroundings["environment"].items() if name == "LC_CTYPE"},  # Python's own
        "input": "",
        "folder": "/",
    }
    assert await workload.end() == 0


async def test_what_it_leaves_behind_is_killed(start):
    workload = await start(LEAVE_A_CHILD)
    assert await workload.end() == 6
    assert await workload.process.stdout.read() == b""  # its end: nobody holds the pipe any more


async def test_as_process_1_it_reaps_orphans(start, require_tool):
    unshare = require_tool("unshare", "util-linux")
    workload = await start(LEAVE_AN_ORPHAN, unshare, "--user", "--map-root-user", "--pid", "--fork", "--kill-child")
    assert await line(workload) == "orphaned"
    assert await line(workload) == "reaped"
    assert await workload.end() == 0
