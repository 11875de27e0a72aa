"""``convert --tune``: where two graphs are plausible, both are timed here and the faster is kept.

Which graph is faster depends on the processor and on the runtime's release. What is tried must be
as accurate as the usual graph; speed is never bought with accuracy.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from vitedge.artifacts.metadata import Metadata, Parity
from vitedge.converters.converter import Draft
from vitedge.converters.tools import Variant, tools_of
from vitedge.files.temporary import temporary_folder
from vitedge.pipeline.verified_write import Reference
from vitedge.runtimes import run_batches, runtime_for
from vitedge.targets.formats import Format
from vitedge.targets.precisions import Precision

# Rounds of one run each, A B C A B C, after two that are not counted.
_ROUNDS, _WARM_UP = 40, 2

# Kept in place of the usual graph when it takes less of its time than this, in so many rounds.
_FASTER, _ROUNDS_FASTER = 0.98, 0.75

# What a graph may lose against the usual one; rounding in another order moves this much.
_LESS_DB = 0.5


USUAL = Variant("usual")


def variants(target: Format, precision: Precision) -> tuple[Variant, ...]:
    """The variants that could be faster somewhere, the usual one first."""
    if precision.all_integer:
        return (USUAL,)  # NPUs take one form
    return (USUAL, *tools_of(target).variants(precision))


@dataclass(frozen=True)
class Tuned:
    """The variant to keep.

    Attributes:
        variant: The variant.
        words: The measurements in words, for the metadata.
    """

    variant: Variant
    words: str


def fastest(drafts: Sequence[tuple[Variant, Draft, Metadata]], reference: Reference) -> Tuned:
    """Times drafts in turns, in the format's own runtime on all cores.

    Args:
        drafts: The usual one first.
        reference: The outputs that all variants must compute.
    """
    target = drafts[0][2].format
    chosen = target.default_target
    sessions: list[Any] = []
    with temporary_folder() as folder:
        try:
            for number, (_, draft, metadata) in enumerate(drafts):
                path = folder / f"{number}{target.suffix}"
                draft.save(path, metadata)
                sessions.append(runtime_for(chosen).open(path, chosen.device))
            qualities = [_sqnr_db(session, reference) for session in sessions]
            ratios = in_turns(sessions, reference.pixels[: sessions[0].input_shape[0]])
        finally:
            for session in sessions:
                session.close()
    best, words = USUAL, []
    least = _FASTER
    for (variant, _, _), ratio, quality in zip(drafts, ratios, qualities, strict=True):
        if variant is USUAL:
            continue
        median = statistics.median(ratio)
        wins = sum(each < 1 for each in ratio) / len(ratio)
        is_accurate = quality >= qualities[0] - _LESS_DB
        verdict = "" if is_accurate else f", {qualities[0] - quality:.1f} dB less accurate"
        words.append(f"{variant.name}: {median:.2f} x the time{verdict}")
        if is_accurate and wins >= _ROUNDS_FASTER and median < least:
            best, least = variant, median
    return Tuned(best, f"kept {best.name} ({'; '.join(words)}; {_ROUNDS} rounds in turns)")


def _sqnr_db(session: Any, reference: Reference) -> float:
    parity = Parity.of(run_batches(session, reference.pixels), reference.outputs)
    return float("inf") if parity.sqnr_db is None else parity.sqnr_db


def in_turns(sessions: Sequence[Any], pixels: npt.NDArray[np.uint8]) -> list[list[float]]:
    """The time of each session over that of the first, round by round."""
    found: list[list[float]] = [[] for _ in sessions]
    for number in range(_WARM_UP + _ROUNDS):
        times = []
        for session in sessions:
            start = time.perf_counter()
            session.run(pixels)
            times.append(time.perf_counter() - start)
        if number >= _WARM_UP:
            for ratios, taken in zip(found, times, strict=True):
                ratios.append(taken / times[0])
    return found
