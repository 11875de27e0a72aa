from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import pytest

from vitedge.bench.spread import instability, summarize, wilson_interval
from vitedge.bench.workers.timing import RunBudget, measure, warm_up


class FakeClock:
    """Advances by the next duration with every timed call."""

    def __init__(self, durations_ms: Iterable[float]) -> None:
        self.now = 0.0
        self._durations = iter(durations_ms)

    def __call__(self) -> float:
        return self.now

    def run(self) -> None:
        self.now += next(self._durations) / 1000


def test_warm_up_goes_on_while_the_latency_falls() -> None:
    falling = [100, 90, 80, 70, 60, 50, 45, 40, 35, 30, *[20] * 50]
    clock = FakeClock(falling)
    samples, stable = warm_up(clock.run, max_seconds=100, clock=clock)
    assert stable
    assert len(samples) == 20  # two windows of five at 20 ms after two falling ones
    assert samples[0] == pytest.approx(100)


def test_warm_up_gives_up_in_time_and_says_so() -> None:
    clock = FakeClock(1000 * 0.9**k for k in range(1000))
    _, stable = warm_up(clock.run, max_seconds=2, clock=clock)
    assert not stable
    assert clock.now < 3


@dataclass(frozen=True)
class Budget:
    id: str
    runs: int | None
    each_ms: float
    expected: int


BUDGETS = [
    Budget("exactly as many as asked", 7, 9000, 7),
    Budget("quick ones reach the 99th percentile", None, 1, 1000),
    Budget("after five seconds a hundred are enough", None, 40, 125),
    Budget("slow ones still reach a hundred", None, 100, 100),
    Budget("after a minute it is over", None, 7000, 9),
    Budget("at least one", None, 100_000, 1),
]


@pytest.mark.parametrize("case", BUDGETS, ids=lambda case: case.id)
def test_as_many_runs_as_the_time_allows(case: Budget) -> None:
    clock = FakeClock(case.each_ms for _ in range(10_000))
    budget = RunBudget(case.runs, 0, 1000, 5.0, 100, 60.0)
    told: list[int] = []
    samples = measure(clock.run, budget, told.append, clock)
    assert len(samples) == case.expected
    assert told == list(range(1, case.expected + 1))


@pytest.mark.parametrize(
    ("n", "allowed"),
    [(19, ()), (20, ("p50",)), (100, ("p50", "p90")), (1000, ("p50", "p90", "p99"))],
)
def test_a_percentile_that_the_number_of_samples_does_not_allow_is_none(
    n: int, allowed: tuple[str, ...]
) -> None:
    spread = summarize([float(value) for value in range(1, n + 1)])
    assert spread is not None
    given = {name for name in ("p50", "p90", "p99") if getattr(spread, name) is not None}
    assert given == set(allowed)
    assert (spread.min, spread.mean, spread.n) == (1, (n + 1) / 2, n)


def test_no_samples_have_no_spread() -> None:
    assert summarize([]) is None


@dataclass(frozen=True)
class Times:
    id: str
    samples: list[float]
    words: str
    warm: bool = True
    others: float = 1.0


TIMES = [
    Times("quiet", [10.0, 10.1] * 50, ""),
    Times("wide", [10.0] * 80 + [15.0] * 20, "longer than the median"),
    Times("throttling", [10.0] * 50 + [12.0] * 50, "drifted by +20 %"),
    Times("not warm", [10.0] * 50, "warm-up", warm=False),
    Times("busy", [10.0] * 50, "other programs had 30 % of the processors", others=30.0),
]


@pytest.mark.parametrize("case", TIMES, ids=lambda case: case.id)
def test_times_that_cannot_be_trusted_are_said_to_be(case: Times) -> None:
    words = instability(case.samples, warm=case.warm, others_percent=case.others)
    assert (words == "") == (case.words == "")
    assert case.words in words


@pytest.mark.parametrize(
    ("right", "n", "low", "high"),
    # Wilson intervals from R: prop.test(right, n, correct = FALSE).
    [(0, 10, 0.0, 27.75), (5, 10, 23.66, 76.34), (10, 10, 72.25, 100.0)],
)
def test_the_confidence_interval_is_wilsons(right: int, n: int, low: float, high: float) -> None:
    # The expected values are rounded to two digits.
    assert wilson_interval(right, n) == pytest.approx((low, high), abs=0.006)
