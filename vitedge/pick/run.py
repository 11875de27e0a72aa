"""Makes what is plausible, measures it in turns, and chooses."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from vitedge.bench.request import (
    probe_targets,
    refuse_named_classes,
    step_shower,
)
from vitedge.bench.run import BenchOptions, run_bench
from vitedge.converters.tools import converters, precisions_of
from vitedge.errors import UnavailableError
from vitedge.files.temporary import temporary_folder
from vitedge.images.cifar import Part
from vitedge.images.image_sets import ImageSet, open_images
from vitedge.images.readable_images import readable, warn_of_images
from vitedge.importers import ImportOptions
from vitedge.pick.choice import Budget, Choice, choose
from vitedge.pick.made import Made, Variety
from vitedge.pick.overlap import refuse_overlap
from vitedge.pick.search import cheaper_within
from vitedge.pick.table import contenders_table
from vitedge.pick.words import in_words
from vitedge.pipeline.compared_images import divide
from vitedge.pipeline.folder_turn import in_turn
from vitedge.pipeline.open_model import OpenModel
from vitedge.report.results import MadeBy, Pick, Report
from vitedge.report.shown import Block, Shown
from vitedge.report.text_table import notes
from vitedge.runtimes import Readiness, runtime_for
from vitedge.targets.precisions import Precision, all_precisions
from vitedge.targets.target import Target
from vitedge.terminal.progress import Progress, silent

# Devices that compute in float as they do in integers.
_FLOAT_DEVICES = ("cpu", "gpu", "cuda", "webgpu", "web", "web-gpu")


@dataclass(frozen=True)
class PickRequest:
    """A person's request for an artefact to ship.

    Attributes:
        model: Any model that an importer reads.
        data: Images to measure accuracy on, or where they are.
        budget: The budget of the artefact.
        targets: The targets where it shall run; empty means every target that is ready here.
        calibration: Other images to measure activation ranges on; None means synthetic ones.
        output: Folder for the artefacts.
        force: Existing artefacts may be overwritten.
        strict: An image that cannot be read is an error; else it is left out.
        minutes: The time after which no other artefact that does less is begun; None means that all
            do all the work.
        importing: The options for reading the model.
        bench: The options of the measurement, which is always in turns.
    """

    model: Path
    data: Path | ImageSet
    budget: Budget
    targets: tuple[Target, ...] = ()
    calibration: Path | ImageSet | None = None
    output: Path = field(default_factory=Path)
    force: bool = False
    strict: bool = False
    minutes: float | None = None
    importing: ImportOptions = field(default_factory=ImportOptions)
    bench: BenchOptions = field(default_factory=BenchOptions)


@dataclass(frozen=True, repr=False)
class Picked(Shown):
    """The result of a pick.

    Attributes:
        report: The bench of all artefacts, with the pick in it.
        choice: The artefact, and the others.
        refused: The reason why an artefact could not be made, by its file name.
    """

    report: Report
    choice: Choice
    refused: dict[str, str]

    def blocks(self, width: int | None) -> Sequence[Block]:
        """The candidates, the refusals, and the choice in words with its command."""
        summary = self.report.pick
        return [
            *contenders_table(self.choice),
            *notes(self.report),
            *(f"{name}: not made: {reason}" for name, reason in self.refused.items()),
            *([] if summary is None else [summary.words]),
            *([summary.command] if summary is not None and summary.command else []),
        ]


def pick(
    request: PickRequest,
    *,
    reproduce: Callable[[Variety], str],
    progress: Progress = silent,
    warn: Callable[[str], None] = lambda words: None,
) -> Picked:
    """Converts a model in every precision that the targets' formats have, measures, chooses.

    Where there is time for it, artefacts that do less (fewer tokens, fewer pixels) are made and
    measured then, as long as one promises to be faster within the budget. An artefact that cannot
    be made, or does not run, is not a contender; the others still are.

    Args:
        request: The request.
        reproduce: The command that makes one artefact of the model again.
        progress: Told how far things are.
        warn: Told what is left out of the images, and of the search.

    Raises:
        UsageError: An output exists, or a target is unknown.
        ModelError: The model cannot be read.
        DataError: Images are unusable, or some are in both sets.
        ConversionError: None of the artefacts can be made.
        UnavailableError: No target is ready here.
    """
    started = time.monotonic()
    targets = request.targets or _ready_targets()
    progress("reading the model", 0, 1)
    calibration = _open_calibration(request, warn)
    opened = OpenModel(
        request.model, request.importing, images=divide(calibration), progress=progress
    )
    model = opened.reference()
    data = open_images(request.data, model.class_names)
    warn_of_images(data, warn)
    if not model.class_names and model.task.has_logits:
        refuse_named_classes(data)
    if calibration is not None:
        refuse_overlap(calibration, data)
    # Nobody replaces an artefact between its making and its measuring.
    with in_turn(request.output, progress), _kept_logits(request.bench) as bench:
        made = Made(request.model, request.output, opened, calibration, progress)
        made.resume(request.bench.resume, request.importing, force=request.force)
        artifacts = made.all_tokens(
            tuple(dict.fromkeys(runtime_for(target).format for target in targets)),
            _plausible(targets),
        )

        def measure(paths: Sequence[Path], wanted: Sequence[Target]) -> Report:
            return run_bench(
                paths,
                wanted,
                data=data,
                reference=model,
                options=replace(bench, interleave=True),
                on_step=step_shower(progress),
            )

        report = measure(artifacts, targets)
        if request.minutes is not None:
            deadline = started + 60 * request.minutes
            cheaper = cheaper_within(request.budget, report, made, measure, deadline, warn)
            if cheaper:
                report = measure([*artifacts, *cheaper], targets)
    choice = choose(report.rows, request.budget)
    summary = _summary(choice, made, reproduce)
    return Picked(replace(report, pick=summary), choice, made.refused)


@contextmanager
def _kept_logits(bench: BenchOptions) -> Iterator[BenchOptions]:
    """Keeps logits for as long as artefacts are measured, so that none runs the images twice."""
    if bench.resume is not None:
        yield bench
        return
    with temporary_folder("vitedge-pick-") as folder:
        yield replace(bench, resume=folder)


def _ready_targets() -> tuple[Target, ...]:
    probed = probe_targets()
    ready = [target for target, state in probed.items() if state.readiness == Readiness.READY]
    if not ready:
        remedies = {state.remedy for state in probed.values() if state.remedy}
        raise UnavailableError("no target is ready here", " or ".join(sorted(remedies)))
    return tuple(ready)


def _plausible(targets: tuple[Target, ...]) -> tuple[Precision, ...]:
    """All precisions of the targets' formats, without all-integer ones if every target has floats.

    Those are made for NPUs: on a CPU they are several times slower than float.
    """
    formats = {runtime_for(target).format for target in targets}
    offered = [precisions_of(each) for each in converters() if each.format in formats]
    is_float = all(target.device in _FLOAT_DEVICES for target in targets)
    return tuple(
        each
        for each in all_precisions()
        if any(each in found for found in offered) and not (each.all_integer and is_float)
    )


def _open_calibration(request: PickRequest, warn: Callable[[str], None]) -> ImageSet | None:
    if request.calibration is None:
        return None
    opened = open_images(request.calibration, part=Part.TRAINING)
    calibration = readable(opened, strict=request.strict)
    warn_of_images(calibration, warn, calibrating=True)
    return calibration


def _summary(choice: Choice, made: Made, reproduce: Callable[[Variety], str]) -> Pick:
    best = choice.best
    paths = dict.fromkeys(each.row.artifact for each in choice.contenders)
    made_by = tuple(_made_by(path, made.variety(Path(path)), reproduce) for path in paths)

    def is_best(each: MadeBy) -> bool:
        return best is not None and each.artifact == best.row.artifact

    return Pick(
        artifact=None if best is None else best.row.artifact,
        target=None if best is None else str(best.row.target),
        meets_budget=choice.meets_budget,
        words=in_words(choice),
        command=next((each.command for each in made_by if is_best(each)), ""),
        max_drop=choice.budget.max_drop,
        max_latency_ms=choice.budget.max_latency_ms,
        max_size_mb=choice.budget.max_size_mb,
        front=tuple(str(each) for each in choice.contenders if each.on_front),
        made_by=made_by,
    )


def _made_by(path: str, variety: Variety, reproduce: Callable[[Variety], str]) -> MadeBy:
    return MadeBy(path, variety.words, reproduce(variety))
