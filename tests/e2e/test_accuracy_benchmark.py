"""``benchmarks/accuracy.py`` measures every artefact of ours beside the stock routes."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.slow
def test_every_goal_is_judged_beside_a_stock_route(tmp_path: Path) -> None:
    if importlib.util.find_spec("ai_edge_quantizer") is None:
        pytest.skip("ai-edge-quantizer not installed: pip install -e '.[benchmarks]'")
    record = tmp_path / "record.json"
    # One stock route shows that there are two sides; peers.py's test makes them all.
    without = [
        "stock-dynamic-tflite",
        "stock-full-tflite",
        "stock-dynamic-onnx",
        "stock-static-onnx",
        "stock-linear-onnx",
        "stock-nncf-openvino",
        "stock-nncf-on-ours-openvino",
    ]
    command = [sys.executable, BENCHMARKS / "accuracy.py", "--without", *without]
    command += ["--folder", tmp_path / "artefacts", "--json", record]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    measured = json.loads(record.read_text())
    # 3 formats in fp32, fp16, int8 and int4, int8-static in two, and the stock route.
    assert len(measured) == 3 * 4 + 2 + 1
    assert not {name: each["failure"] for name, each in measured.items() if each["failure"]}
    assert measured["fp32 onnx"]["sqnr_db"] is None  # it is the reference
    assert measured["int8 tflite"]["sqnr_db"] > measured["int4 tflite"]["sqnr_db"]
    assert "ai-edge-quantizer, dynamic int8" in done.stdout
    assert "| int8-static tflite | " in done.stdout
