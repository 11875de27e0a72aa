"""The bench: every artefact on every target, each in a process of its own."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from vitedge.artifact import read_metadata
from vitedge.bench.accuracy import Logits, Truth
from vitedge.bench.candidates import Candidate, find_candidates
from vitedge.bench.environment import physical_cores, read_environment
from vitedge.bench.messages import Measure
from vitedge.bench.reference import ArtifactReference, ModelReference, Reference, run_model
from vitedge.bench.results import DataUsed, Report
from vitedge.bench.spool import write_spool
from vitedge.bench.trial import Trial
from vitedge.bench.verdict import judge
from vitedge.data import ImageSet
from vitedge.errors import DataError, ModelError, UsageError
from vitedge.preprocess import Preprocessing
from vitedge.spec import Target


@dataclass(frozen=True)
class Step:
    """Where the bench is.

    Attributes:
        row: Rows begun, from 1; 0 while the reference is computed.
        rows: Rows in all.
        doing: What, in words.
        done: Runs or images done within it, or None.
        total: How many there will be, or None.
    """

    row: int
    rows: int
    doing: str
    done: int | None = None
    total: int | None = None


OnStep = Callable[[Step], None]


@dataclass(frozen=True)
class BenchOptions:
    """How to measure.

    Attributes:
        threads: CPU threads; None means the physical cores that this process may use.
        runs: Timed inferences of each row; None means a hundred at least, up to a thousand while
            they are quick, fewer only when they take over a minute.
        timeout_seconds: How long a worker may stay silent before it counts as hung.
    """

    threads: int | None = None
    runs: int | None = None
    timeout_seconds: float = 300.0

    def __post_init__(self) -> None:
        if self.threads is not None and self.threads < 1:
            raise UsageError(f"threads must be at least 1, not {self.threads}")
        if self.runs is not None and self.runs < 1:
            raise UsageError(f"runs must be at least 1, not {self.runs}")


@dataclass(frozen=True, eq=False)
class _Images:
    """The set of images as the trials share it."""

    index: Path
    truth: Truth
    reference: Logits | None
    fallback: Preprocessing | None

    @property
    def n(self) -> int:
        return len(self.truth.names)


def run_bench(
    artifacts: Sequence[Path],
    targets: Sequence[Target] = (),
    *,
    data: ImageSet | None = None,
    reference: Reference | None = None,
    options: BenchOptions | None = None,
    on_step: OnStep = lambda _: None,
) -> Report:
    """Measures artefacts.

    Args:
        artifacts: The files.
        targets: Where to run them; those that cannot run here become rows that say why. Empty
            means all that are ready.
        data: Images for accuracy; labels must index the artefacts' classes.
        reference: What to compare logits with; needs ``data``.
        options: How to measure.
        on_step: Told what is going on, often.

    Raises:
        UsageError: No target reads any artefact, or there is a reference but no data.
        ModelError: An artefact is missing, or the reference cannot be run.
        DataError: No image is readable, or a label is no class of an artefact.
    """
    options = options or BenchOptions()
    if reference is not None and data is None:
        raise UsageError("a reference needs images to compare on: give --data")
    threads = options.threads or physical_cores()
    environment = read_environment(threads)
    candidates = find_candidates(artifacts, targets, options.timeout_seconds)
    with tempfile.TemporaryDirectory(prefix="vitedge-bench-") as folder:
        images = None
        if data is not None:
            images = _prepare(data, reference, Path(folder), options, threads, on_step)
        trials = []
        for number, candidate in enumerate(candidates, start=1):
            say = partial(_say, on_step, number, len(candidates), str(candidate))
            trials.append(_try(candidate, threads, options, images, Path(folder), say))
        rows = tuple(trial.row(environment.load_before, environment.cores) for trial in trials)
        used = None
        if data is not None and images is not None:
            used = DataUsed(data.name, images.n, _unreadable(trials, images.truth))
    return Report(environment, judge(rows), used, _name(reference))


def _say(
    on_step: OnStep, row: int, rows: int, what: str, doing: str, total: int | None, done: int
) -> None:
    on_step(Step(row, rows, f"{what}: {doing}", done, total))


def _try(
    candidate: Candidate,
    threads: int,
    options: BenchOptions,
    images: _Images | None,
    folder: Path,
    say: Callable[[str, int | None, int], None],
) -> Trial:
    trial = Trial.start(candidate, threads, options.timeout_seconds)
    try:
        say("loading", None, 0)
        trial.open()
        if images is not None:
            _check_labels(trial, images.truth)
        say("warming up", None, 0)
        trial.warm_up()
        say("measuring", options.runs, 0)
        trial.measure(Measure(options.runs), partial(say, "measuring", options.runs))
        trial.inspect()
        if images is not None:
            _assess(trial, images, folder / "logits.npy", partial(say, "images", images.n))
    finally:
        trial.close()
    return trial


def _assess(trial: Trial, images: _Images, output: Path, say: Callable[[int], None]) -> None:
    """Accuracy and agreement of one trial."""
    logits = trial.infer(images.index, output, images.fallback, say)
    if logits is None or trial.inferred is None:
        return
    usable = np.ones(images.n, np.bool_)
    usable[[position for position, _ in trial.inferred.unreadable]] = False
    truth = images.truth
    trial.judge_logits(
        logits, Truth(truth.names, truth.labels, truth.class_names, usable), images.reference
    )


def _prepare(
    data: ImageSet,
    reference: Reference | None,
    folder: Path,
    options: BenchOptions,
    threads: int,
    on_step: OnStep,
) -> _Images:
    if not data.samples:
        raise DataError(f"'{data.name}' holds no images")
    index = write_spool(data.samples, folder)
    labels = [-1 if sample.label is None else sample.label for sample in data.samples]
    truth = Truth(
        names=[sample.name for sample in data.samples],
        labels=np.asarray(labels, np.int64),
        class_names=data.class_names,
        usable=np.ones(len(labels), np.bool_),
    )
    logits, fallback = None, None
    output = folder / "reference.npy"
    say = partial(_say, on_step, 0, 0, f"reference {_name(reference)}", "images", len(labels))
    match reference:
        case ModelReference():
            logits = run_model(reference, index, len(labels), output, say)
            fallback = reference.preprocessing
        case ArtifactReference():
            logits = _run_artifact(reference, index, output, options, threads, say)
            metadata = read_metadata(reference.artifact)
            fallback = None if metadata is None else metadata.preprocessing
    return _Images(index, truth, logits, fallback)


def _run_artifact(
    reference: ArtifactReference,
    index: Path,
    output: Path,
    options: BenchOptions,
    threads: int,
    say: Callable[[int], None],
) -> Logits:
    (candidate,) = find_candidates(
        [reference.artifact], [reference.target], options.timeout_seconds
    )
    trial = Trial.start(candidate, threads, options.timeout_seconds)
    try:
        trial.open()
        logits = trial.infer(index, output, None, say)
    finally:
        trial.close()
    if logits is None:
        words = trial.failure.message if trial.failure else "; ".join(trial.notes)
        raise ModelError(f"the reference {candidate} cannot be run: {words}")
    return logits


def _check_labels(trial: Trial, truth: Truth) -> None:
    largest = int(truth.labels.max())
    if trial.opened is not None and largest >= trial.opened.classes:
        raise DataError(
            f"the data has class '{truth.class_name(largest)}' (index {largest}), but "
            f"'{trial.candidate.artifact}' has {trial.opened.classes} classes"
        )


def _unreadable(trials: list[Trial], truth: Truth) -> tuple[str, ...]:
    found = {
        position: reason
        for trial in trials
        if trial.inferred is not None
        for position, reason in trial.inferred.unreadable
    }
    return tuple(f"{truth.names[position]}: {found[position]}" for position in sorted(found))


def _name(reference: Reference | None) -> str | None:
    if isinstance(reference, ArtifactReference):
        return f"{reference.artifact.name} on {reference.target}"
    return None if reference is None else reference.name
