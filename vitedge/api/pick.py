"""``vitedge.pick``: which artefact to ship."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from vitedge.api.listening import Tell, python_warning
from vitedge.api.models import Model, opened
from vitedge.api.options import SourceOptions, as_typed, command_of, import_options, targets_of
from vitedge.api.photos import photos_of
from vitedge.bench.run import BenchOptions
from vitedge.images.image_sets import ImageSet
from vitedge.images.in_memory import Images
from vitedge.pick import run
from vitedge.pick.choice import Budget
from vitedge.pick.made import Variety
from vitedge.pick.run import Picked, PickRequest
from vitedge.targets.target import Target
from vitedge.terminal.progress import Progress, silent

if TYPE_CHECKING:
    from typing import Unpack

MAX_DROP = 1.0
"""Points of top-1 that an artefact may lose where nobody says how many."""


def pick(
    model: Model,
    data: Images,
    *,
    calibration: Images | None = None,
    targets: str | Target | Iterable[str | Target] = (),
    max_drop: float = MAX_DROP,
    max_latency: float | None = None,
    max_size: float | None = None,
    minutes: float | None = None,
    output: str | os.PathLike[str] = ".",
    threads: int | None = None,
    resume: str | os.PathLike[str] | None = None,
    strict: bool = False,
    force: bool = False,
    progress: Progress = silent,
    warn: Tell = python_warning,
    **source: Unpack[SourceOptions],
) -> Picked:
    """Names the artefact of a model to ship: made, measured and chosen within a budget.

    Every precision that the targets' formats have is converted and measured in turns; with
    ``minutes`` those with fewer tokens, fewer pixels or narrower layers, too, as long as one
    promises to be faster. Of those within the budget the fastest is named, with how sure that is::

        picked = vitedge.pick(model, (images, labels), max_drop=0.5)
        picked.choice.meets_budget, picked.choice.best

    Args:
        model: A path, or a Keras model in memory.
        data: Labelled images to measure accuracy on.
        calibration: Other images, labelled or not, to measure the ranges of integers on. None means
            synthetic ones, and a warning.
        targets: The places where it shall run. None means every target that is ready here.
        max_drop: Points of top-1 that may be lost against float32.
        max_latency: Most milliseconds of an inference, the median.
        max_size: Most MB (10^6 bytes) of the artefact.
        minutes: Try fewer tokens and pixels as well, as ``convert(tokens=..., image_size=...)``
            makes them, and begin no other such artefact after so long. None does not.
        output: Folder for the artefacts.
        threads: CPU threads; None means the physical cores.
        resume: Folder that keeps logits and what was made, so that an interrupted run goes on.
        strict: An image that cannot be read is an error, not left out.
        force: Overwrite what exists.
        progress: Told how far things are.
        warn: Told what is odd; by default Python warns.
        **source: See ``SourceOptions``.

    Returns:
        The choice. Where none is within the budget, the nearest; ``choice.meets_budget`` says so.

    Raises:
        UsageError: An output exists, or a target is unknown.
        ModelError: The model cannot be read.
        DataError: Images cannot be used, or some are in both sets.
        ConversionError: None of the artefacts can be made.
        UnavailableError: No target is ready here.
    """
    if calibration is None:
        warn(
            "no --calibration images were given, so ranges are fitted to synthetic ones; a few "
            "dozen typical photos, other than those of --data, make int8 more accurate"
        )
    photos, ranges, folder = photos_of(data), photos_of(calibration), Path(output)
    assert photos is not None  # there are data
    with opened(model, import_options(source, warn)) as found:
        again = None if found.in_memory else _again(found.path, ranges, folder, source)
        request = PickRequest(
            model=found.path,
            data=photos,
            budget=Budget(max_drop, max_latency, max_size),
            targets=targets_of(targets),
            calibration=ranges,
            output=folder,
            force=force,
            strict=strict,
            minutes=minutes,
            importing=found.importing,
            bench=BenchOptions(threads=threads, resume=None if resume is None else Path(resume)),
        )

        def reproduce(variety: Variety) -> str:
            return "" if again is None else command_of([*again, *variety.typed(found.path)])

        return run.pick(request, reproduce=reproduce, progress=progress, warn=warn)


def _again(
    model: Path, calibration: Path | ImageSet | None, output: Path, source: SourceOptions
) -> list[str] | None:
    """The command that makes an artefact again, less its precision; None where none can."""
    if isinstance(calibration, ImageSet):
        return None
    try:
        words = ["convert", str(model), *as_typed(source)]
    except ValueError:
        return None
    if calibration is not None:
        words += ["--calibration", str(calibration)]
    return [*words, "-o", str(output), "--force"]
