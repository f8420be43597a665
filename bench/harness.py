"""What every benchmark has in common: interleaved rounds, figures with their spread, goals with a verdict."""

import statistics
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

ROUNDS_MIN: Final = 5
SPREAD_MAX: Final = 0.15
"""A yardstick that varies by more than this, between rounds of one run, measures the machine's mood."""

Verdict = Literal["met", "missed", "no verdict"]


@dataclass(frozen=True)
class Options:
    """How much to measure: rounds, and a factor on the operations in each round."""

    rounds: int
    scale: float

    def operations(self, count: int) -> int:
        """Return how many operations one variant makes in one round."""
        return max(1, round(count * self.scale))


@dataclass(frozen=True)
class Sample:
    """One variant in one round.

    Attributes:
        value: What is compared, in the series' unit, for one operation.
        latencies: Seconds of each operation as its caller saw it; empty where nobody waited.
    """

    value: float
    latencies: Sequence[float] = ()


@dataclass
class Series:
    """One variant in all rounds.

    Attributes:
        name: The variant.
        unit: Of its values, such as `us CPU`.
        memory: Resident bytes of the measured process, if that was looked at.
    """

    name: str
    unit: str
    samples: list[Sample] = field(default_factory=list)
    memory: int | None = None

    @property
    def values(self) -> list[float]:
        """One value for each round."""
        return [sample.value for sample in self.samples]

    @property
    def median(self) -> float:
        """The median over the rounds."""
        return statistics.median(self.values)

    @property
    def spread(self) -> float:
        """(highest - lowest) / median over the rounds."""
        return (max(self.values) - min(self.values)) / self.median

    def latency(self, percent: int) -> float | None:
        """A percentile over all operations of all rounds, in seconds."""
        ordered = sorted(second for sample in self.samples for second in sample.latencies)
        return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)] if ordered else None

    def ratio(self, yardstick: "Series") -> float:
        """The median of the ratios within each round, which a change between rounds leaves alone."""
        return statistics.median(mine / its for mine, its in zip(self.values, yardstick.values, strict=True))


@dataclass(frozen=True)
class Goal:
    """One figure with its limit.

    Attributes:
        text: What is compared with what.
        value: As measured.
        limit: At most this, or at least this where `at_least`.
        doubt: Why there is no verdict; empty if there is one.
    """

    text: str
    value: float
    limit: float
    at_least: bool = False
    doubt: str = ""

    @property
    def verdict(self) -> Verdict:
        """Whether it is met, if that can be said."""
        if self.doubt:
            return "no verdict"
        return "missed" if self.beyond else "met"

    @property
    def beyond(self) -> bool:
        """Whether the value lies beyond the limit, in doubt or not."""
        return self.value < self.limit if self.at_least else self.value > self.limit


@dataclass
class Report:
    """What one benchmark has to say.

    Attributes:
        title: What was measured, and how many operations in a round.
        yardstick: The variant to which the others are compared.
        series: Every variant, the yardstick included.
        goals: With their verdicts.
        notes: Facts without which the figures would be misread.
        profile: Where the time goes, if a goal was missed.
    """

    title: str
    yardstick: Series
    series: list[Series]
    goals: list[Goal] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    profile: str = ""

    @property
    def missed(self) -> bool:
        """Whether any goal seems to be missed: then a profile is due, also where the noise allows no verdict."""
        return any(goal.beyond for goal in self.goals)


def doubt(yardstick: Series, rounds: int) -> str:
    """Return why a comparison with this yardstick allows no verdict, or nothing if it does."""
    if rounds < ROUNDS_MIN:
        return f"{rounds} rounds, at least {ROUNDS_MIN} are needed"
    if yardstick.spread > SPREAD_MAX:
        return f"{yardstick.name} itself varied by {yardstick.spread:.0%}"
    return ""


def in_turn(rounds: int, names: Sequence[str]) -> Iterator[str]:
    """Yield every name once a round, each round beginning with another one."""
    for number in range(rounds):
        start = number % len(names)
        yield from (*names[start:], *names[:start])


async def measure(rounds: int, unit: str, variants: Mapping[str, Callable[[], Awaitable[Sample]]]) -> dict[str, Series]:
    """Run all variants in turn, after one unmeasured round that warms everything up."""
    series = {name: Series(name, unit) for name in variants}
    for run in variants.values():
        await run()
    for name in in_turn(rounds, list(variants)):
        series[name].samples.append(await variants[name]())
    return series
