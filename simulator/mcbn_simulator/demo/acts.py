"""The acts: what is done, what must come of it, and how that is seen in what the programs say."""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from mcbn_simulator.demo import refused_acts, released_acts
from mcbn_simulator.demo.outcomes import Outcome
from mcbn_simulator.demo.processes import DemoError
from mcbn_simulator.demo.scene import Scene
from mcbn_simulator.demo.seen import Seen
from mcbn_simulator.demo.terms import LEASE_SECONDS


@dataclass(frozen=True)
class Act:
    """One act.

    Attributes:
        name: Stable, for programs.
        title: What is about to happen.
        expected: What must come of it.
        perform: Does it; raises `DemoError` when something else comes of it.
    """

    name: str
    title: str
    expected: str
    perform: Callable[[Scene], Awaitable[Seen]]

    async def play(self, scene: Scene) -> Outcome:
        """Perform it, and say what came of it."""
        started = time.monotonic()
        try:
            seen = await self.perform(scene)
        except DemoError as error:
            seen, passed = Seen(error.what, {"log": error.log}), False
        else:
            passed = True
        return Outcome(self.name, self.expected, seen.text, passed, time.monotonic() - started, seen.facts)


ACTS: Final = (
    Act(
        "release",
        "Three brokers release their shares, and a page comes through the channel",
        "each broker releases to server and client; TLS 1.3 PSK channel; the page",
        released_acts.release,
    ),
    Act(
        "channels",
        "The same shares open the other channels",
        "DTLS for datagrams, between two TLS libraries; mutual TLS with derived keys",
        released_acts.channels,
    ),
    Act(
        "pause",
        "Bob pauses his consent",
        f"a new client gets no key; every channel ends at both ends within {LEASE_SECONDS} s; all of them name Bob",
        released_acts.pause,
    ),
    Act(
        "resume", "Bob allows again", "both ends heal by themselves; a new client reads the page", released_acts.resume
    ),
    Act(
        "debug-image",
        "Frank boots the debug image of Confidential Space",
        "every broker refuses, failing check dbgstat",
        refused_acts.debug_image,
    ),
    Act(
        "wrong-digest",
        "Frank runs an image that nobody agreed to",
        "every broker refuses, failing check image_digest",
        refused_acts.wrong_digest,
    ),
)
