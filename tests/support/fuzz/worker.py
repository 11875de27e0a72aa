"""Makes and reads inputs, one at a time, as it is told; the process may die of any of them.

Each line of stdin is a request and each line on the descriptor that the monitor passed an answer,
both JSON.
"""

from __future__ import annotations

import faulthandler
import gc
import importlib
import io
import json
import os
import resource
import sys
import time
import traceback
import warnings
from contextlib import redirect_stdout, suppress
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from random import Random

# Twice the contract's limit, for what is asked for and never touched. Address space is no measure
# of that: engines reserve more than any machine has.
_DATA_BYTES = 8 << 30


class Outcome(StrEnum):
    """What became of an input."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    TRACEBACK = "traceback"
    CRASH = "crash"
    HANG = "hang"
    MEMORY = "memory"
    UNMADE = "no input was made"

    @property
    def is_finding(self) -> bool:
        """Whether it breaks the contract."""
        return self not in (Outcome.ACCEPTED, Outcome.REFUSED)


@dataclass(frozen=True)
class Request:
    """What to read.

    Attributes:
        parser: Name of the parser.
        seed: Seed of the whole run.
        number: Which of its inputs.
        folder: An empty folder for it.
        path: An input that is there already, instead of a made one; empty to make one.
        only_made: It is not to be read, but what reading needs is to be imported.
    """

    parser: str
    seed: int
    number: int
    folder: str
    path: str = ""
    only_made: bool = False


@dataclass(frozen=True)
class Answer:
    """What became of it.

    Attributes:
        outcome: Whether it was accepted or refused; or what broke the contract.
        words: The error's message, or the traceback.
        signature: The kind of finding: where it arose.
        path: The input.
        peak_mb: Most memory that the process held meanwhile.
        resident_mb: What it holds now.
        seconds: Time to read it.
    """

    outcome: Outcome
    words: str = ""
    signature: str = ""
    path: str = ""
    peak_mb: int = 0
    resident_mb: int = 0
    seconds: float = 0.0


def serve(answers: int) -> None:
    """Answers requests until stdin ends."""
    with os.fdopen(answers, "w", buffering=1) as stream:
        for line in sys.stdin:
            print(json.dumps(asdict(read_input(Request(**json.loads(line))))), file=stream)


def read_input(request: Request) -> Answer:
    """Makes an input, unless it is there, and has its parser read it."""
    from tests.support.fuzz.parsers import all_parsers

    parser = all_parsers()[request.parser]
    rng = Random(f"{request.parser} {request.seed} {request.number}")
    try:
        path = Path(request.path) if request.path else parser.make(rng, Path(request.folder))
    except Exception as error:  # a fault of the mutation, which must not end a run of hours
        words = "".join(traceback.format_exception(error))
        return Answer(Outcome.UNMADE, words, _signature(error))
    if request.only_made:
        for package in parser.imports:
            with suppress(ImportError):
                importlib.import_module(package)
        return Answer(Outcome.ACCEPTED)
    _note_path(Path(request.folder), path)
    _forget_peak()
    start = time.monotonic()
    outcome, words, signature = _read(parser.read, path)
    # What it leaves behind is finalized now, so that a hang in that is its own.
    gc.collect()
    gc.freeze()  # of what is still there, such as imported packages, which takes time to search
    seconds = time.monotonic() - start
    status = _status()
    return Answer(
        outcome, words, signature, str(path), status["VmHWM"], status["VmRSS"], round(seconds, 3)
    )


def _read(read: object, path: Path) -> tuple[Outcome, str, str]:
    from vitedge.errors import VitedgeError

    try:
        with redirect_stdout(io.StringIO()):
            read(path)  # type: ignore[operator]
    except VitedgeError as error:
        if "\n" in str(error):
            return Outcome.TRACEBACK, str(error), "a message of several lines"
        return Outcome.REFUSED, str(error), ""
    except Exception as error:
        return Outcome.TRACEBACK, "".join(traceback.format_exception(error)), _signature(error)
    return Outcome.ACCEPTED, "", ""


def _signature(error: BaseException) -> str:
    """Kind and place of an error, so that a thousand inputs of one fault are one finding."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if f"{os.sep}vitedge{os.sep}" in frame.filename] or frames
    place = f"{Path(ours[-1].filename).name} {ours[-1].name}:{ours[-1].lineno}"
    return f"{type(error).__name__} in {place} <- {Path(frames[-1].filename).name}"


def _note_path(folder: Path, path: Path) -> None:
    """For the monitor, should this process not live to tell it."""
    folder.with_suffix(".path").write_text(str(path))


def _forget_peak() -> None:
    with suppress(OSError):  # elsewhere than on Linux the peak is that of all inputs so far
        Path("/proc/self/clear_refs").write_text("5")


def _status() -> dict[str, int]:
    """Resident memory in MB, now (``VmRSS``) and at its peak (``VmHWM``)."""
    try:
        lines = [line.split() for line in Path("/proc/self/status").read_text().splitlines()]
        return {line[0][:-1]: int(line[1]) >> 10 for line in lines if line[0].startswith("Vm")}
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        peak >>= 20 if sys.platform == "darwin" else 10
        return {"VmRSS": peak, "VmHWM": peak}


def main() -> None:
    """Runs the worker."""
    # On a descriptor of its own: while engines start, vitedge holds back what goes to stderr.
    faulthandler.enable(os.dup(2))
    warnings.simplefilter("ignore")  # of damaged values; the contract is about errors
    resource.setrlimit(resource.RLIMIT_DATA, (_DATA_BYTES, _DATA_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    serve(int(sys.argv[1]))


if __name__ == "__main__":
    main()
