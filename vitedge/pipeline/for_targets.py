"""Artefacts that fit a target: the precision and form that its device takes, proved as far as here.

A target that is here, or whose emulator or compiler is, is asked itself; for the others the rules
of ``device_limits`` are all there is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from vitedge.artifacts.metadata import files_of, read_metadata
from vitedge.artifacts.written import Written
from vitedge.bench.candidates import probe
from vitedge.bench.process import WorkerError, WorkerProcess
from vitedge.bench.workers.messages import Open, Opened, Probed
from vitedge.converters.tools import tools_of
from vitedge.errors import (
    ConversionError,
    ModelError,
    ParityError,
    UnavailableError,
    UsageError,
)
from vitedge.files.staging import refuse_existing, staging
from vitedge.images.image_sets import ImageSet
from vitedge.pipeline.convert import ConvertOptions, convert, images_in_use
from vitedge.pipeline.device_limits import refusals
from vitedge.pipeline.folder_turn import in_turn
from vitedge.pipeline.open_model import OpenModel
from vitedge.pipeline.verified_write import OnWritten, artifact_path, publish_artifact, unheard
from vitedge.runtimes import AheadOfTime, Readiness, fit_of, runtime_for
from vitedge.targets.fits import Fit
from vitedge.targets.precisions import Precision
from vitedge.targets.target import Target
from vitedge.terminal.progress import Progress, silent

_SECONDS_TO_ANSWER = 300.0
_LIMITS_HOLD = "only known limits hold"


@dataclass(frozen=True)
class _Job:
    """One artefact to make for one target."""

    target: Target
    precision: Precision
    path: Path

    @property
    def fit(self) -> Fit:
        return _fit(self.target)

    def compiled(self, chip: str) -> Path:
        """``model.w8a16.onnx-qnn.onnx`` compiled: ``model.w8a16.onnx-qnn-sm8550.onnx``."""
        stem = self.path.stem
        if chip.startswith(self.target.device):  # ethos-u55-128, not ethos-u-u55-128
            stem = stem.removesuffix(self.target.device)
        else:
            stem += "-"
        return self.path.with_name(f"{stem}{chip}{self.path.suffix}")


def convert_for(
    source: Path,
    targets: Sequence[Target],
    options: ConvertOptions,
    *,
    chips: Sequence[str] = (),
    calibration: ImageSet | None = None,
    progress: Progress = silent,
    warn: Callable[[str], None] = lambda _: None,
    on_written: OnWritten = unheard,
) -> tuple[Written, ...]:
    """Converts a model to the precision and form that each target takes.

    Args:
        source: Any model that an importer reads.
        targets: The targets where the artefacts shall run.
        options: The options of ``convert``. Formats follow from the targets; so do precisions if
            none is given.
        chips: The chips to compile for, of targets that take compiled forms; none means all that
            the compiler knows and that do not refuse.
        calibration: Images to measure activation ranges on; None means synthetic ones.
        progress: Told how far things are.
        warn: Told of targets that are not here to be asked, and of chips that refuse.
        on_written: Told of each artefact as soon as it is there.

    Returns:
        For each target and precision the artefact, and behind it its compiled forms.

    Raises:
        UsageError: A target or chip is unknown, or an output exists.
        ConversionError: A target cannot run the precision, or a node, which the message names.
        ParityError: An artefact computes something else than the source, or nothing sensible on its
            target.
        UnavailableError: A chip was named, and its compiler is not here.
        VitedgeError: An error of ``convert``.
    """
    with in_turn(options.output, progress):
        images = images_in_use(options, calibration)
        opened = OpenModel(source, options.importing, images=images, progress=progress)
        return _convert_for(opened, targets, options, chips, progress, warn, on_written)


def _convert_for(
    opened: OpenModel,
    targets: Sequence[Target],
    options: ConvertOptions,
    chips: Sequence[str],
    progress: Progress,
    warn: Callable[[str], None],
    on_written: OnWritten,
) -> tuple[Written, ...]:
    jobs = [
        _Job(target, precision, _path(options, opened.source, target, precision))
        for target in dict.fromkeys(targets)
        for precision in precisions_for(target, options.precisions)
    ]
    _check_chips(chips, targets)
    orders = _orders(jobs, chips)
    outputs = [order.job.path for order in orders]
    outputs += [path for order in orders for path in order.compiled]
    existing = [part for path in outputs for part in files_of(path)]
    refuse_existing(existing, force=options.force)
    written: list[Written] = []
    for order in orders:
        with staging(options.output) as folder:
            progress(f"converting for {order.job.target}", len(written), len(outputs))
            made = [_make(opened, order.job, folder, options, progress)]
            refused: dict[str, ConversionError] = {}
            for chip in order.chips:
                progress(f"compiling for {chip}", len(written) + len(made), len(outputs))
                try:
                    made.append(_compile(made[0], order.job, chip, folder))
                except _RefusedError as error:
                    if chips:  # it was named
                        raise
                    refused[chip] = error
            _prove(order, made, refused, warn)
            published = _published(made, options.output)
            for each in published:
                on_written(each)
            written += published
        for chip in refused:  # an earlier run's would be of another artefact
            for part in files_of(order.job.compiled(chip)):
                part.unlink(missing_ok=True)
    return tuple(written)


@dataclass(frozen=True)
class _Order:
    """A job, and what is here to prove it with.

    Attributes:
        job: The artefacts to make.
        state: Whether the target is here.
        compiler: Whether its compiler is, or None where it has none.
        chips: The chips to compile for.
    """

    job: _Job
    state: Probed
    compiler: Probed | None
    chips: tuple[str, ...]

    @property
    def compiled(self) -> list[Path]:
        """The compiled forms that may be written."""
        return [self.job.compiled(chip) for chip in self.chips]

    @property
    def is_here(self) -> bool:
        """Whether the target, or its emulator, can be asked."""
        return self.state.readiness != Readiness.MISSING

    @property
    def is_proved_by_compiling(self) -> bool:
        """Whether compiling shows what a run would; an emulated one takes minutes."""
        return bool(self.chips) and self.compiler == self.state


def _orders(jobs: Sequence[_Job], chips: Sequence[str]) -> list[_Order]:
    """Asks each target, and its compiler, once."""
    states = {job.target: probe(job.target, _SECONDS_TO_ANSWER) for job in jobs}
    compilers = {target: _compiler(target) for target in states if _known_chips(target)}
    orders = []
    for job in jobs:
        compiler = compilers.get(job.target)
        chosen = _chips(job.target, compiler, chips)
        orders.append(_Order(job, states[job.target], compiler, chosen))
    return orders


def _prove(
    order: _Order,
    made: Sequence[Written],
    refused: Mapping[str, ConversionError],
    warn: Callable[[str], None],
) -> None:
    """Shows an artefact to its target as far as that is here, and says what nobody could prove."""
    # The portable file may be for another vendor's chips, if these can be asked.
    if refused and len(made) == 1 and (order.is_proved_by_compiling or not order.is_here):
        raise next(iter(refused.values()))
    for chip, reason in refused.items():
        warn(f"not compiled for {chip}: {reason}")
    if not order.is_here:
        words = f"{order.state.detail.rstrip('.')}. {order.state.remedy}".rstrip(". ")
        holds = "only what compiling shows holds" if order.chips else _LIMITS_HOLD
        warn(f"{order.job.target} is not here to be asked, so {holds}: {words}")
    elif not order.is_proved_by_compiling:
        _ask_the_device(made[0].path, order.job.target)


def _published(made: Sequence[Written], folder: Path) -> list[Written]:
    for each in made:
        publish_artifact(each.path, folder)
    return [replace(each, path=folder / each.path.name) for each in made]


def _path(options: ConvertOptions, source: Path, target: Target, precision: Precision) -> Path:
    own = runtime_for(target).format
    plain = artifact_path(options.output, source, precision, own, options.name)
    return plain.with_name(f"{plain.stem}.{target}{plain.suffix}")


def precisions_for(target: Target, asked: Sequence[Precision]) -> tuple[Precision, ...]:
    """The precisions to write for a target: those asked for, or the one that suits it best.

    Raises:
        UsageError: The target is unknown, or nothing is known of what it takes.
        ConversionError: The target does not run one of the precisions that were asked for.
    """
    fit = _fit(target)
    for precision in asked:
        if precision not in fit.precisions:
            takes = ", ".join(fit.precisions)
            raise ConversionError(f"{target} does not run {precision}; it takes {takes}")
    return tuple(asked) or fit.precisions[:1]


def _fit(target: Target) -> Fit:
    """The precisions that a target takes; see ``precisions_for`` for the errors."""
    fit = fit_of(target)
    if fit is None:
        raise UsageError(f"what {target} takes is not known; give --format and a precision")
    return fit


def _compiler(target: Target) -> Probed:
    return probe(target, _SECONDS_TO_ANSWER, compiling=True)


def _chips(target: Target, compiler: Probed | None, asked: Sequence[str]) -> tuple[str, ...]:
    """The chips to compile for; where the compiler is not here, none, unless they were named."""
    chips = tuple(chip for chip in _known_chips(target) if chip in asked or not asked)
    if compiler is None or compiler.readiness != Readiness.MISSING:
        return chips
    if asked and chips:
        raise UnavailableError(f"cannot compile for {chips[0]}: {compiler.detail}", compiler.remedy)
    return ()


def _known_chips(target: Target) -> tuple[str, ...]:
    runtime = runtime_for(target)
    if not isinstance(runtime, AheadOfTime):
        return ()
    return runtime.compiled_forms(target.device)


def _check_chips(asked: Sequence[str], targets: Iterable[Target]) -> None:
    known = [chip for target in dict.fromkeys(targets) for chip in _known_chips(target)]
    for chip in asked:
        if chip not in known:
            there = f"there are: {', '.join(known)}" if known else "none of the targets has any"
            raise UsageError(f"no target is compiled for a chip '{chip}'; {there}")


def _make(
    opened: OpenModel, job: _Job, folder: Path, options: ConvertOptions, progress: Progress
) -> Written:
    """Writes the portable artefact of a job into a folder, if its device can run it."""
    own = replace(
        options,
        formats=(runtime_for(job.target).format,),
        precisions=(job.precision,),
        output=folder,
        extra=(*options.extra, *job.fit.rewrites),
    )
    (plain,) = convert(opened.source, own, progress=progress, opened=opened)
    path = folder / job.path.name
    for old, new in zip(files_of(plain.path), files_of(path), strict=True):
        old.replace(new)
    refused = refusals(path, job.fit.limits)
    if refused:
        more = f" and {len(refused) - 3} more" if len(refused) > 3 else ""
        raise ConversionError(f"{job.target} cannot run {'; '.join(refused[:3])}{more}")
    return replace(plain, path=path)


def _ask_the_device(path: Path, target: Target) -> None:
    """Loads and runs an artefact where it shall run, or where that is emulated.

    In a process of its own: what a driver makes of a graph that it cannot run may be an abort.
    """
    with WorkerProcess(_SECONDS_TO_ANSWER) as worker:
        try:
            opened = worker.ask(Open(str(path.resolve()), str(target), 1), Opened)
        except WorkerError as error:
            raise ConversionError(f"{target} does not run it: {error.message}") from error
    if opened.fault:
        raise ParityError(f"'{path.name}' is wrong on {target}: {opened.fault}")


class _RefusedError(ConversionError):
    """The compiler for one chip does not take the artefact."""


def _compile(made: Written, job: _Job, chip: str, folder: Path) -> Written:
    runtime = runtime_for(job.target)
    assert isinstance(runtime, AheadOfTime)  # or it would have no chips
    output = folder / job.compiled(chip).name
    try:
        runtime.compile(made.path, job.target.device, chip, output)
    except ModelError as error:
        raise _RefusedError(f"{job.target} does not run it: {error}") from error
    if read_metadata(output) != made.metadata:
        raise ConversionError(f"the compiler for {chip} lost the metadata of '{made.path.name}'")
    tools_of(made.metadata.format).finish_compiled(output, made.metadata)
    return Written(output, made.metadata)
