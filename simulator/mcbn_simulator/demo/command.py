"""The command `mcbn-simulator demo`: plays all acts, cleans up whatever happens, and says what came of it."""

import asyncio
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Annotated

import typer
from rich.console import Console

from mcbn_simulator.demo.acts import ACTS, Act
from mcbn_simulator.demo.interruption import interruptible
from mcbn_simulator.demo.narration import Narrator
from mcbn_simulator.demo.outcomes import Outcome, print_summary
from mcbn_simulator.demo.processes import DemoError, supervised
from mcbn_simulator.demo.scene import Scene, staged
from mcbn_simulator.demo.workspace import Workspace, workspace


class Output(StrEnum):
    """What standard output gets."""

    TABLE = "table"
    JSON = "json"


def demo(
    *,
    output: Annotated[Output, typer.Option(help="A table at the end, or one JSON object for each act.")] = Output.TABLE,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the folder with keys, databases and logs.")] = False,
) -> None:
    """Show the whole system at work, on this machine alone.

    Three brokers, two workloads and a channel, all of them real programs.

    Exit codes: 0 every act went as expected, 1 one did not, 130 after Ctrl-C.
    """
    raise typer.Exit(asyncio.run(interruptible(lambda: _play(output, keep=keep))))


async def _play(output: Output, *, keep: bool) -> int:
    narrator = Narrator(Console(stderr=True))
    narrator.warning("SIMULATED CONFIDENTIAL SPACE: this shows how MCBN works, and protects nothing.")
    outcomes: list[Outcome] = []
    with workspace(keep=keep) as space:
        if keep:
            narrator.warning(f"Everything stays in {space.root}")
        passed = await _perform(space, narrator, lambda one: _tell(one, output, outcomes))
    if outcomes and output is Output.TABLE:
        print_summary(outcomes, Console())
    return 0 if passed else 1


def _tell(outcome: Outcome, output: Output, outcomes: list[Outcome]) -> None:
    outcomes.append(outcome)
    if output is Output.JSON:
        typer.echo(outcome.to_json())


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
