"""`--tokens auto`: artefacts whose tokens are merged as was measured best for each.

A schedule is chosen on one half of the images and proved on the other, which says what it loses.
While searching, integers are fitted to a few images: that changes neither the graph nor its time.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from vitedge.artifacts.metadata import Metadata
from vitedge.artifacts.token_merging import Lost
from vitedge.artifacts.written import Written
from vitedge.converters.converter import Draft
from vitedge.errors import DataError
from vitedge.files.temporary import temporary_folder
from vitedge.images.image_sets import ImageSet
from vitedge.images.samples import Selection
from vitedge.images.synthetic import synthetic_images
from vitedge.pipeline.artifact_maker import ArtifactMaker
from vitedge.pipeline.budget import DropBudget, Outputs
from vitedge.pipeline.compared_images import ImagesInUse
from vitedge.pipeline.open_model import OpenModel
from vitedge.pipeline.options import ConvertOptions
from vitedge.pipeline.token_merging import TokenOptions
from vitedge.pipeline.token_search import Proved, Trial, search
from vitedge.pipeline.tuning import in_turns
from vitedge.quantize.cores import all_cores
from vitedge.report.quality import Drop
from vitedge.rewrite.schedule_moves import far_apart, near
from vitedge.rewrite.token_schedule import Scheduled
from vitedge.runtimes import runtime_for
from vitedge.targets.formats import Format
from vitedge.targets.precisions import Precision
from vitedge.terminal.progress import Progress, silent

_Emitted: TypeAlias = tuple[Draft, Metadata]

# What a trial's integers are fitted to; what is alike on average takes more images to see.
_SKETCHED, _SKETCHED_CONSTANT = 4, 48

# Schedules that are proved, at most; each is a whole conversion.
_PROVED = 4

# One that fails says so of those that leave about as much work.
_ALIKE = 0.03

# Half of them cannot tell three points apart.
_LEAST_IMAGES = 32


class SearchingMaker:
    """Makes artefacts, each with the schedule of merging that is best for it here.

    Args:
        opened: The model.
        options: The artefacts to make, with a search and a budget.
        progress: Told how far things are.

    Raises:
        DataError: There are too few images to search and to prove on.
        ConversionError: Tokens of this model cannot be merged.
    """

    def __init__(self, opened: OpenModel, options: ConvertOptions, progress: Progress) -> None:
        assert options.search is not None
        assert options.budget is not None
        self._opened, self._progress, self._search = opened, progress, options.search
        self._options = replace(options, search=None)
        self._max_drop, images = options.budget.max_drop, options.budget.images
        self._halves = tuple(DropBudget(self._max_drop, half) for half in _halves(images))
        self._network = opened.imported.network
        next(far_apart(self._network))  # or its tokens cannot be merged
        self._plain = ArtifactMaker(opened, self._options, progress)
        self.model = self._plain.model

    def write(self, path: Path, target: Format, precision: Precision) -> Written:
        """Searches, then emits one artefact, checks it and publishes it."""
        minutes = self._search.minutes
        deadline = math.inf if minutes is None else time.monotonic() + 60 * minutes
        judges = [
            _Judge(half, self._plain, target, self._progress, path.name) for half in self._halves
        ]
        plain = self._plain.draft(target, precision)
        allowed = self._max_drop - max(0.0, judges[0].lost(plain).points)
        trials, count = self._trials(path.name, plain, judges[0], allowed, deadline)
        ended = ""
        if minutes is not None and time.monotonic() > deadline:
            ended = f" (the search ended after {minutes:g} minutes)"
        made = self._proved(path, precision, judges[1], trials, count, ended)
        if made is not None:
            return made
        written = self._plain.write(path, target, precision)
        why = (
            f"no tokens are merged: of {count} schedules none is faster and within the "
            f"budget{ended}"
        )
        return replace(written, lost="; ".join(filter(None, (written.lost, why))))

    def _trials(
        self, name: str, plain: _Emitted, judge: _Judge, allowed: float, deadline: float
    ) -> tuple[tuple[Trial, ...], int]:
        """Schedules within the budget, the fastest first, and how many were measured."""
        target, precision = plain[1].format, plain[1].precision
        count = 0

        def measure(found: Scheduled) -> Trial:
            nonlocal count
            self._progress(f"{name}: schedules of merging measured", count, 0)
            count += 1
            with all_cores():  # small matrices: a BLAS of several threads only waits
                maker = ArtifactMaker(self._sketch, self._merging(found), silent)
            lost = judge.lost(maker.draft(target, Precision.FP32)).points
            if lost > allowed:
                return Trial(found, math.inf, lost)
            return Trial(found, ratio(maker.draft(target, precision)), lost)

        with _compared_with(plain) as ratio:
            found = search(
                far_apart(self._network),
                lambda scheduled: near(self._network, scheduled),
                measure,
                allowed=allowed,
                is_late=lambda: allowed < 0 or time.monotonic() > deadline,
            )
        return found, count

    def _proved(
        self,
        path: Path,
        precision: Precision,
        judge: _Judge,
        trials: Sequence[Trial],
        count: int,
        ended: str,
    ) -> Written | None:
        """The fastest that keeps the budget on the images that no schedule was chosen by.

        ``ended`` says in words what ended the search before its time; it is empty if nothing did.
        """
        failed: list[float] = []
        for trial in trials:
            found = trial.scheduled
            if any(abs(found.share - each) < _ALIKE for each in failed):
                continue
            if len(failed) == _PROVED:
                break
            maker = ArtifactMaker(self._opened, self._merging(found), self._progress)
            assert maker.merging is not None
            floats = judge.outputs(maker.draft(judge.target, Precision.FP32))
            made = judge.outputs(maker.draft(judge.target, precision))
            total, integers = judge.paired(judge.floats, made), judge.paired(floats, made)
            if total.points > self._max_drop:
                failed.append(found.share)
                continue
            lost = judge.paired(judge.floats, floats)
            words = (
                f"found as the fastest of {count} schedules measured here{ended}: "
                f"{trial.ratio:.2f} of the time; --tokens {found.words} makes it again"
            )
            proved = Proved(
                replace(maker.merging, lost=_shown(lost), search=words),
                f"{_shown(total)} lost of {self._max_drop:g} in all, on the half of the images "
                f"that no schedule was chosen by; by {precision} alone {_shown(integers)}, by "
                f"merging alone {_shown(lost)}",
            )
            return maker.write(path, judge.target, precision, proved)
        return None

    def _merging(self, found: Scheduled) -> ConvertOptions:
        tokens = TokenOptions(schedule=found.schedule, constant=self._search.constant)
        return replace(self._options, tokens=tokens, budget=None)

    @property
    def _sketch(self) -> OpenModel:
        """The model with few images, of which nothing is kept."""
        count = _SKETCHED_CONSTANT if self._search.constant else _SKETCHED
        photos = self._opened.images.calibration
        if photos is None:
            few = synthetic_images(self._network.preprocessing, count, seed=0)
        else:
            few = _part(photos, range(min(count, len(photos.samples))))
        return self._opened.with_images(ImagesInUse(few, _part(few, range(1)), "images"))


class _Judge:
    """The loss of drafts of one format on some images against float32 without merging."""

    def __init__(
        self,
        budget: DropBudget,
        plain: ArtifactMaker,
        target: Format,
        progress: Progress,
        name: str,
    ) -> None:
        progress(f"measuring {name} without merging", 0, 1)
        self.target, self._plain = target, plain
        self._measured = Outputs(budget, plain.preprocessing, target)
        self.floats = self.outputs(plain.draft(target, Precision.FP32))

    def outputs(self, emitted: _Emitted) -> npt.NDArray[np.float32]:
        """The outputs of a draft for each image."""
        return self._measured.of(*emitted)

    def lost(self, emitted: _Emitted) -> Drop:
        """The loss of a draft."""
        return self.paired(self.floats, self.outputs(emitted))

    def paired(self, before: npt.NDArray[np.float32], now: npt.NDArray[np.float32]) -> Drop:
        """The loss of outputs against others."""
        return self._measured.paired(before, now, self._plain.task, self._plain.scores.middle)


@contextmanager
def _compared_with(plain: _Emitted) -> Iterator[Callable[[_Emitted], float]]:
    """Times drafts in turns with one, in the format's own runtime on all cores."""
    target = plain[1].format
    chosen = target.default_target
    runtime = runtime_for(chosen)
    with temporary_folder() as folder:

        def saved(emitted: _Emitted, name: str) -> Path:
            path = folder / f"{name}{target.suffix}"
            emitted[0].save(path, emitted[1])
            return path

        session = runtime.open(saved(plain, "plain"), chosen.device)
        pixels = np.random.default_rng(0).integers(0, 256, session.input_shape, np.uint8)

        def ratio(emitted: _Emitted) -> float:
            other = runtime.open(saved(emitted, "merged"), chosen.device)
            try:
                return statistics.median(in_turns((session, other), pixels)[1])
            finally:
                other.close()

        try:
            yield ratio
        finally:
            session.close()


def _halves(images: ImageSet) -> tuple[ImageSet, ImageSet]:
    """Every second image, which of images sorted by class is half of each class; and the others.

    Raises:
        DataError: There are too few.
    """
    count = len(images.samples)
    if count < _LEAST_IMAGES:
        raise DataError(
            f"'{images.name}' holds {count} images; --tokens auto chooses by one half and "
            f"proves on the other, so it takes at least {_LEAST_IMAGES}"
        )
    return _part(images, range(0, count, 2)), _part(images, range(1, count, 2))


def _part(images: ImageSet, numbers: range) -> ImageSet:
    return replace(images, samples=Selection(images.samples, np.asarray(numbers, np.intp)))


def _shown(drop: Drop) -> Lost:
    return Lost(drop.points, drop.low, drop.high, drop.n)
