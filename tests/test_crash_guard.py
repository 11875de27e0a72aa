"""The crash of an engine is an error of one line, and costs the parent nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import vitedge

DIGITS = Path(vitedge.__file__).parent / "builtin" / "digits.int8.tflite"

PROGRAM = """
import os, signal, sys
from vitedge.crash_guard import guarded
from vitedge.errors import UsageError, VitedgeError

def work():
    yield {{"first": 1}}
    {what}
    yield {{"last": 2}}

try:
    for value in guarded(work, lambda code: f"died of {{-code}}"):
        print(value, flush=True)
except VitedgeError as error:
    print(f"error {{error.exit_code}}: {{error}}")
"""


def outcome(what: str) -> tuple[int, list[str], str]:
    program = PROGRAM.format(what=what)
    ended = subprocess.run(
        [sys.executable, "-c", program], check=False, capture_output=True, text=True
    )
    return ended.returncode, ended.stdout.splitlines(), ended.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="a process is forked on Linux alone")
@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", "error 1: died of 11"),
        ("os.abort()", "error 1: died of 6"),
        ("raise UsageError('no such target')", "error 2: no such target"),
    ],
    ids=["segmentation fault", "abort", "an error of vitedge"],
)
def test_how_the_child_ended_is_one_line_behind_what_it_said(what: str, says: str) -> None:
    code, lines, errors = outcome(what)
    assert (code, lines, errors) == (0, ["{'first': 1}", says], "")


def test_the_values_of_a_child_that_ends_well_come_in_order() -> None:
    assert outcome("pass") == (0, ["{'first': 1}", "{'last': 2}"], "")


def test_a_bug_in_the_child_keeps_its_traceback() -> None:
    code, lines, errors = outcome("1 / 0")
    assert code == 1
    assert lines == ["{'first': 1}"]
    assert errors.count("ZeroDivisionError") == 1


def test_predict_says_of_each_image_what_it_is_or_what_is_wrong(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((16, 16), np.uint8)).save(tmp_path / "zero.png")
    (tmp_path / "none.png").write_bytes(b"none")
    command = [sys.executable, "-m", "vitedge", "predict", "--top", "1", str(DIGITS)]
    images = [str(tmp_path / name) for name in ("none.png", "zero.png", "gone.png")]
    ended = subprocess.run([*command, *images], check=False, capture_output=True, text=True)
    assert ended.returncode == 1
    assert ended.stdout.splitlines()[0] == images[1]
    assert len(ended.stdout.splitlines()) == 2
    assert [line[:6] for line in ended.stderr.splitlines()] == ["Error:", "Error:"]
