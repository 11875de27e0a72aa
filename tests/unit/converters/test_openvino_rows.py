"""OpenVINO multiplies and normalizes tokens in three axes, whatever shape they come in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.support.networks import (
    Random,
    convolutional_stages,
    many_axes,
    rope_and_swiglu,
    windows_with_bias,
)
from vitedge.converters.openvino.emitter import OpenVINOEmitter
from vitedge.network.evaluate import evaluate
from vitedge.network.network import Network
from vitedge.network.operators import Pool, PoolKind, Reshape
from vitedge.quantize import Recipe
from vitedge.targets.precisions import Precision

NETWORKS = [convolutional_stages, many_axes, rope_and_swiglu, windows_with_bias]


def reads_constant(node: Any) -> bool:
    """Whether its second input is a weight, widened or not."""
    read = node.input_value(1).get_node()
    while read.get_type_name() in ("Convert", "Multiply"):
        read = read.input_value(0).get_node()
    return bool(read.get_type_name() == "Constant")


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("made", NETWORKS)
def test_layers_and_norms_have_three_axes_at_most(made: Callable[[], Network], batch: int) -> None:
    model = OpenVINOEmitter(made(), Recipe(Precision.FP32), batch).emit()
    nodes = model.get_ordered_ops()
    layers = [each for each in nodes if each.get_type_name() == "MatMul" and reads_constant(each)]
    norms = [each for each in nodes if each.get_type_name() == "MVN"]
    assert layers
    for node in [*layers, *norms]:
        shape = tuple(node.output(0).shape)
        assert len(shape) <= 3, node.get_friendly_name()
        assert shape[0] == batch or node in layers, node.get_friendly_name()


@pytest.mark.parametrize("made", NETWORKS)
def test_norms_stay_whole_when_the_file_is_compiled(made: Callable[[], Network]) -> None:
    import openvino

    model = OpenVINOEmitter(made(), Recipe(Precision.FP32), 1).emit()
    wanted = sum(each.get_type_name() == "MVN" for each in model.get_ordered_ops())
    running = openvino.Core().compile_model(model, "CPU").get_runtime_model()
    kinds = [node.get_rt_info()["layerType"].astype(str) for node in running.get_ordered_ops()]
    assert kinds.count("MVN") == wanted


@pytest.mark.parametrize("batch", [1, 2])
def test_the_largest_of_a_column_is_a_reduction(batch: int) -> None:
    import openvino

    made = Random(41)
    x = made.net("turned", Reshape((4, 64, 3)), made.image(16))
    column = made.net("column", Pool(PoolKind.MAX, (4, 1), (4, 1)), x)
    part = made.net("part", Pool(PoolKind.MAX, (2, 1), (2, 1)), x)
    wide = made.net("wide", Pool(PoolKind.MAX, (4, 2), (4, 2)), x)
    mean = made.net("mean", Pool(PoolKind.AVERAGE, (4, 1), (4, 1)), x)
    network = made.network(column=column, part=part, wide=wide, mean=mean)
    model = OpenVINOEmitter(network, Recipe(Precision.FP32), batch).emit()
    kinds = [each.get_type_name() for each in model.get_ordered_ops()]
    assert [kinds.count(kind) for kind in ("ReduceMax", "MaxPool", "AvgPool")] == [1, 2, 1]
    pixels = np.random.default_rng(0).integers(0, 256, (batch, 16, 16, 3)).astype(np.float32)
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    found = openvino.Core().compile_model(model, "CPU", settings)(pixels)
    for name, wanted in evaluate(network, pixels).items():
        np.testing.assert_allclose(found[name], wanted, rtol=1e-5, atol=1e-5)
