"""A broker is killed at every write and sync call of a release: nothing leaves it unrecorded, nothing is spent twice.

strace delivers SIGKILL on entry to the N-th call of one kind by one thread, counted from the moment it attaches, when
the challenge was issued and everything is warm. What the calls are is learnt from an undisturbed release before.
"""

import re
import signal
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from mcbn_protocol.messages import Problem, Release
from tests.end_to_end.network import Broker, Desk, Network, ask
from tests.end_to_end.tracing import traced

pytestmark = pytest.mark.timeout(600)

CALLS = (
    *("write", "writev", "pwrite64", "pwritev", "pwritev2", "sendto", "sendmsg"),
    *("fsync", "fdatasync", "msync", "sync_file_range", "ftruncate", "fallocate", "rename", "unlink"),
)
SYNCS = {"fsync", "fdatasync"}
EVENT_LOOP = 0
FEWEST_PLAUSIBLE = 12
CALL_LINE = re.compile(r"(?P<thread>\d+) +(?P<call>\w+)\(")  # a line `<... call resumed>` is the same call's end
WAKE_UP = re.compile(r"\(\d+<(anon_inode:\[eventfd\]|UNIX)")  # how a thread wakes the event loop; two may become one


@dataclass(frozen=True)
class Point:
    """The `number`-th call of this kind by the `thread`-th thread, in order of their start."""

    thread: int
    call: str
    number: int


@dataclass(frozen=True)
class Aftermath:
    """What came of one killed release."""

    point: Point
    answered: bool
    recorded: bool


def threads(broker: Broker) -> list[int]:
    return sorted(int(task.name) for task in Path(f"/proc/{broker.pid}/task").iterdir())


def calls_of_a_release(strace: str, network: Network, folder: Path) -> list[Point]:
    """Return every call that leaves something behind. Wake-ups do not, and how many there are depends on the load."""
    log = folder / "calls"
    with Broker(network.desk.copy(folder / "undisturbed")).ready() as broker, broker.connect() as client:
        request, order = network.fresh_request(client), threads(broker)
        with traced(strace, broker.pid, "-f", "-yy", "-e", f"trace={','.join(CALLS)}", "-o", str(log)):
            network.released(ask(client, request))
    seen: Counter[tuple[int, str]] = Counter()
    points, woken = [], set()
    for line in log.read_text().splitlines():
        if found := CALL_LINE.match(line):
            key = order.index(int(found["thread"])), found["call"]
            if WAKE_UP.search(line):
                woken.add(key)
                continue
            seen[key] += 1
            points.append(Point(*key, seen[key]))
    assert woken.isdisjoint(seen), "wake-ups would disturb the count of this thread's other calls of the kind"
    makers = Counter(call for thread, call in seen if thread != EVENT_LOOP)
    assert set(makers.values()) <= {1}, "`when` counts for each thread: only one may make calls of a kind"
    assert not {call for thread, call in seen if thread == EVENT_LOOP} & set(makers)
    return points


def kill(strace: str, network: Network, desk: Desk, point: Point) -> tuple[bytes, httpx.Response | None]:
    """Return the request, and its answer if there was a whole one before the broker's end."""
    injection = f"inject={point.call}:signal=KILL:when={point.number}"
    with Broker(desk).ready() as broker, broker.connect() as client:
        request = network.fresh_request(client)
        # The event loop is the main thread; the others have no names here, and start in any order.
        whole = () if point.thread == EVENT_LOOP else ("-f",)
        with traced(strace, broker.pid, *whole, "-e", f"trace={point.call}", "-e", injection):
            try:
                answer: httpx.Response | None = ask(client, request)
            except httpx.TransportError:
                answer = None
            # Before strace is told to let go: while threads are dying it would wait for one that is gone.
            assert broker.ended() == -signal.SIGKILL, f"{point} was not reached"
    return request, answer


def releases_of(desk: Desk, challenge: str) -> list[tuple[int, str]]:
    return [
        (one["sequence"], one["hash"])
        for one in desk.audit_rows()
        if one["record"]["kind"] == "release" and one["record"]["challenge"] == challenge
    ]


def place(release: Release) -> tuple[int, str]:
    return release.audit_sequence, release.audit_hash.hex()


def assert_used(answer: httpx.Response) -> None:
    assert answer.status_code == httpx.codes.CONFLICT, answer.text
    problem = Problem.parse(answer.content)
    assert problem.reason.code == "challenge_used"
    assert problem.unverified_refusal is not None


def examine(network: Network, desk: Desk, point: Point, request: bytes, answer: httpx.Response | None) -> Aftermath:
    """Restart the broker, and hold the promise against what is there."""
    challenge = network.challenge_in(request)
    before = releases_of(desk, challenge)
    assert len(before) <= 1
    if answer is not None:
        assert before == [place(network.released(answer))], "a release went out without its record"
    with Broker(desk) as survivor:
        verified = desk.command("audit", "verify")
        assert verified.returncode == 0, verified.stderr
        with survivor.ready().connect() as client:
            again = ask(client, request)
            if before:
                assert_used(again)
            else:
                assert releases_of(desk, challenge) == [place(network.released(again))]
            assert_used(ask(client, request))
            assert_used(ask(client, network.request(challenge)))
            network.released(ask(client, network.fresh_request(client)))
        assert not any("NEW INCARNATION" in line for line in survivor.said)
    assert len(releases_of(desk, challenge)) == 1
    return Aftermath(point, answer is not None, bool(before))


@pytest.mark.parametrize("each", [3, pytest.param(1, marks=pytest.mark.long)], ids=["every-third", "every"])
def test_killed_at_write_and_sync_calls_of_a_release(
    strace: str, network: Network, tmp_path: Path, record_property: Callable[[str, object], None], each: int
) -> None:
    points = calls_of_a_release(strace, network, tmp_path)
    assert len(points) >= FEWEST_PLAUSIBLE
    last_sync = max(at for at, point in enumerate(points) if point.call in SYNCS)
    assert all(point.thread != EVENT_LOOP for point in points[:last_sync]), "it answers only what is on the disk"
    assert points[-1].thread == EVENT_LOOP
    hit, chosen = [], points[::each]
    for number, point in enumerate(chosen):
        desk = network.desk.copy(tmp_path / f"point-{number}")
        request, answer = kill(strace, network, desk, point)
        hit.append(examine(network, desk, point, request, answer))
    assert [one.point for one in hit] == chosen
    assert {one.recorded for one in hit} == {False, True}, "the points lie on both sides of the commit"
    kinds = ", ".join(f"{count} {call}" for call, count in Counter(point.call for point in points).items())
    unrecorded = sum(not one.recorded for one in hit)
    calls = f"{len(hit)} of the {len(points)} write and sync calls of a release ({kinds})"
    record_property("figure", f"killed at {calls}, {unrecorded} of them before its commit")
