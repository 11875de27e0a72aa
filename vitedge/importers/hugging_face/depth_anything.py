"""Depth Anything of transformers: a DINOv2 trunk under DPT's decoder gives a map of depths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vitedge.elements.dense_prediction import as_image, enlarged, residual_unit, resized
from vitedge.elements.trunk import Trunk, states_of
from vitedge.errors import NotAViTError
from vitedge.files.json_values import number, numbers, shown, text, wholes
from vitedge.images.preprocess import Preprocessing
from vitedge.importers.reading.tensors import Tensors
from vitedge.importers.torch_convolutions import (
    torch_convolution,
    torch_enlargement,
    torch_pointwise,
)
from vitedge.network.kinds import Activation
from vitedge.network.network import Builder, Value
from vitedge.network.operators import (
    Activate,
    Add,
    Constant,
    Convolution,
    Linear,
    Multiply,
    Reshape,
)

KIND = "depth_anything"
_BACKBONE = "dinov2"


def refuse_other_backbone(values: Mapping[str, Any]) -> None:
    """Refuses a backbone that is not a DINOv2, by its config.

    Raises:
        NotAViTError: The backbone is of another ``model_type``.
    """
    backbone = values.get("model_type", _BACKBONE)
    if backbone != _BACKBONE:
        raise NotAViTError(
            f"a Depth Anything with a backbone of model_type {shown(backbone)}, and vitedge reads "
            f"those with {_BACKBONE}: export the model to .onnx"
        )


def depth_outputs(
    net: Builder,
    trunk: Trunk,
    tensors: Tensors,
    config: Mapping[str, Any],
    values: Mapping[str, Any],
    preprocessing: Preprocessing,
) -> dict[str, Value]:
    """The network's output: ``map``, ``(height, width)``.

    Args:
        net: The builder that makes the values.
        trunk: The trunk, a DINOv2.
        tensors: All weights.
        config: The ``config.json``.
        values: Its part for the trunk.
        preprocessing: The preprocessing of the images.

    Raises:
        NotAViTError: The kind of depth is unknown.
    """
    states = states_of(net, trunk, preprocessing)
    (height, width), (down, across) = preprocessing.size, trunk.patch_size
    grid = (height // down, width // across)
    read = []
    for index, place in enumerate(wholes(values, "out_indices")):
        x, name = states[place], f"reassembled.{index}"
        if trunk.norm is not None and values.get("apply_layernorm", True):
            x = net(f"{name}.norm", trunk.norm, x)
        read.append(as_image(net, x, 1, grid, name))
    neck = tensors.below("neck.")
    factors = numbers(config, "reassemble_factors")
    features = [
        _reassembled(net, x, neck, index, factor)
        for index, (x, factor) in enumerate(zip(read, factors, strict=True))
    ]
    head_in_index = int(number({"head_in_index": -1, **config}, "head_in_index"))
    x = _fused(net, features, neck.below("fusion_stage."))[head_in_index]
    return {"map": _depth(net, x, tensors.below("head."), config, preprocessing.size)}


def _reassembled(net: Builder, x: Value, neck: Tensors, index: int, factor: float) -> Value:
    """The tokens of one block as an image of its own size and channels."""
    name, layer = f"reassembled.{index}", neck.below(f"reassemble_stage.layers.{index}.")
    x = net(f"{name}.projection", torch_pointwise(layer, "projection"), x)
    if factor > 1:
        x = enlarged(net, x, torch_enlargement(layer, "resize"), int(factor), f"{name}.resize")
    elif factor < 1:
        step = int(1 / factor)
        x = net(f"{name}.resize", torch_convolution(layer, "resize", step=step, border=1), x)
    return net(f"{name}.conv", torch_convolution(neck, f"convs.{index}", border=1), x)


def _fused(net: Builder, features: Sequence[Value], stage: Tensors) -> list[Value]:
    """Fuses features, the last block's first: each is enlarged and added to the one before it."""
    made: list[Value] = []
    order = list(reversed(features))
    for index, feature in enumerate(order):
        name, layer = f"fused.{index}", stage.below(f"layers.{index}.")
        x = feature
        first = _unit(layer, "residual_layer1")
        if made:
            x = residual_unit(net, feature, *first, f"{name}.residual1")
            x = net(f"{name}/sum", Add(), made[-1], x)
        x = residual_unit(net, x, *_unit(layer, "residual_layer2"), f"{name}.residual2")
        rows, columns = x.shape[:2]
        last = index + 1 == len(order)
        size = (2 * rows, 2 * columns) if last else order[index + 1].shape[:2]
        x = resized(net, x, (size[0], size[1]), f"{name}/resized")
        made.append(net(f"{name}.projection", torch_pointwise(layer, "projection"), x))
    return made


def _depth(
    net: Builder, x: Value, head: Tensors, config: Mapping[str, Any], size: tuple[int, int]
) -> Value:
    x = net("head.conv1", torch_convolution(head, "conv1", border=1), x)
    x = net(
        "head.conv2",
        torch_convolution(head, "conv2", border=1),
        resized(net, x, size, "head/resized"),
    )
    x = net("head.conv2/relu", Activate(Activation.RELU), x)
    last = torch_pointwise(head, "conv3")
    longest = number({**config, "max_depth": config.get("max_depth") or 1}, "max_depth")
    kind = text({"depth_estimation_type": "relative", **config}, "depth_estimation_type")
    match kind:
        case "relative":
            x = net("head.conv3/relu", Activate(Activation.RELU), net("head.conv3", last, x))
            if longest != 1:
                x = net("head/depths", Multiply(), x, _number(net, "head/longest", longest))
        case "metric":
            # A sigmoid is half of one plus the tanh of half of what it reads.
            half = np.float32(0.5)
            x = net("head.conv3", Linear(last.weight * half, last.bias * half), x)
            x = net("head.conv3/tanh", Activate(Activation.TANH), x)
            by = _number(net, "head/half", longest / 2)
            x = net("head/depths", Add(), net("head/spread", Multiply(), x, by), by)
        case _:
            raise NotAViTError(f"depth_estimation_type {shown(kind)} is not relative or metric")
    return net("head/map", Reshape(size), x)


def _number(net: Builder, name: str, value: float) -> Value:
    return net(name, Constant(np.asarray(value, np.float32)))


def _unit(layer: Tensors, name: str) -> tuple[Convolution, Convolution]:
    first, second = (
        torch_convolution(layer, f"{name}.convolution{index}", border=1) for index in (1, 2)
    )
    return first, second
