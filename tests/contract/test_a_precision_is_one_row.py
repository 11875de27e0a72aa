"""A precision that the package does not know: one row, and the whole way is open to it.

7-bit weights are what ONNX Runtime calls a reduced range, for processors whose 8-bit products
saturate. The row is added where every Python process of the test starts, workers included.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.support.golden_cases import GOLDEN
from vitedge.artifacts.metadata import read_metadata
from vitedge.classifier import load
from vitedge.targets import precisions
from vitedge.targets.formats import Format
from vitedge.targets.precisions import Precision

ROW = """\
from vitedge.targets.precisions import ROWS, Arithmetic, PrecisionRow
from vitedge.targets.tolerances import Tolerance

ROWS["int7"] = PrecisionRow(
    "int7",
    "Write 7-bit artefacts.",
    Arithmetic.MIXED,
    weight_bits=7,
    activation_bits=8,
    # As of int8.
    tolerance=Tolerance(0.5, 10.0, 8.0),
)
"""

SOURCE = GOLDEN / "timm_vit" / "model.safetensors"


@pytest.fixture
def with_the_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "start").mkdir()
    (tmp_path / "start" / "sitecustomize.py").write_text(ROW)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "start"))
    monkeypatch.setattr(precisions, "ROWS", dict(precisions.ROWS))
    exec(ROW)


def vitedge(folder: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "vitedge", *arguments]
    ran = subprocess.run(
        command, capture_output=True, text=True, cwd=folder, env=os.environ, check=False
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@pytest.mark.thorough
@pytest.mark.usefixtures("with_the_row")
def test_it_is_converted_inspected_loaded_and_measured(tmp_path: Path) -> None:
    assert "Write 7-bit artefacts." in vitedge(tmp_path, "convert", "--help")
    vitedge(
        tmp_path,
        "convert",
        str(SOURCE),
        "--heads",
        "2",
        "--int8",
        "--int7",
        "--output",
        str(tmp_path),
    )
    for known in (Format.TFLITE, Format.ONNX, Format.OPENVINO):
        path = tmp_path / f"model.int7{known.suffix}"
        metadata = read_metadata(path)
        assert metadata is not None
        assert metadata.precision is Precision("int7")
        assert metadata.quantization["weights"].startswith("int7 per output channel")
        assert metadata.parity is not None
        assert metadata.parity.sqnr_db is not None
        # Each bit is worth up to 6 dB.
        finer = read_metadata(tmp_path / f"model.int8{known.suffix}")
        assert finer is not None
        assert finer.parity is not None
        assert 10 < metadata.parity.sqnr_db < (finer.parity.sqnr_db or 99)
        size = metadata.preprocessing.size
        with load(path, threads=1) as model:
            assert len(model.classify(np.zeros((*size, 3), np.uint8))) > 0
    path = tmp_path / f"model.int7{Format.ONNX.suffix}"
    inspection = json.loads(vitedge(tmp_path, "inspect", "--json", str(path)))
    assert inspection["metadata"]["precision"] == "int7"
    found = tmp_path / "found.json"
    measured = ("--target", "onnx-cpu", "--runs", "3", "--json", str(found))
    vitedge(tmp_path, "bench", str(path), *measured)
    (row,) = json.loads(found.read_text("utf-8"))["rows"]
    assert (row["precision"], row["status"]) == ("int7", "OK")
