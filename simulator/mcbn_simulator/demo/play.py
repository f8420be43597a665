"""A whole demo: plays all acts, cleans up whatever happens, and says what came of it."""

import asyncio
from collections.abc import Callable, Sequence

import typer
from rich.console import Console

from mcbn_simulator.demo.acts import ACTS, Act
from mcbn_simulator.demo.interruption import interruptible
from mcbn_simulator.demo.narration import Narrator
from mcbn_simulator.demo.outcomes import Outcome, print_summary
from mcbn_simulator.demo.processes import DemoError, supervised
from mcbn_simulator.demo.scene import Scene, staged
from mcbn_simulator.demo.workspace import Workspace, workspace


def play(*, as_json: bool, keep: bool) -> int:
    """Play it; returns the exit status.

    Args:
        as_json: Print one JSON object for each act, in place of a table at the end.
        keep: Leave the folder.
    """
    return asyncio.run(interruptible(lambda: _play(as_json=as_json, keep=keep)))


async def _play(*, as_json: bool, keep: bool) -> int:
    narrator = Narrator(Console(stderr=True))
    narrator.warning("SIMULATED CONFIDENTIAL SPACE: this shows how MCBN works, and protects nothing.")
    outcomes: list[Outcome] = []

    def tell(outcome: Outcome) -> None:
        outcomes.append(outcome)
        if as_json:
            typer.echo(outcome.to_json())

    with workspace(keep=keep) as space:
        if keep:
            narrator.warning(f"Everything stays in {space.root}")
        passed = await _perform(space, narrator, tell)
    if outcomes and not as_json:
        print_summary(outcomes, Console())
        narrator.step(
            "README.md says how participants start for real; --keep leaves the folder of all this to look at."
        )
    return 0 if passed else 1


async def _perform(space: Workspace, narrator: Narrator, tell: Callable[[Outcome], None]) -> bool:
    """Play the acts in order until one fails: each needs what the ones before it have left."""
    async with supervised(space.logs) as supervisor:
        try:
            scene = await staged(space, supervisor, narrator)
        except DemoError as error:
            narrator.bad(f"The stage could not be set. {error.what}", error.log)
            return False
        try:
            return await _acts(scene, narrator, ACTS, tell)
        finally:
            scene.leave()


async def _acts(scene: Scene, narrator: Narrator, acts: Sequence[Act], tell: Callable[[Outcome], None]) -> bool:
    for number, act in enumerate(acts, start=1):
        narrator.act(f"Act {number}. {act.title}")
        outcome = await act.play(scene)
        tell(outcome)
        if not outcome.passed:
            narrator.bad(outcome.happened, outcome.facts.get("log", ()))
            return False
        narrator.good(outcome.happened)
    return True
