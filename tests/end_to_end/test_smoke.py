"""The smoke test from its first command to its report, on a cloud that is this machine."""

import asyncio
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from mcbn_protocol.identifiers import Role
from mcbn_simulator.demo.narration import Narrator
from mcbn_simulator.demo.processes import supervised
from mcbn_smoke.cloud import Cloud, Site
from mcbn_smoke.errors import ExitCode, LeftBehindError, SmokeError
from mcbn_smoke.images import Builder
from mcbn_smoke.play import smoke
from mcbn_smoke.stage import Patience
from tests.end_to_end.simulated_cloud import PROJECT, PROJECT_NUMBER, SimulatedCloud
from tests.unit.images.conftest import SmallTree

pytestmark = pytest.mark.timeout(300)

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = Patience(boot=60, lease=15, heal=60)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give a folder with a short name, in which everything temporary lands that comes after pytest's own."""
    with tempfile.TemporaryDirectory(prefix="s-") as name:
        (Path(name) / "tmp").mkdir()
        monkeypatch.setenv("TMPDIR", f"{name}/tmp")
        monkeypatch.setattr(tempfile, "tempdir", None)
        yield Path(name)


@pytest.fixture
def builder(tmp_path: Path) -> Builder:
    """Give the real image builder on a small source tree, whose images have the real configuration."""
    (tmp_path / "inputs").mkdir()
    tree = SmallTree(tmp_path / "tree", tmp_path / "inputs")
    for role in Role:
        tree.write(f"deploy/images/{role}.toml", (ROOT / f"deploy/images/{role}.toml").read_bytes())
    command = [sys.executable, "-m", "mcbn_images", "--source", str(tree.root)]
    return Builder(command=command, sources=tree.sources)


async def play(folder: Path, builder: Builder, *, debug: bool = False) -> tuple[ExitCode, SimulatedCloud]:
    (folder / "cloud").mkdir()
    async with supervised(folder / "cloud") as supervisor:
        cloud = SimulatedCloud(folder / "cloud", supervisor, debug=debug)
        status = await smoke(cloud, builder, PATIENCE, folder / "report.json", Narrator(Console(stderr=True)))
        await asyncio.gather(*(process.ended() for process in cloud.processes))
    return status, cloud


def report_of(folder: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return report


async def test_all_acts_go_as_expected_and_the_report_says_nothing_of_whose_cloud_it_was(
    folder: Path, builder: Builder
) -> None:
    status, cloud = await play(folder, builder)
    report = report_of(folder)
    assert status is ExitCode.OK, report
    assert report["passed"] is True
    assert report["failure"] is None
    assert [(act["act"], act["passed"]) for act in report["acts"]] == [
        ("gather", True),
        ("page", True),
        ("pause", True),
        ("resume", True),
        ("debug-image", True),
        ("wrong-digest", True),
    ]
    assert report["acts"][2]["facts"]["seconds"] > 0
    for role in ("client", "server"):
        token = report["tokens"][role]
        assert set(token) == {"header", "claims"}
        assert token["header"]["alg"] == "RS256"
        assert token["claims"]["aud"] == "mcbn-smoke"
        assert token["claims"]["dbgstat"] == "disabled-since-boot"
        assert token["claims"]["submods"]["container"]["image_digest"] == report["digests"][role]
        assert set(token["claims"]["submods"]["gce"].values()) == {"redacted"}
    text = (folder / "report.json").read_text()
    for secret in ("eyJ", PROJECT, PROJECT_NUMBER, "-vm", "/tmp", "registry."):
        assert secret not in text
    assert not cloud.is_open
    assert list((folder / "tmp").iterdir()) == []


@pytest.mark.long
async def test_a_vm_that_gets_no_share_fails_the_test_and_everything_is_deleted_all_the_same(
    folder: Path, builder: Builder, capfd: pytest.CaptureFixture[str]
) -> None:
    status, cloud = await play(folder, builder, debug=True)
    assert status is ExitCode.FAILED
    report = report_of(folder)
    assert report["passed"] is False
    assert [act["passed"] for act in report["acts"]] == [False]
    assert "log" not in report["acts"][0]["facts"]
    assert not cloud.is_open
    assert list((folder / "tmp").iterdir()) == []
    talk = capfd.readouterr().err
    assert "dbgstat" in talk  # the VM's last words
    assert "nothing is left" in talk


class Broken:
    """A cloud that cannot be opened, and perhaps not be closed."""

    def __init__(self, *, stays: bool) -> None:
        self._stays = stays

    async def open(self, ports: object) -> Site:
        raise SmokeError("no quota")

    async def close(self) -> None:
        if self._stays:
            raise LeftBehindError(["gcloud delete it"])


@pytest.mark.parametrize(("stays", "expected"), [(False, ExitCode.FAILED), (True, ExitCode.LEFT_BEHIND)])
async def test_a_cloud_that_does_not_open_is_closed_and_what_stays_is_named(
    folder: Path, builder: Builder, capfd: pytest.CaptureFixture[str], stays: bool, expected: ExitCode
) -> None:
    cloud: Cloud = Broken(stays=stays)  # type: ignore[assignment]  # no act comes to the rest
    status = await smoke(cloud, builder, PATIENCE, folder / "report.json", Narrator(Console(stderr=True)))
    assert status is expected
    assert report_of(folder)["failure"] == "no quota"
    assert ("gcloud delete it" in capfd.readouterr().err) is stays


async def test_a_cancelled_smoke_test_closes_the_cloud_and_writes_its_report(folder: Path, builder: Builder) -> None:
    (folder / "cloud").mkdir()
    async with supervised(folder / "cloud") as supervisor:
        cloud = SimulatedCloud(folder / "cloud", supervisor)
        narrator = Narrator(Console(stderr=True))
        task = asyncio.ensure_future(smoke(cloud, builder, PATIENCE, folder / "report.json", narrator))
        await cloud.opened.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert not cloud.is_open
    assert report_of(folder)["passed"] is False
    assert list((folder / "tmp").iterdir()) == []
