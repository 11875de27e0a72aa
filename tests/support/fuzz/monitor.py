"""Watches the process that reads inputs: kills it when it hangs, and starts it again."""

from __future__ import annotations

import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import IO

from tests.support.fuzz.parser import emptied
from tests.support.fuzz.worker import Answer, Outcome, Request

TIME_LIMIT_SECONDS = 60.0
MEMORY_LIMIT_MB = 4096

# Engines keep something of every model; the process starts anew before that counts.
_RESTART_MB = 2000
_ABORT_SECONDS = 5.0

# One thread each: inputs are small, and other work may want the other cores.
_ENVIRONMENT = {
    "CUDA_VISIBLE_DEVICES": "-1",
    "OMP_NUM_THREADS": "1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "TF_NUM_INTEROP_THREADS": "1",
    "TF_NUM_INTRAOP_THREADS": "1",
}


class Monitor:
    """A worker, alive whenever it is needed.

    Args:
        folder: For inputs, while they are read.
        worker: Module that is run.
        seconds: How long an input may take.
        memory_mb: How much memory the process may hold meanwhile.
        start_seconds: How long the process may take to import a parser and to make its seeds.
    """

    def __init__(
        self,
        folder: Path,
        *,
        worker: str = "tests.support.fuzz.worker",
        seconds: float = TIME_LIMIT_SECONDS,
        memory_mb: int = MEMORY_LIMIT_MB,
        start_seconds: float = 120.0,
    ) -> None:
        self._worker, self._memory_mb = worker, memory_mb
        self._seconds, self._start_seconds = seconds, start_seconds
        self._input = folder / "input"
        self._log = folder / "worker.log"
        self._process: subprocess.Popen[str] | None = None
        self._answers: IO[str] | None = None
        self._known: set[str] = set()

    def __enter__(self) -> Monitor:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop()

    def read(self, parser: str, seed: int, number: int, *, path: Path | None = None) -> Answer:
        """Has one input made and read; see ``Request``."""
        self.prepare(parser)
        request = Request(parser, seed, number, str(self._input), str(path or ""))
        line = self._ask(request, self._seconds)
        if line:
            answer = Answer(**json.loads(line))
            answer = replace(answer, outcome=Outcome(answer.outcome))
        else:
            answer = self._lost()
        if answer.peak_mb > self._memory_mb and not answer.outcome.is_finding:
            words = f"held {answer.peak_mb} MB ({answer.outcome}: {answer.words})"
            answer = replace(answer, outcome=Outcome.MEMORY, words=words, signature="memory")
        if answer.resident_mb > _RESTART_MB:
            self._stop()
        return answer

    def prepare(self, parser: str) -> None:
        """Starts the process, unless it is there, and has it import what a parser needs."""
        if self._process is None:
            self._start()
        if parser not in self._known:
            self._known.add(parser)
            request = Request(parser, 0, 0, str(self._input), only_made=True)
            self._ask(request, self._start_seconds)

    @property
    def _note(self) -> Path:
        return self._input.with_suffix(".path")

    def _ask(self, request: Request, seconds: float) -> str:
        """The worker's line; empty when it died or takes longer than it may."""
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._answers is not None
        emptied(self._input)
        self._note.unlink(missing_ok=True)
        try:
            print(json.dumps(asdict(request)), file=self._process.stdin, flush=True)
        except BrokenPipeError:
            return ""
        with selectors.DefaultSelector() as selector:
            selector.register(self._answers, selectors.EVENT_READ)
            return self._answers.readline() if selector.select(seconds) else ""

    def _lost(self) -> Answer:
        """What became of an input that the worker did not survive."""
        assert self._process is not None
        path = self._note.read_text() if self._note.exists() else ""
        died = self._process.poll()
        if died is None and self._answers_closed():
            died = self._process.wait()
        if died is None:
            self._process.send_signal(signal.SIGABRT)  # faulthandler then says where it is
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_ABORT_SECONDS)
        self._stop()
        last = self._log.read_text(errors="replace").strip()[-4000:]
        if died is None:
            words = f"was not read after {self._seconds:g} s\n{last}"
            return Answer(Outcome.HANG, words, f"hang in {_innermost_frame(last)}", path)
        signature = f"exit status {died} in {_innermost_frame(last)}"
        return Answer(Outcome.CRASH, f"exit status {died}\n{last}", signature, path)

    def _answers_closed(self) -> bool:
        """Whether the worker is on its way out."""
        assert self._answers is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._answers, selectors.EVENT_READ)
            return bool(selector.select(0))

    def _start(self) -> None:
        reading, writing = os.pipe()
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", self._worker, str(writing)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                text=True,
                pass_fds=[writing],
                env=os.environ | _ENVIRONMENT,
            )
        os.close(writing)
        self._answers = os.fdopen(reading)
        self._known = set()

    def _stop(self) -> None:
        if self._process is None:
            return
        assert self._process.stdin is not None
        assert self._answers is not None
        self._process.kill()
        self._process.wait()
        with suppress(BrokenPipeError):  # a pipe whose reader is gone cannot be flushed
            self._process.stdin.close()
        self._answers.close()
        self._process = None


def _innermost_frame(log: str) -> str:
    """Where Python was when it died; faulthandler names the innermost frame first."""
    frames = [line.strip() for line in log.splitlines() if line.strip().startswith("File ")]
    return frames[0].rpartition("/")[2] if frames else "no frame of Python"


@dataclass(frozen=True)
class Saved:
    """A finding on disk.

    Attributes:
        folder: Where its input and its description are.
        command: What replays it.
    """

    folder: Path
    command: str


def save_finding(findings: Path, parser: str, seed: int, number: int, answer: Answer) -> Saved:
    """Copies an input out of the working folder, with what it did and how to replay it."""
    folder = emptied(findings / f"{parser}-{seed}-{number}")
    path = Path(answer.path)
    command = (
        f"{Path(sys.executable)} -m tests.support.fuzz {parser} --seed {seed} --replay {number}"
    )
    if answer.path and path.exists():
        # What lies beside a file may belong to it.
        inner = path if path.is_dir() else path.parent
        shutil.copytree(inner, folder / "input")
        kept = folder / "input" if path.is_dir() else folder / "input" / path.name
        command = f"python -m tests.support.fuzz {parser} --input {kept}"
    (folder / "finding.txt").write_text(
        f"{command}\n\n{answer.outcome}: {answer.signature}\n{answer.words}\n", errors="replace"
    )
    return Saved(folder, command)


@contextmanager
def working_folder() -> Iterator[Path]:
    """A folder that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="vitedge-fuzz-") as name:
        yield Path(name)
