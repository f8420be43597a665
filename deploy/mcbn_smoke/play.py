"""Plays the acts on a cloud, and deletes everything that was made there, whatever happened."""

import time
from collections.abc import Sequence
from pathlib import Path

from mcbn_protocol.identifiers import Role
from mcbn_simulator.demo.narration import Narrator
from mcbn_simulator.demo.outcomes import Outcome
from mcbn_simulator.demo.processes import DemoError, supervised
from mcbn_simulator.demo.workspace import workspace
from mcbn_smoke.acts import Act, acts_at
from mcbn_smoke.cloud import Cloud
from mcbn_smoke.errors import ExitCode, LeftBehindError
from mcbn_smoke.images import Builder
from mcbn_smoke.stage import Patience, Stage, Workshop, staged
from mcbn_smoke.summary import Summary


async def smoke(cloud: Cloud, builder: Builder, patience: Patience, report: Path, narrator: Narrator) -> ExitCode:
    """Play all acts, write the report, and close the cloud, also after a failure or when cancelled.

    Args:
        cloud: Where the VMs run.
        builder: Builds the images.
        patience: How long things may take.
        report: Where the report goes; it is written however far the acts went.
        narrator: Tells what happens.
    """
    summary = Summary()
    passed = left_behind = False
    try:
        with workspace(keep=False) as space:
            async with supervised(space.logs) as supervisor:
                workshop = Workshop(
                    cloud=cloud,
                    builder=builder,
                    patience=patience,
                    space=space,
                    supervisor=supervisor,
                    narrator=narrator,
                )
                passed = await _perform(workshop, summary)
    finally:
        try:
            summary.write(report, passed=passed, now=time.time())
        finally:
            left_behind = not await _closed(cloud, narrator)
    if left_behind:
        return ExitCode.LEFT_BEHIND
    return ExitCode.OK if passed else ExitCode.FAILED


async def _closed(cloud: Cloud, narrator: Narrator) -> bool:
    narrator.act("Everything is deleted")
    try:
        await cloud.close()
    except LeftBehindError as error:
        narrator.bad(error.what, error.log)
        return False
    narrator.good("nothing is left in the project but the interfaces that were enabled")
    return True


async def _perform(workshop: Workshop, summary: Summary) -> bool:
    try:
        async with staged(workshop) as stage:
            summary.hwmodel, summary.debug = stage.site.hwmodel, stage.site.debug
            summary.digests = {role.value: image.digest for role, image in stage.images.items()}
            summary.tokens = stage.collector.tokens
            outcomes: list[Outcome] = []
            summary.outcomes = outcomes
            return await _acts(stage, acts_at(stage.site), outcomes)
    except DemoError as error:
        summary.failure = error.what
        workshop.narrator.bad(f"The stage could not be set. {error.what}", error.log)
        return False


async def _acts(stage: Stage, acts: Sequence[Act], outcomes: list[Outcome]) -> bool:
    """Play the acts in order until one fails: each needs what the ones before it have left."""
    for number, act in enumerate(acts, start=1):
        stage.narrator.act(f"Act {number}. {act.title}")
        outcome = await act.play(stage)
        outcomes.append(outcome)
        if not outcome.passed:
            stage.narrator.bad(outcome.happened, outcome.facts.get("log", ()))
            for role in Role:
                stage.narrator.bad(f"The last words of the {role}'s VM:", await stage.cloud.log(role))
            return False
        stage.narrator.good(outcome.happened)
    return True
