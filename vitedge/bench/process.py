"""A worker process as the bench sees it: whatever happens in there comes out as a failure in words.

A vendor library may crash, hang, run an illegal instruction or print what it likes; none of it
reaches the process that called.
"""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from types import TracebackType
from typing import IO, Any, TypeVar

from vitedge.bench.workers.messages import Answer, Command, Failed, Progress, decode, encode
from vitedge.report.results import Status

AnswerT = TypeVar("AnswerT", bound=Answer)

_STDERR_TAIL_BYTES = 4096
_SECONDS_TO_DIE = 10.0


class WorkerError(Exception):
    """A worker failed.

    Args:
        status: CRASHED, TIMEOUT, ERROR, FALLBACK or UNAVAILABLE.
        message: One line.
    """

    def __init__(self, status: Status, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class WorkerProcess:
    """A fresh process that obeys commands; a context manager that ends it.

    Args:
        timeout_seconds: The longest time that it may stay silent within one command.
    """

    def __init__(self, timeout_seconds: float) -> None:
        self._timeout_seconds = timeout_seconds
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  # close() closes it
        self._process = subprocess.Popen(
            # -P: a numpy.py in the current folder is not to be run.
            [sys.executable, "-P", "-m", "vitedge.bench.workers.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            encoding="utf-8",
        )
        self._answers: queue.Queue[str | None] = queue.Queue()
        # A pipe cannot be read with a time limit on every system; a queue can.
        self._reader = threading.Thread(target=self._read_answers, daemon=True)
        self._reader.start()

    def ask(
        self,
        command: Command,
        expected: type[AnswerT],
        on_progress: Callable[[int], None] | None = None,
    ) -> AnswerT:
        """Sends a command and waits for its answer.

        Raises:
            WorkerError: The command failed, or the process died or fell silent.
        """
        doing = type(command).__name__.lower()
        try:
            print(encode(command), file=_pipe(self._process.stdin), flush=True)
        except (BrokenPipeError, OSError):
            raise self._death(doing) from None
        while True:
            answer = self._next_answer(doing)
            if isinstance(answer, Progress):
                if on_progress is not None:
                    on_progress(answer.done)
            elif isinstance(answer, Failed):
                raise WorkerError(_status_of(answer), answer.message)
            elif isinstance(answer, expected):
                return answer
            else:
                raise WorkerError(Status.ERROR, f"the worker answered '{doing}' with {answer!r}")

    def close(self) -> None:
        """Ends the process; kills it when it does not end by itself. May be called twice."""
        if self._process.poll() is None:
            try:
                _pipe(self._process.stdin).close()
                self._process.wait(_SECONDS_TO_DIE)
            except (OSError, subprocess.TimeoutExpired):
                self._kill()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except OSError:  # unsent bytes to a process that is gone
                    continue
        self._errors.close()

    def __enter__(self) -> WorkerProcess:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _read_answers(self) -> None:
        for line in _pipe(self._process.stdout):
            self._answers.put(line)
        self._answers.put(None)

    def _next_answer(self, doing: str) -> Any:
        try:
            line = self._answers.get(timeout=self._timeout_seconds)
        except queue.Empty:
            self._kill()
            raise WorkerError(
                Status.TIMEOUT,
                f"no sign of life for {self._timeout_seconds:g} s (at '{doing}'); killed",
            ) from None
        if line is None:
            raise self._death(doing)
        try:
            return decode(line)
        except ValueError as error:
            raise WorkerError(Status.ERROR, str(error)) from error

    def _death(self, doing: str) -> WorkerError:
        try:
            code = self._process.wait(_SECONDS_TO_DIE)
        except subprocess.TimeoutExpired:
            self._kill()
            return WorkerError(Status.CRASHED, f"the process closed its output at '{doing}'")
        words = f"the process died at '{doing}': {death_in_words(code)}"
        tail = self._last_error_line()
        return WorkerError(Status.CRASHED, f"{words}; it said: {tail}" if tail else words)

    def _kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def _last_error_line(self) -> str:
        size = self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, size - _STDERR_TAIL_BYTES))
        lines = self._errors.read().decode("utf-8", "replace").split("\n")
        spoken = [" ".join(line.split()) for line in lines if line.strip()]
        return spoken[-1] if spoken else ""


def _status_of(failed: Failed) -> Status:
    if failed.unavailable:
        return Status.UNAVAILABLE
    return Status.FALLBACK if failed.fallback else Status.ERROR


def death_in_words(code: int) -> str:
    """A process's exit code: a signal's name and meaning, or the code."""
    if code >= 0:
        return f"exit code {code}"
    try:
        number = signal.Signals(-code)
    except ValueError:
        return f"signal {-code}"
    return f"{number.name} ({signal.strsignal(number) or 'signal'})"


def _pipe(pipe: IO[str] | None) -> IO[str]:
    if pipe is None:
        raise RuntimeError("the process was started without this pipe")
    return pipe
