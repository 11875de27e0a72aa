"""Measuring artefacts in turns, A B A B, so that what disturbs one disturbs all alike."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence

from vitedge.bench.spread import ROUNDS, pairwise_ratio
from vitedge.bench.trial import Trial
from vitedge.bench.workers.messages import Measure
from vitedge.report.results import Ratio
from vitedge.targets.precisions import Precision

# Whoever ran in between has evicted this artefact's weights from the caches.
_SETTLING_RUNS = 2


def measure_in_turns(
    trials: Sequence[Trial], runs: int | None, on_round: Callable[[Trial, int], None]
) -> None:
    """Shares the runs of each trial out over ``ROUNDS`` turns; ``on_round`` is told before each.

    Args:
        trials: All opened and warm.
        runs: Runs of each trial in all, rounded up to whole turns; None as ``Measure`` has it.
        on_round: Called with the trial and the number of its turn.
    """
    command = Measure(
        None if runs is None else math.ceil(runs / ROUNDS),
        settling_runs=_SETTLING_RUNS,
        enough_runs=100,
        enough_seconds=0.5,
        wanted_runs=10,
        max_seconds=6.0,
    )
    for number in range(ROUNDS):
        for trial in trials:
            on_round(trial, number)
            samples = trial.measure(command, lambda _: None)
            if samples:
                trial.rounds_ms.append(statistics.median(samples))


def ratios(trials: Sequence[Trial]) -> dict[int, Ratio]:
    """Each trial's ratio to its model's float32 artefact, by the trial's position.

    Artefacts of other models or batches are not compared, nor are trials that failed midway.
    """
    found = {}
    for position, trial in enumerate(trials):
        base = _base_of(trial, trials)
        if base is not None and len(trial.rounds_ms) == len(base.rounds_ms) == ROUNDS:
            name = str(base.candidate.artifact)
            found[position] = pairwise_ratio(trial.rounds_ms, base.rounds_ms, name)
    return found


def _base_of(trial: Trial, trials: Sequence[Trial]) -> Trial | None:
    ours = trial.candidate.metadata
    if ours is None or trial.opened is None or ours.precision is Precision.FP32:
        return None
    for other in trials:
        theirs = other.candidate.metadata
        if (
            theirs is not None
            and other.opened is not None
            and theirs.precision is Precision.FP32
            and theirs.source.sha256 == ours.source.sha256
            and other.candidate.target == trial.candidate.target
            and other.opened.input_shape == trial.opened.input_shape
        ):
            return other
    return None
