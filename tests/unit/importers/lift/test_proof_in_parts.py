"""Models that multiply rounding are believed part by part, and misreadings of them are not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from tests.unit.importers.lift.test_network_form import GOLDEN, insert_before_softmax
from vitedge.errors import NotAViTError
from vitedge.importers import read_model
from vitedge.importers.lift import proof_in_parts
from vitedge.importers.lift.input_range import input_range
from vitedge.importers.lift.network_form import read_network
from vitedge.importers.lift.onnx_probe import OnnxProbe
from vitedge.importers.lift.probe import Experiments
from vitedge.importers.lift.proof import compare_logits
from vitedge.importers.lift.recognition import recognize_within
from vitedge.importers.lift.tidying import tidied
from vitedge.network.network import Network

ROUNDS = 22
"""Of the logistic map, each of which doubles a difference: 1e-7 becomes 0.4."""


def chaotic(path: Path, last_factor: float = 1.0) -> Path:
    """A golden model whose scores go through the logistic map ``4 x - 4 x x`` many times."""
    make = helper.make_node
    model = onnx.load(GOLDEN / "attention_pooling.onnx")
    for name, value in {"four": 4.0, "last": last_factor}.items():
        model.graph.initializer.append(numpy_helper.from_array(np.array(value, np.float32), name))
    nodes = [make("Sigmoid", [""], ["x0"])]
    for number in range(ROUNDS):
        x, fourfold, square = f"x{number}", f"fourfold{number}", f"square{number}"
        nodes += [
            make("Mul", [x, "four"], [fourfold]),
            make("Mul", [fourfold, x], [square]),
            make("Sub", [fourfold, square], [f"x{number + 1}"]),
        ]
    nodes.append(make("Mul", [f"x{ROUNDS}", "last"], ["scores"]))
    insert_before_softmax(model.graph, nodes, "scores")
    onnx.save(model, path)
    return path


def in_parts(path: Path) -> tuple[Experiments, dict[str, str], Network]:
    """The source, the tensors of its parts and output by name, and the network with them."""
    probe = OnnxProbe(path)
    experiments = Experiments(probe, single=True)
    known = recognize_within(experiments)
    taken = input_range(experiments)
    outputs = {"logits": experiments.graph.output}
    outputs |= proof_in_parts.sums_of(experiments.graph, known)
    return (
        experiments,
        outputs,
        tidied(read_network(experiments, probe.rules(), known, taken, outputs)),
    )


def test_a_source_that_multiplies_rounding_is_proven_part_by_part(tmp_path: Path) -> None:
    imported = read_model(chaotic(tmp_path / "model.onnx"))
    assert "as the source's own where its input is rounded; each of" in imported.proof
    assert list(imported.network.outputs) == ["logits"]


def test_a_part_that_computes_something_else_is_seen(tmp_path: Path) -> None:
    source, outputs, right = in_parts(chaotic(tmp_path / "source.onnx"))
    _, _, wrong = in_parts(chaotic(tmp_path / "other.onnx", last_factor=1.01))
    taken = input_range(source)
    assert proof_in_parts.multiplies_rounding(source, right, taken, {"logits": outputs["logits"]})
    for network, holds in ((right, True), (wrong, False)):
        proof = compare_logits(source, network, taken, outputs={"logits": outputs["logits"]})
        proof = proof_in_parts.compare_parts(proof, source, network, taken, (), outputs)
        assert proof.parts == len(outputs) > ROUNDS
        assert proof.holds is holds


def test_what_differs_from_a_source_that_holds_still_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vitedge.importers.lift import onnx_nodes

    monkeypatch.setitem(onnx_nodes._RULES, "Neg", lambda call: call.any(0))
    make = helper.make_node
    model = onnx.load(GOLDEN / "attention_pooling.onnx")
    insert_before_softmax(model.graph, [make("Neg", [""], ["turned"])], "turned")
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(NotAViTError, match="its logits differ from the source's"):
        read_model(tmp_path / "model.onnx")
