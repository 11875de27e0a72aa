"""OpenVINO multiplies and normalizes tokens in three axes, whatever shape they come in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.networks import (
    convolutional_stages,
    many_axes,
    rope_and_swiglu,
    windows_with_bias,
)
from vitedge.converters.openvino.emitter import OpenVINOEmitter
from vitedge.network.network import Network
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
