"""Convolutions of torch in canonical form."""

from __future__ import annotations

import numpy as np

from vitedge.importers.reading.tensors import Tensors
from vitedge.network.operators import Convolution, Linear


def torch_convolution(
    tensors: Tensors, name: str, *, step: int = 1, border: int = 0, depthwise: bool = False
) -> Convolution:
    """``torch.nn.Conv2d``: the weight is ``(outputs, inputs / groups, height, width)``.

    Args:
        tensors: The weights.
        name: The name of the layer.
        step: Pixels from one output to the next.
        border: Pixels of zeros on each side.
        depthwise: Each channel for itself.
    """
    weight = np.ascontiguousarray(tensors[f"{name}.weight"].transpose(2, 3, 1, 0))
    bias = tensors.get(f"{name}.bias")
    bias = np.zeros(weight.shape[3], np.float32) if bias is None else bias
    padding = ((border, border), (border, border))
    groups = weight.shape[3] if depthwise else 1
    return Convolution(weight, bias, (step, step), padding, groups)


def torch_pointwise(tensors: Tensors, name: str) -> Linear:
    """``torch.nn.Conv2d`` of one pixel, which is a layer of each."""
    weight = tensors[f"{name}.weight"]
    flat = np.ascontiguousarray(weight.reshape(weight.shape[:2]).T)
    bias = tensors.get(f"{name}.bias")
    return Linear(flat, np.zeros(flat.shape[1], np.float32) if bias is None else bias)


def torch_enlargement(tensors: Tensors, name: str) -> Linear:
    """``torch.nn.ConvTranspose2d`` whose squares lie side by side: ``(inputs, outputs, h, w)``."""
    weight = tensors[f"{name}.weight"]
    flat = np.ascontiguousarray(weight.transpose(0, 2, 3, 1).reshape(len(weight), -1))
    bias = tensors[f"{name}.bias"]
    return Linear(flat, np.tile(bias, flat.shape[1] // bias.size))
