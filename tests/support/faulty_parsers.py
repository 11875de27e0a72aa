"""Parsers that break their contract, for the test of the fuzzing program; run as its worker."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from random import Random

from tests.support.fuzz import parsers, worker
from tests.support.fuzz.parser import Parser
from vitedge.errors import ModelError


def _make(rng: Random, folder: Path) -> Path:
    path = folder / "input.txt"
    path.write_text(str(rng.random()))
    return path


def _refuse(path: Path) -> None:
    raise ModelError(f"'{path}' is no model")


def _several_lines(path: Path) -> None:
    raise ModelError("one\ntwo")


def _fail(path: Path) -> None:
    raise KeyError(path.read_text())


def _crash(path: Path) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def _hang(path: Path) -> None:
    time.sleep(600)


def _hoard(path: Path) -> None:
    bytearray(b"x") * (200 << 20)


FAULTY = {
    name: Parser(name, _make, read)
    for name, read in {
        "accepts": lambda path: None,
        "refuses": _refuse,
        "several-lines": _several_lines,
        "fails": _fail,
        "crashes": _crash,
        "hangs": _hang,
        "hoards": _hoard,
    }.items()
}

if __name__ == "__main__":
    parsers.all_parsers = lambda: FAULTY
    worker.main()
