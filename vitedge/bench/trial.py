"""One artefact on one target, from loading to accuracy; a failure ends the trial, not the bench."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from vitedge.artifact import size_of
from vitedge.bench.accuracy import Logits, Truth, accuracy, compare
from vitedge.bench.candidates import Candidate
from vitedge.bench.messages import (
    Infer,
    Inferred,
    Inspect,
    Inspected,
    Measure,
    Measured,
    Open,
    Opened,
    WarmedUp,
    WarmUp,
)
from vitedge.bench.process import WorkerError, WorkerProcess
from vitedge.bench.results import Accuracy, Row, Status, VsFloat
from vitedge.bench.spread import instability, summarize
from vitedge.errors import DataError, ModelError
from vitedge.preprocess import Preprocessing
from vitedge.runtimes import Placement

_WARM_UP_SECONDS = 10.0


@dataclass
class Trial:
    """The facts of one row as they are found.

    Attributes:
        candidate: What is tried where.
        threads: CPU threads.
        worker: Its process; None for what cannot even be tried.
        samples_ms: Warm runs, in order.
        failure: What ended the trial, or None.
        notes: What a person should know beside the numbers.
    """

    candidate: Candidate
    threads: int
    worker: WorkerProcess | None = None
    opened: Opened | None = None
    warm: WarmedUp | None = None
    samples_ms: list[float] = field(default_factory=list)
    inspected: Inspected | None = None
    inferred: Inferred | None = None
    accuracy: Accuracy | None = None
    vs_float: VsFloat | None = None
    failure: WorkerError | None = None
    notes: list[str] = field(default_factory=list)

    @classmethod
    def start(cls, candidate: Candidate, threads: int, timeout_seconds: float) -> Trial:
        """Starts the process, or says why the trial is over before it began."""
        trial = cls(candidate, threads)
        state = candidate.availability
        if candidate.is_missing:
            words = f"{state.detail}. {state.remedy}" if state.remedy else state.detail
            trial.failure = WorkerError(Status.UNAVAILABLE, words)
        elif candidate.fault:
            trial.failure = WorkerError(Status.ERROR, candidate.fault)
        else:
            trial.worker = WorkerProcess(timeout_seconds)
        return trial

    @property
    def is_timed(self) -> bool:
        """Whether the trial is still on, and its times mean something."""
        return self.failure is None and not self.candidate.is_emulated

    def close(self) -> None:
        """Ends the process."""
        if self.worker is not None:
            self.worker.close()

    def open(self) -> None:
        """Loads the artefact and runs it for the first time."""
        command = Open(
            str(self.candidate.artifact.resolve()), str(self.candidate.target), self.threads
        )

        def step(worker: WorkerProcess) -> None:
            self.opened = worker.ask(command, Opened)
            if self.opened.fault:
                raise WorkerError(Status.DRIFT, self.opened.fault)

        self._attempt(step)

    def warm_up(self) -> None:
        """Runs until stable."""
        if self.is_timed:
            self._attempt(self._warm_up)

    def measure(self, command: Measure, on_run: Callable[[int], None]) -> list[float]:
        """Adds warm runs; returns the milliseconds of the new ones, none after a failure."""
        before = len(self.samples_ms)

        def step(worker: WorkerProcess) -> None:
            self.samples_ms += worker.ask(command, Measured, on_run).samples_ms

        if self.is_timed:
            self._attempt(step)
        return self.samples_ms[before:]

    def inspect(self) -> None:
        """Reads memory and placement; before any image comes in."""
        self._attempt(self._inspect)

    def infer(
        self,
        images: Path,
        logits: Path,
        fallback: Preprocessing | None,
        on_image: Callable[[int], None],
    ) -> Logits | None:
        """Computes the logits of a spooled set; None when that is not possible.

        Args:
            images: Index that ``write_spool`` wrote.
            logits: The ``.npy`` to write.
            fallback: Preprocessing for an artefact that does not state its own.
            on_image: Told how many images are done.
        """
        preprocessing = self._preprocessing(fallback)
        if preprocessing is None:
            return None
        command = Infer(str(images), preprocessing.to_dict(), str(logits))

        def step(worker: WorkerProcess) -> None:
            self.inferred = worker.ask(command, Inferred, on_image)

        self._attempt(step)
        if self.inferred is None:
            return None
        table: Logits = np.load(logits, mmap_mode="r")
        return table

    def judge_logits(self, logits: Logits, truth: Truth, reference: Logits | None) -> None:
        """Compares logits with labels and the reference."""

        def step(_: WorkerProcess) -> None:
            for start in range(0, len(logits), 1024):
                if not np.isfinite(logits[start : start + 1024]).all():
                    raise WorkerError(Status.DRIFT, "logits of some images are not finite")
            try:
                self.accuracy = accuracy(logits, truth)
                if reference is not None:
                    self.vs_float = compare(logits, reference, truth)
            except (ModelError, DataError) as error:
                raise WorkerError(Status.ERROR, str(error)) from error

        self._attempt(step)

    def row(self, load_before: float | None, cores: int) -> Row:
        """What was found, judged so far only as failed or not."""
        metadata, opened, inspected = self.candidate.metadata, self.opened, self.inspected
        timed = None if self.candidate.is_emulated else opened
        inferred = None if self.candidate.is_emulated else self.inferred
        unstable = ""
        if self.warm is not None:
            unstable = instability(
                self.samples_ms, warm=self.warm.stable, load_before=load_before, cores=cores
            )
        return Row(
            artifact=str(self.candidate.artifact),
            target=self.candidate.target,
            format=self.candidate.format,
            precision=None if metadata is None else metadata.precision,
            status=Status.OK if self.failure is None else self.failure.status,
            message="; ".join([*([self.failure.message] if self.failure else []), *self.notes]),
            size_mb=_size_mb(self.candidate.artifact),
            load_ms=None if timed is None else timed.load_ms,
            first_run_ms=None if timed is None else timed.first_run_ms,
            latency_ms=summarize(self.samples_ms),
            peak_rss_mb=None if inspected is None else inspected.peak_rss_mb,
            accuracy=self.accuracy,
            vs_float=self.vs_float,
            placement=_placement(inspected),
            emulated=self.candidate.is_emulated,
            batch=None if opened is None else opened.input_shape[0],
            threads=self.threads,
            source=None if metadata is None else metadata.source.name,
            source_sha256=None if metadata is None else metadata.source.sha256,
            preprocess_ms=None if inferred is None else summarize(inferred.preprocess_ms),
            postprocess_ms=None if inferred is None else summarize(inferred.postprocess_ms),
            warm_up_runs=None if self.warm is None else len(self.warm.samples_ms),
            unstable=unstable,
            samples_ms=tuple(self.samples_ms),
        )

    def _attempt(self, step: Callable[[WorkerProcess], None]) -> None:
        if self.failure is not None or self.worker is None:
            return
        try:
            step(self.worker)
        except WorkerError as error:
            self.failure = error
            self.worker.close()

    def _warm_up(self, worker: WorkerProcess) -> None:
        self.warm = worker.ask(WarmUp(_WARM_UP_SECONDS), WarmedUp)

    def _inspect(self, worker: WorkerProcess) -> None:
        self.inspected = worker.ask(Inspect(), Inspected)

    def _preprocessing(self, fallback: Preprocessing | None) -> Preprocessing | None:
        if self.failure is not None or self.opened is None:
            return None
        metadata = self.candidate.metadata
        preprocessing = fallback if metadata is None else metadata.preprocessing
        if preprocessing is None:
            self.notes.append("no accuracy: the file does not state its preprocessing")
            return None
        stated = [*preprocessing.size, preprocessing.channels]
        if stated != self.opened.input_shape[1:]:
            self.notes.append(
                f"no accuracy: the artefact takes {self.opened.input_shape[1:]}, "
                f"its preprocessing makes {stated}"
            )
            return None
        return preprocessing


def _size_mb(artifact: Path) -> float:
    try:
        return size_of(artifact) / 1e6
    except OSError:  # an .xml without its .bin
        return artifact.stat().st_size / 1e6


def _placement(inspected: Inspected | None) -> Placement | None:
    if inspected is None or inspected.on_device is None or inspected.total is None:
        return None
    return Placement(inspected.on_device, inspected.total)
