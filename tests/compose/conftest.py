"""The whole system in containers of a real engine, from images built for its own roster."""

import asyncio
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rich.console import Console

from mcbn_simulator.compose.stage import prepare
from mcbn_simulator.demo.narration import Narrator
from tests.compose.containers import Engine, System, engine_here
from tests.images.building import build, copy_of_the_tree, unavailable


@pytest.fixture(scope="session")
def engine(require_tool: Callable[..., str]) -> Engine:
    """Give the container engine of this machine; where there is none, say how to start one."""
    require_tool("docker", "docker.io")
    engine = engine_here()
    if engine is None:
        unavailable("no container engine answers `docker info`, or docker-compose is missing (Debian: docker-compose)")
        raise AssertionError
    return engine


@pytest.fixture(scope="session")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Let three participants agree on images that are built for them, as `mcbn-simulator compose` does."""
    folder = tmp_path_factory.mktemp("compose")
    tree = copy_of_the_tree(folder / "tree")
    build(tree, folder / "example", "--only", "client")  # so that inputs which cannot be had are locked anew
    builder = ["/usr/bin/env", f"PYTHONPATH={tree / 'deploy'}", sys.executable, "-B", "-m", "mcbn_images"]
    asyncio.run(prepare(folder / "stage", builder, Narrator(Console(quiet=True))))
    return folder / "stage"


@pytest.fixture(scope="module")  # a worker's session goes on after these tests, and the containers with it
def system(engine: Engine, stage: Path) -> Iterator[System]:
    """Load the images, start everything, and stop it in the end."""
    system = System(engine, stage)
    for folder in ("images", "simulator-image"):
        for archive in sorted((stage / folder).glob("*.tar")):
            engine.docker("load", "--input", archive)
    try:
        system.compose("up", "--detach", deadline=300)
        yield system
    finally:
        sys.stderr.write(system.last_words())  # shown where a test failed
        system.compose("down", "--timeout", "5", "--volumes")
