"""The crash of an engine is an error of one line, and costs the parent nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

import vitedge

DIGITS = Path(vitedge.__file__).parent / "bench" / "builtin" / "digits.int8.tflite"

PROGRAM = """
import os, signal, sys
from vitedge.terminal.crash_guard import guarded
from vitedge.errors import UsageError, VitedgeError

def work():
    yield {{"first": 1}}
    {what}
    yield {{"last": 2}}

try:
    for value in guarded(work, lambda code: f"died of {{-code}}", most_bytes=1 << 29):
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
        ("bytearray(1 << 30)", "error 1: there is not enough memory"),
    ],
    ids=["segmentation fault", "abort", "an error of vitedge", "a gigabyte more than allowed"],
)
def test_how_the_child_ended_is_one_line_behind_what_it_said(what: str, says: str) -> None:
    code, (first, last), errors = outcome(what)
    assert (code, first, errors) == (0, "{'first': 1}", "")
    assert last.startswith(says)


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


def bomb(path: Path) -> Path:
    """The digits' model, which adds to its logits the sum of 12 GB of zeros."""
    model = onnx.load(DIGITS.with_suffix(".onnx"))
    (output,) = model.graph.output
    for node in model.graph.node:
        node.output[:] = ["inner" if name == output.name else name for name in node.output]
    shape = np.array([3_000_000_000], np.int64)
    model.graph.initializer.append(onnx.numpy_helper.from_array(shape, "shape"))
    for kind, inputs, result in (
        ("ConstantOfShape", ["shape"], "zeros"),
        ("ReduceSum", ["zeros"], "sum"),
        ("Add", ["inner", "sum"], output.name),
    ):
        model.graph.node.append(onnx.helper.make_node(kind, inputs, [result]))
    onnx.save(model, path)
    return path


@pytest.mark.skipif(sys.platform != "linux", reason="memory is bounded on Linux alone")
def test_an_artefact_that_computes_gigabytes_is_refused_its_memory(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((16, 16), np.uint8)).save(tmp_path / "zero.png")
    model = bomb(tmp_path / "bomb.onnx")
    command = [sys.executable, "-m", "vitedge", "predict", str(model), str(tmp_path / "zero.png")]
    ended = subprocess.run(command, check=False, capture_output=True, text=True)
    assert ended.returncode == 1
    assert "Failed to allocate memory" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
