"""One artefact on one target, from loading to accuracy; a failure ends the trial, not the bench."""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from vitedge.artifacts.metadata import files_of, sha256_of
from vitedge.bench.accuracy import Truth, accuracy, are_finite, versus_float
from vitedge.bench.by_task import quality_of
from vitedge.bench.candidates import Candidate
from vitedge.bench.process import WorkerError, WorkerProcess
from vitedge.bench.workers.logits import (
    Logits,
    LogitsStore,
    Probabilities,
    StoredLogits,
    YesOrNo,
)
from vitedge.bench.workers.messages import (
    Infer,
    Inferred,
    Inspect,
    Inspected,
    Measure,
    Measured,
    Open,
    Opened,
    Saturate,
    Saturated,
    WarmedUp,
    WarmUp,
)
from vitedge.errors import DataError, ModelError
from vitedge.images.preprocess import Preprocessing
from vitedge.images.true_maps import Grid
from vitedge.machine.energy import battery_watts, read_counters, used_mj
from vitedge.machine.environment import mean_frequency_mhz, temperature_c
from vitedge.machine.throttling import throttle_count
from vitedge.network.tasks import Task
from vitedge.report.quality import Accuracy, TaskQuality, VsFloat
from vitedge.report.results import Status, Throughput, Window
from vitedge.runtimes.faults import NOT_FINITE
from vitedge.targets.scores import Scores

_WARM_UP_SECONDS = 10.0
_WINDOW_SECONDS = 5.0
_SATURATION_SECONDS = 3.0


@dataclass
class Trial:
    """The facts of one row as they are found.

    Attributes:
        candidate: The artefact and the target.
        threads: CPU threads.
        worker: Its process; None for what cannot even be tried.
        samples_ms: Warm runs, in order.
        rounds_ms: Median of each turn, when measured in turns.
        others_percent: Share of the processors that other programs had, for each turn.
        throttled: Whether the processor slowed itself down during the warm runs.
        energy_mj: The energy that the processor used during the warm runs, or None.
        battery_watts: The power that the battery gave, read after each turn.
        failure: The error that ended the trial, or None.
        notes: The remarks that a person should see beside the numbers.
    """

    candidate: Candidate
    threads: int
    worker: WorkerProcess | None = None
    opened: Opened | None = None
    warm: WarmedUp | None = None
    samples_ms: list[float] = field(default_factory=list)
    rounds_ms: list[float] = field(default_factory=list)
    others_percent: list[float] = field(default_factory=list)
    throttled: bool = False
    energy_mj: float | None = None
    battery_watts: list[float] = field(default_factory=list)
    windows: list[Window] = field(default_factory=list)
    throughput: list[Throughput] = field(default_factory=list)
    inspected: Inspected | None = None
    inferred: Inferred | None = None
    accuracy: Accuracy | None = None
    vs_float: VsFloat | None = None
    task_quality: TaskQuality | None = None
    failure: WorkerError | None = None
    notes: list[str] = field(default_factory=list)
    _same_pixels: bool = field(default=True, init=False)

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
    def task(self) -> Task:
        """The meaning of the artefact's outputs; classes where it does not say."""
        metadata = self.candidate.metadata
        return Task.CLASSES if metadata is None else metadata.task

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
            may_be_zero = self.task in (Task.NUMBERS, Task.MAP)
            if self.opened.fault and not (may_be_zero and self.opened.fault != NOT_FINITE):
                raise WorkerError(Status.DRIFT, self.opened.fault)

        self._attempt(step)

    def warm_up(self) -> None:
        """Runs until stable."""
        if self.is_timed:
            self._attempt(self._warm_up)

    def measure(self, command: Measure, on_run: Callable[[int], None]) -> list[float]:
        """Adds warm runs; returns the milliseconds of the new ones, none after a failure."""
        before, counted, throttles = len(self.samples_ms), read_counters(), throttle_count()

        def step(worker: WorkerProcess) -> None:
            measured = worker.ask(command, Measured, on_run)
            self.samples_ms += measured.samples_ms
            if measured.others_percent is not None:
                self.others_percent.append(measured.others_percent)
            used = used_mj(counted, read_counters())
            if used is not None:
                self.energy_mj = used + (self.energy_mj or 0.0)
            self.throttled |= throttle_count() != throttles
            watts = battery_watts()
            if watts is not None:
                self.battery_watts.append(watts)

        if self.is_timed:
            self._attempt(step)
        return self.samples_ms[before:]

    def sustain(self, minutes: float, on_window: Callable[[int], None]) -> None:
        """Keeps running, a median every few seconds; ``on_window`` is told the seconds."""
        started = time.monotonic()
        command = Measure(
            None, enough_runs=sys.maxsize, wanted_runs=1, enough_seconds=_WINDOW_SECONDS
        )

        def step(worker: WorkerProcess) -> None:
            samples = worker.ask(command, Measured).samples_ms
            self.windows.append(
                Window(
                    minute=(time.monotonic() - started) / 60,
                    median_ms=statistics.median(samples),
                    n=len(samples),
                    temperature_c=temperature_c(),
                    frequency_mhz=mean_frequency_mhz(),
                )
            )

        while self.is_timed and time.monotonic() - started < minutes * 60:
            self._attempt(step)
            on_window(round(time.monotonic() - started))

    def saturate(self) -> None:
        """Measures throughput with one session, two, four, up to one for each thread."""
        parallel = 1
        while self.is_timed and parallel <= self.threads:
            threads = self.threads // parallel
            self._attempt(partial(self._saturate, Saturate(parallel, threads, _SATURATION_SECONDS)))
            parallel *= 2

    def inspect(self) -> None:
        """Reads memory and placement; before any image comes in."""
        self._attempt(self._inspect)

    def infer(
        self,
        images: Path,
        store: LogitsStore,
        reference: Preprocessing | None,
        on_image: Callable[[int], None],
        *,
        is_reference: bool = False,
    ) -> StoredLogits | None:
        """Computes the logits of a spooled set; None when that is not possible.

        Args:
            images: Index that ``write_spool`` wrote.
            store: The folder for the logits; rows that it holds already are not computed again.
            reference: The reference's preprocessing, for an artefact that does not state its own.
            on_image: Told how many images are done.
            is_reference: Others are compared with these logits; a row of the same artefact has
                its own.
        """
        preprocessing = self._preprocessing(reference)
        if preprocessing is None or self.opened is None:
            return None
        prepared = preprocessing.to_dict()
        digests = [sha256_of(part) for part in files_of(self.candidate.artifact)]
        role = "reference" if is_reference else "row"
        path = store.path_for(role, str(self.candidate.target), json.dumps(prepared), *digests)
        command = Infer(str(images), prepared, str(path), self.opened.classes)

        def step(worker: WorkerProcess) -> None:
            self.inferred = worker.ask(command, Inferred, on_image)

        self._attempt(step)
        if self.inferred is None:
            return None
        return StoredLogits(path, (self.inferred.n, command.classes))

    def judge_logits(self, logits: Logits, truth: Truth, reference: Logits | None) -> None:
        """Compares logits with labels and the reference."""

        def step(_: WorkerProcess) -> None:
            try:
                if not are_finite(logits):
                    raise WorkerError(Status.DRIFT, "logits of some images are not finite")
                self._judge(logits, truth, reference)
            except (ModelError, DataError) as error:
                raise WorkerError(Status.ERROR, str(error)) from error

        self._attempt(step)

    def _judge(self, made: Logits, truth: Truth, reference: Logits | None) -> None:
        metadata, task = self.candidate.metadata, self.task
        scores = Scores.LOGITS if metadata is None else metadata.scores
        expected = reference
        if reference is not None and scores is Scores.PROBABILITIES:
            expected = Probabilities(reference, task)
        if task is Task.BINARY:
            made = YesOrNo(made, scores.middle)
            expected = None if expected is None else YesOrNo(expected, scores.middle)
        elif task is not Task.CLASSES:
            if expected is None:
                return
            grid = self._grid()
            quality = quality_of(task, made, expected, truth, middle=scores.middle, grid=grid)
            self.task_quality = quality and replace(quality, same_pixels=self._same_pixels)
            return
        self.accuracy = accuracy(made, truth)
        if expected is not None:
            found = versus_float(made, expected, truth)
            self.vs_float = found and replace(found, same_pixels=self._same_pixels)

    def _grid(self) -> Grid | None:
        """The places of a map, where the artefact says which part of an image it sees."""
        metadata = self.candidate.metadata
        if metadata is None or self.opened is None or self.task is not Task.MAP:
            return None
        return Grid(metadata.preprocessing, tuple(self.opened.output_shape))

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

    def _saturate(self, command: Saturate, worker: WorkerProcess) -> None:
        found = worker.ask(command, Saturated)
        rate = found.images / found.seconds
        self.throughput.append(Throughput(command.parallel, command.threads, rate))

    def _inspect(self, worker: WorkerProcess) -> None:
        self.inspected = worker.ask(Inspect(), Inspected)
        if self.inspected.estimate:
            self.notes.append(self.inspected.estimate)

    def _preprocessing(self, reference: Preprocessing | None) -> Preprocessing | None:
        if self.failure is not None or self.opened is None:
            return None
        metadata = self.candidate.metadata
        preprocessing = reference if metadata is None else metadata.preprocessing
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
        if reference is not None and not preprocessing.makes_the_pixels_of(reference):
            self._same_pixels = False
            self.notes.append(
                "not to be compared with the reference, which prepares images otherwise: "
                f"{reference.words}; here {preprocessing.words}"
            )
        return preprocessing
