"""Every parser refuses malformed files in one line; the fuzzing program finds those that do not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.faulty_parsers import FAULTY
from tests.support.fuzz.monitor import Monitor, save_finding
from tests.support.fuzz.parsers import all_parsers
from tests.support.fuzz.worker import Answer, Outcome

_INPUTS = 15


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory):
    with Monitor(tmp_path_factory.mktemp("reader")) as found:
        yield found


@pytest.mark.parametrize("parser", all_parsers())
def test_malformed_files_are_read_or_refused_in_one_line(parser: str, reader: Monitor) -> None:
    for number in range(_INPUTS):
        answer = reader.read(parser, 0, number)
        assert not answer.outcome.is_finding, f"input {number}: {answer.words}"


@pytest.fixture(scope="module")
def monitor(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("fuzz")
    with Monitor(
        folder, worker="tests.support.faulty_parsers", seconds=5.0, memory_mb=150
    ) as found:
        yield found


def test_the_monitor_survives_whatever_a_parser_does(monitor: Monitor) -> None:
    assert {name: monitor.read(name, 0, 0).outcome for name in FAULTY} == {
        "accepts": Outcome.ACCEPTED,
        "refuses": Outcome.REFUSED,
        "several-lines": Outcome.TRACEBACK,
        "fails": Outcome.TRACEBACK,
        "crashes": Outcome.CRASH,
        "hangs": Outcome.HANG,
        "hoards": Outcome.MEMORY,
    }


def test_a_finding_is_saved_with_what_replays_it(monitor: Monitor, tmp_path: Path) -> None:
    for name in ("fails", "crashes"):
        answer = monitor.read(name, 3, 7)
        saved = save_finding(tmp_path, name, 3, 7, answer)
        again = monitor.read(name, 0, 0, path=saved.folder / "input" / "input.txt")
        assert (again.outcome, again.signature) == (answer.outcome, answer.signature)
        assert f"{name} --input" in (saved.folder / "finding.txt").read_text()


@pytest.mark.thorough
def test_the_same_seed_makes_the_same_inputs(monitor: Monitor) -> None:
    answers: list[Answer] = [monitor.read("fails", 3, number) for number in (7, 7, 8)]
    first, again, other = (answer.words.splitlines()[-1] for answer in answers)
    assert first == again != other


@pytest.mark.slow
def test_half_a_minute_of_fuzzing_finds_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.support.fuzz", "--seconds", "30", "--seed", "0"]
    done = subprocess.run(
        [*command, "--findings", str(tmp_path)], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
