"""A real broker whose disk fails, is full, or holds a damaged database."""

import random
import subprocess
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from mcbn_broker.errors import EXIT_CODES
from tests.end_to_end.network import Broker, Desk, Network, ask, code_of
from tests.end_to_end.tracing import traced

pytestmark = pytest.mark.timeout(300)


@pytest.mark.parametrize(
    ("calls", "error"),
    [("pwrite64,pwritev,ftruncate,fallocate", "ENOSPC"), ("pwrite64,pwritev", "EIO"), ("fsync,fdatasync", "EIO")],
    ids=["full disk", "write error", "sync error"],
)
def test_a_failing_disk_releases_nothing_and_recovers_by_itself(
    network: Network, desk: Desk, strace: str, calls: str, error: str
) -> None:
    injection = ("-f", "-o", "/dev/null", "-e", f"trace={calls}", "-e", f"inject={calls}:error={error}")
    with Broker(desk).ready() as broker, broker.connect() as client:
        request = network.fresh_request(client)
        with traced(strace, broker.pid, *injection):
            for _ in range(2):
                refused = ask(client, request)
                assert (refused.status_code, code_of(refused)) == (503, "storage_unavailable")
                assert int(refused.headers["retry-after"]) > 0
            assert client.get("/v1/manifest").status_code == httpx.codes.OK
        assert desk.releases() == set()
        release = network.released(ask(client, request))  # nothing was spent
        assert ask(client, request).status_code == httpx.codes.CONFLICT
        assert desk.releases() == {(release.audit_sequence, release.audit_hash.hex())}
        assert broker.stop() == 0
    assert desk.command("audit", "verify").returncode == 0


# Mounts a small disk of its own over the desk, puts the desk's files on it, and becomes the program.
SMALL_DISK = (
    'cp -a "$1/." "$2" && mount -t tmpfs -o size=6m,mode=700 none "$1" && cp -a "$2/." "$1" && cd "$1" && '
    'shift 2 && exec "$@"'
)


@pytest.fixture
def unshare(require_tool: Callable[..., str]) -> str:
    path = require_tool("unshare", "util-linux")
    tried = subprocess.run([path, "-rm", "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, check=False)
    if tried.returncode != 0:
        pytest.skip("user namespaces with mounts are not allowed here, and a full disk needs a disk of its own")
    return path


def fill(path: Path) -> None:
    """Take all the space that there is."""
    with path.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


def test_on_a_full_disk_nothing_is_released_and_a_pause_still_works(
    network: Network, desk: Desk, tmp_path: Path, unshare: str, require_tool: Callable[..., str]
) -> None:
    spare = tmp_path / "spare"
    spare.mkdir()
    disk = (unshare, "-rm", "sh", "-ec", SMALL_DISK, "sh", str(desk.root), str(spare))
    with Broker(desk, prefix=disk).ready() as broker, broker.connect() as client:
        inside = (require_tool("nsenter", "util-linux"), "--target", str(broker.pid), "--user", "--mount", "--")
        seen = Desk(Path(f"/proc/{broker.pid}/root{desk.root}"))
        with pytest.raises(OSError, match="No space left"):
            fill(seen.root / "filler")
        request = network.fresh_request(client)
        refused = ask(client, request)
        assert (refused.status_code, code_of(refused)) == (503, "storage_unavailable")
        paused = desk.command("consent", "pause", "--reason", "the disk is full", prefix=inside)
        assert paused.returncode == 0, paused.stderr
        assert code_of(ask(client, request)) in {"consent_paused", "storage_unavailable"}
        (seen.root / "filler").unlink()
        assert code_of(ask(client, network.fresh_request(client))) == "consent_paused"
        assert desk.command("consent", "allow", prefix=inside).returncode == 0
        network.released(ask(client, network.fresh_request(client)))
        verified = desk.command("audit", "verify", prefix=inside)
        assert verified.returncode == 0, verified.stderr
        assert broker.stop() == 0


def scribble(database: Path) -> None:
    """Every page but the first holds something else."""
    content = database.read_bytes()
    noise = random.Random(7).randbytes(len(content) - 4096)  # noqa: S311  # no secret
    database.write_bytes(content[:4096] + noise)


def break_header(database: Path) -> None:
    database.write_bytes(b"Not a database.\0" + database.read_bytes()[16:])


def halve(database: Path) -> None:
    content = database.read_bytes()
    database.write_bytes(content[: len(content) // 2 // 4096 * 4096])


@pytest.mark.parametrize("damage", [scribble, break_header, halve])
def test_a_damaged_database_keeps_the_broker_from_starting(desk: Desk, damage: Callable[[Path], None]) -> None:
    damage(desk.database)
    damaged = desk.database.read_bytes()
    started = desk.command("serve", "--listen", "127.0.0.1:0", "--health-listen", "127.0.0.1:0")
    assert started.returncode == EXIT_CODES["storage"].number, started.stderr
    assert "is damaged" in started.stderr
    assert "restore the newest backup" in started.stderr
    assert "Traceback" not in started.stderr
    assert desk.database.read_bytes() == damaged, "it is kept for examination"
