"""The process that runs one artefact on one target: ``python -m vitedge.bench.workers.worker``.

It reads commands on stdin and writes answers on stdout (see ``messages``). Nothing else may load
here: its peak memory is what the artefact costs an app.
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import numpy.typing as npt

from vitedge.bench.workers.inference import infer
from vitedge.bench.workers.messages import (
    Answer,
    Command,
    Failed,
    Infer,
    Inspect,
    Inspected,
    Measure,
    Measured,
    Open,
    Opened,
    Probe,
    Probed,
    Progress,
    Saturate,
    Saturated,
    WarmedUp,
    WarmUp,
    decode,
    encode,
)
from vitedge.bench.workers.saturation import saturate
from vitedge.bench.workers.timing import Clock, RunBudget, measure, time_ms, warm_up
from vitedge.errors import PlacementError, UnavailableError, VitedgeError
from vitedge.machine import memory
from vitedge.machine.contention import others_percent, read_cpu_times
from vitedge.runtimes import (
    AheadOfTime,
    EstimatedSession,
    OutOfProcessSession,
    Session,
    clock_of,
    runtime_for,
)
from vitedge.runtimes.faults import fault_of, probe_pixels
from vitedge.targets.target import Target

_SECONDS_BETWEEN_SIGNS = 1.0


class Worker:
    """Obeys one command after the other.

    Args:
        answers: The receiver of ``Progress`` while a command runs.
    """

    def __init__(self, answers: TextIO) -> None:
        self._answers = answers
        self._session: Session | None = None
        self._opened_as: Open | None = None
        self._pixels: npt.NDArray[np.uint8] = np.zeros(0, np.uint8)
        self._last_sign = time.monotonic()
        self._clock: Clock = time.perf_counter

    def obey(self, command: Command) -> Answer:
        """Carries out a command.

        Raises:
            VitedgeError: The command could not be carried out.
        """
        match command:
            case Probe():
                return _probed(command)
            case Open():
                return self._open(command)
            case WarmUp():
                return WarmedUp(*warm_up(self._run, command.max_seconds, self._clock))
            case Measure():
                return self._measure(RunBudget(**vars(command)))
            case Saturate():
                return self._saturate(command)
            case Inspect():
                return self._inspect()
            case Infer():
                return infer(self._opened(), command, self._give_sign)

    def close(self) -> None:
        """Ends an engine's own process; what lies in this one ends with it."""
        if isinstance(self._session, OutOfProcessSession):
            self._session.close()

    def _open(self, command: Open) -> Opened:
        started = time.perf_counter()
        session = _open_session(command, command.threads)
        load_ms = (time.perf_counter() - started) * 1000.0
        self._session, self._opened_as, self._clock = session, command, clock_of(session)
        if isinstance(session, OutOfProcessSession):
            load_ms = session.clock() * 1000.0  # starting the process is no part of it
        shape = session.input_shape
        noise, *others = probe_pixels(shape)
        self._pixels = noise
        first_run_ms = time_ms(self._run, self._clock)
        logits = [session.run(pixels) for pixels in (noise, *others)]
        made = logits[0].shape[1:]
        return Opened(
            *(load_ms, first_run_ms, list(shape), math.prod(made), fault_of(logits)),
            output_shape=list(made),
        )

    def _measure(self, budget: RunBudget) -> Measured:
        before = read_cpu_times()
        samples_ms = measure(self._run, budget, self._give_sign, self._clock)
        # An engine in another process would count as another program.
        is_here = not isinstance(self._session, OutOfProcessSession)
        others = others_percent(before, read_cpu_times()) if is_here else None
        return Measured(samples_ms, others)

    def _saturate(self, command: Saturate) -> Saturated:
        if self._opened_as is None:
            raise VitedgeError("the worker was told to run an artefact before opening one")
        sessions = [
            _open_session(self._opened_as, command.threads) for _ in range(command.parallel)
        ]
        try:
            return Saturated(*saturate(sessions, self._pixels, command.seconds))
        finally:
            for session in sessions:
                session.close()

    def _inspect(self) -> Inspected:
        # Memory first: asking for the placement makes some engines copy their graph.
        session = self._opened()
        peak_mb = (
            session.peak_rss_mb()
            if isinstance(session, OutOfProcessSession)
            else memory.peak_rss_mb()
        )
        estimate = session.estimate() if isinstance(session, EstimatedSession) else ""
        placement = session.placement()
        if placement is None:
            return Inspected(peak_mb, None, None, estimate)
        return Inspected(peak_mb, placement.on_device, placement.total, estimate)

    def _opened(self) -> Session:
        if self._session is None:
            raise VitedgeError("the worker was told to run an artefact before opening one")
        return self._session

    def _run(self) -> npt.NDArray[np.float32]:
        return self._opened().run(self._pixels)

    def _give_sign(self, done: int) -> None:
        now = time.monotonic()
        if now - self._last_sign >= _SECONDS_BETWEEN_SIGNS:
            self._last_sign = now
            print(encode(Progress(done)), file=self._answers, flush=True)


def _probed(command: Probe) -> Probed:
    target = Target.parse(command.target)
    runtime = runtime_for(target)
    found = (
        runtime.compiler(target.device)
        if command.compiling and isinstance(runtime, AheadOfTime)
        else runtime.availability(target.device)
    )
    return Probed(found.readiness, found.detail, found.remedy)


def _open_session(command: Open, threads: int) -> Session:
    target = Target.parse(command.target)
    return runtime_for(target).open(Path(command.artifact), target.device, threads=threads)


def serve(commands: Iterator[str], answers: TextIO) -> None:
    """Obeys commands until there are no more."""
    worker = Worker(answers)
    try:
        _obey_all(worker, commands, answers)
    finally:
        worker.close()


def _obey_all(worker: Worker, commands: Iterator[str], answers: TextIO) -> None:
    for line in commands:
        try:
            answer: Any = worker.obey(decode(line))
        except VitedgeError as error:
            answer = Failed(
                isinstance(error, UnavailableError),
                one_line(str(error)),
                isinstance(error, PlacementError),
            )
        except Exception as error:
            # Whatever an engine raises is a fact about the artefact, not the end of the bench.
            answer = Failed(False, one_line(f"{type(error).__name__}: {error}"))
        print(encode(answer), file=answers, flush=True)


def one_line(text: str) -> str:
    """The text with its line breaks as spaces."""
    return " ".join(text.split())


def main() -> None:
    """Serves stdin, keeping stdout for answers alone: what engines print goes to stderr."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    serve(iter(sys.stdin), answers)


if __name__ == "__main__":
    main()
