"""A format and a runtime that the package does not know go the whole way as they are.

``tests/support/toys/network_file`` is all of the format, ``tests/support/toys/numpy_runtime.py``
all of the runtime. Every process of the test finds them by their entry points.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.support.bench_fixtures import with_entry_points
from tests.support.golden_cases import GOLDEN
from vitedge.artifacts.metadata import read_metadata
from vitedge.classifier import load
from vitedge.runtimes import runtimes
from vitedge.targets.formats import Format, all_formats, format_records
from vitedge.targets.precisions import Precision

SOURCE = (str(GOLDEN / "timm_vit" / "model.safetensors"), "--heads", "2")

ENTRY_POINTS = """\
[vitedge.converters]
toy = tests.support.toys.network_file.format:PLUGIN
[vitedge.runtimes]
toy = tests.support.toys.numpy_runtime:PLUGIN
"""


@pytest.fixture
def toys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with_entry_points(tmp_path / "installed", ENTRY_POINTS, monkeypatch)
    format_records.cache_clear()
    yield
    format_records.cache_clear()
    runtimes.cache_clear()


def vitedge(folder: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "vitedge", *arguments]
    ran = subprocess.run(
        command, capture_output=True, text=True, cwd=folder, env=os.environ, check=False
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@pytest.mark.thorough
@pytest.mark.usefixtures("toys")
def test_it_is_converted_inspected_compared_loaded_and_measured(tmp_path: Path) -> None:
    assert all_formats()[-1] == "toy"
    vitedge(tmp_path, "convert", *SOURCE, "--fp32", "--format", "toy", "--output", str(tmp_path))
    path = tmp_path / "model.fp32.toy"
    metadata = read_metadata(path)
    assert metadata is not None
    assert (metadata.format, metadata.precision) == (Format("toy"), Precision.FP32)
    assert metadata.parity is not None
    assert metadata.parity.agreement == 1
    inspection = json.loads(vitedge(tmp_path, "inspect", "--json", str(path)))
    assert {each["name"] for each in inspection["operators"]} >= {"Linear", "Softmax", "Norm"}
    assert [each["name"] for each in inspection["inputs"]] == ["pixels"]
    compared = vitedge(tmp_path, "compare", *SOURCE, str(path))
    assert "logits" in compared or "head" in compared
    with load(path) as model:
        assert str(model.target) == "toy-numpy"
        size = metadata.preprocessing.size
        assert len(model.classify(np.zeros((*size, 3), np.uint8))) > 0
    page, found = tmp_path / "page.html", tmp_path / "found.json"
    vitedge(tmp_path, "bench", str(path), "--runs", "5", "--json", str(found), "--html", str(page))
    (row,) = json.loads(found.read_text("utf-8"))["rows"]
    assert (row["format"], row["target"], row["status"]) == ("toy", "toy-numpy", "OK")
    assert "toy-numpy" in page.read_text("utf-8")


@pytest.mark.slow
@pytest.mark.usefixtures("toys")
def test_its_runtime_says_what_fits_and_what_it_lacks_is_refused_in_words(tmp_path: Path) -> None:
    vitedge(tmp_path, "convert", *SOURCE, "--for", "toy-numpy", "--output", str(tmp_path))
    assert (tmp_path / "model.fp32.toy-numpy.toy").is_file()
    command = ["convert", *SOURCE, "--int8", "--format", "toy", "--output", str(tmp_path)]
    ran = subprocess.run(
        [sys.executable, "-m", "vitedge", *command], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 1
    assert "toy has no int8: its runtime has no mixed arithmetic" in ran.stderr
