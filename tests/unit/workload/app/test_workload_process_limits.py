"""What a workload asks of the operating system: no core dumps, and room for its connections."""

import json
import os
import resource
import subprocess
import sys

import pytest

from mcbn_workload.app.process_limits import OTHER_FILES, forbid_core_dumps, room_for_connections

UNLIMITED = resource.RLIM_INFINITY

CRASH = """
import os, resource, sys
from mcbn_workload.app.process_limits import forbid_core_dumps
forbid_core_dumps()
child = os.fork()
if child == 0:
    os.abort()
_, status = os.waitpid(child, 0)
print(os.WCOREDUMP(status), *resource.getrlimit(resource.RLIMIT_CORE))
"""

SHOW_LIMITS = """
import json, resource
print(json.dumps([resource.getrlimit(one) for one in (resource.RLIMIT_CORE, resource.RLIMIT_NOFILE)]), flush=True)
"""


@pytest.fixture
def limits(monkeypatch):
    current = {resource.RLIMIT_NOFILE: (1024, 4096), resource.RLIMIT_CORE: (0, UNLIMITED)}
    monkeypatch.setattr(resource, "getrlimit", current.__getitem__)
    monkeypatch.setattr(resource, "setrlimit", current.__setitem__)
    return current


@pytest.mark.parametrize(("hard", "limit"), [(UNLIMITED, 1), (4096, 1), (1, 1), (0, 0)])
def test_core_dumps_are_forbidden_to_files_and_to_programs(limits, hard, limit):
    limits[resource.RLIMIT_CORE] = (0, hard)
    forbid_core_dumps()
    assert limits[resource.RLIMIT_CORE] == (limit, limit)


def test_a_process_that_crashes_leaves_no_core_dump(tmp_path):
    result = subprocess.run(
        [sys.executable, "-c", CRASH],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    dumped, soft, hard = result.stdout.split()
    assert dumped == "False"
    assert (soft, hard) in {("1", "1"), ("0", "0")}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("before", "room", "raised"),
    [
        ((4096, 4096), 1024, 4096),
        ((1024, 4096), 1024, 2048 + OTHER_FILES),
        ((1024, UNLIMITED), 1024, 2048 + OTHER_FILES),
        ((UNLIMITED, UNLIMITED), 1024, UNLIMITED),
        ((256, 1024), (1024 - OTHER_FILES) // 2, 1024),
        ((64, 64), 1, 64),
    ],
)
def test_connections_leave_file_descriptors_to_the_brokers(limits, caplog, before, room, raised):
    limits[resource.RLIMIT_NOFILE] = before
    assert room_for_connections(1024) == room
    assert limits[resource.RLIMIT_NOFILE] == (raised, before[1])
    fields = [(one.event, one.connections, one.wanted) for one in caplog.records]
    assert fields == ([] if room == 1024 else [("few_file_descriptors", room, 1024)])


async def test_a_tunnel_raises_its_limit_and_the_application_may_not_dump_core_either(machine):
    path = machine.configuration("server", forward="127.0.0.1:1")
    command = json.dumps([sys.executable, "-I", "-c", SHOW_LIMITS])
    path.write_text(path.read_text() + f"[application]\ncommand = {command}\n")
    before = ("/bin/sh", "-c", 'ulimit -Sn 400; ulimit -Hn 500; exec "$@"', "sh")
    workload = await machine.start("server", "--config", path, before=before, MCBN_LISTEN="127.0.0.1:0")
    warning = await workload.event("few_file_descriptors")
    core, files = json.loads(await workload.process.stdout.readline())
    assert core in ([1, 1], [0, 0])
    assert files == [500, 500]
    assert (warning["connections"], warning["wanted"]) == ((500 - OTHER_FILES) // 2, 1024)
    assert await workload.end() == 0
