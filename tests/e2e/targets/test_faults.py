"""Engines that go wrong without saying so, provoked in real ones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support import target_onnx_graphs as graphs
from tests.support.target_artifacts import bench_one
from vitedge.report.results import Status


@dataclass(frozen=True)
class Fault:
    id: str
    graph: str
    status: Status
    words: str
    timeout_seconds: float = 120


FAULTS = [
    Fault("NaN", graphs.NOT_A_NUMBER, Status.DRIFT, "not finite"),
    Fault("zeros", graphs.ALL_ZERO, Status.DRIFT, "all logits are zero"),
    Fault("constant", graphs.CONSTANT, Status.DRIFT, "do not depend on the image"),
    Fault("hung", graphs.ENDLESS, Status.TIMEOUT, "no sign of life for 15 s (at 'open')", 15),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.id)
def test_an_engine_that_goes_wrong_without_a_word_has_a_status(
    fault: Fault, tmp_path: Path
) -> None:
    path = graphs.save_graph(tmp_path / "graph.onnx", fault.graph)
    row = bench_one(path, "onnx-cpu", timeout_seconds=fault.timeout_seconds)
    assert row.status is fault.status
    assert fault.words in row.message
