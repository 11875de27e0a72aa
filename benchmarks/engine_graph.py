"""The ONNX graph that other engines take: a convolution over normalised planes, as torch has it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from vitedge.converters.tools import converter_for
from vitedge.network.network import Network, Value
from vitedge.network.operators import Linear
from vitedge.quantize.recipe import quantize
from vitedge.targets.formats import Format
from vitedge.targets.precisions import Precision

INPUT, OUTPUT = "planes", "logits"


def write_graph(network: Network, path: Path) -> None:
    """Writes a plain ViT in float32 for ``(1, 3, H, W)`` planes, whose patches a convolution cuts.

    Ours cuts them by a reshape of five axes, which ncnn does not have.
    """
    made = quantize(network, Precision.FP32)
    draft = converter_for(Format.ONNX, Precision.FP32).convert(made.network, made.recipe, batch=1)
    model = draft.model  # type: ignore[attr-defined]
    patch = next(each for each in made.network.values if isinstance(each.operator, Linear))
    graph = model.graph
    at = next(n for n, node in enumerate(graph.node) if node.output[0] == f"{patch.name}/tokens")
    nodes = list(graph.node)[at + 1 :]
    arrays, before = _embedding(network, patch)
    del graph.node[:], graph.input[:]
    graph.node.extend([*before, *nodes])
    channels, (height, width) = network.preprocessing.channels, network.preprocessing.size
    shape = (1, channels, height, width)
    graph.input.append(helper.make_tensor_value_info(INPUT, onnx.TensorProto.FLOAT, shape))
    read = {name for node in graph.node for name in node.input}
    kept = [each for each in graph.initializer if each.name in read]
    del graph.initializer[:]
    graph.initializer.extend([*kept, *arrays])
    del model.metadata_props[:]
    onnx.checker.check_model(model)
    onnx.save(model, path)


def planes(network: Network, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """uint8 pixels ``(N, H, W, C)`` as normalised float32 planes ``(N, C, H, W)``."""
    said = network.preprocessing
    scaled = (pixels / np.float32(255) - np.float32(said.mean)) / np.float32(said.std)
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2), np.float32)


def _embedding(
    network: Network, patch: Value
) -> tuple[list[onnx.TensorProto], list[onnx.NodeProto]]:
    """The convolution, and its outputs as tokens."""
    linear = patch.operator
    assert isinstance(linear, Linear)
    tokens, channels = patch.shape[-2], network.preprocessing.channels
    side = round((linear.weight.shape[0] / channels) ** 0.5)
    outputs = linear.weight.shape[1]
    weight = linear.weight.reshape(side, side, channels, outputs).transpose(3, 2, 0, 1)
    arrays = {
        "cut.weight": weight.astype(np.float32),
        "cut.bias": linear.bias,
        "cut.shape": np.asarray([1, outputs, tokens], np.int64),
    }
    nodes = [
        helper.make_node(
            *("Conv", [INPUT, "cut.weight", "cut.bias"], ["cut"]), strides=[side, side]
        ),
        helper.make_node("Reshape", ["cut", "cut.shape"], ["cut/flat"]),
        helper.make_node("Transpose", ["cut/flat"], [f"{patch.name}/tokens"], perm=[0, 2, 1]),
    ]
    return [numpy_helper.from_array(each, name) for name, each in arrays.items()], nodes
