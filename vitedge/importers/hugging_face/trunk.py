"""A transformer over patches out of the weights of a family of transformers' models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from vitedge.elements.attention import AttentionWeights, Pass, attention
from vitedge.elements.block import BlockParts
from vitedge.elements.rope import AxialPositions, Pairing
from vitedge.elements.trunk import Trunk
from vitedge.errors import ModelError, NotAViTError
from vitedge.files.json_values import number, shown, text, whole
from vitedge.importers.hugging_face.families import Family, Names
from vitedge.importers.layers import (
    scaled_outputs,
    torch_linear,
    torch_norm,
    torch_norm_if_present,
    torch_patch,
    width_of_heads,
)
from vitedge.importers.positions import interpolate_positions
from vitedge.importers.reading.tensors import Tensors
from vitedge.importers.torch_blocks import axial_rope, gated_mlp, halves, learned_bias, plain_mlp
from vitedge.network.kinds import Activation
from vitedge.network.network import Builder, Value
from vitedge.network.operators import Array, Linear

_ACTIVATIONS = {
    "gelu": Activation.GELU,
    "gelu_new": Activation.GELU_TANH,
    "gelu_fast": Activation.GELU_TANH,
    "gelu_pytorch_tanh": Activation.GELU_TANH,
    "quick_gelu": Activation.QUICK_GELU,
    "relu": Activation.RELU,
    "silu": Activation.SILU,
    "swish": Activation.SILU,
}


def read_trunk(
    body: Tensors, values: Mapping[str, Any], family: Family, size: tuple[int, int]
) -> Trunk:
    """The trunk for images of a size; positions of another size are interpolated to it.

    Args:
        body: The weights, below their prefix.
        values: The content of ``config.json``, or of its part for images.
        family: The family of the ``model_type``.
        size: Height and width in pixels.

    Raises:
        ModelError: Weights are missing, or contradict the config.
    """
    names, eps = family.names, number(values, "layer_norm_eps")
    patch_size = pair(values["patch_size"])
    old, grid = (_grid(each, patch_size) for each in (pair(values["image_size"]), size))
    heads = whole(values, "num_attention_heads", least=1)
    head_dim = width_of_heads(whole(values, "hidden_size", least=1), heads)
    prefix, positions = _tokens(body, names)
    if positions is not None and grid != old:
        positions = interpolate_positions(positions, old, grid, family.resampling)
    turn = None
    if family.rotary:
        positions_of = AxialPositions(_theta(values), centred=True)
        turn = axial_rope(grid, head_dim, positions_of, Pairing.HALVES, len(prefix))
    blocks = tuple(
        _block(body.below(f"{names.block.format(index)}."), values, names, heads, turn, bias)
        for index, bias in enumerate(_biases(body, values, names, grid))
    )
    return Trunk(
        patch=_patch(body, names, patch_size),
        patch_size=patch_size,
        prefix=prefix,
        positions=positions,
        blocks=blocks,
        norm=None if names.norm is None else torch_norm_if_present(body, names.norm, eps),
        input_norm=torch_norm_if_present(body, names.input_norm, eps),
    )


def activation_of(values: Mapping[str, Any]) -> Activation:
    """The activation that ``hidden_act`` names.

    Raises:
        NotAViTError: vitedge lacks it.
    """
    activation = _ACTIVATIONS.get(text(values, "hidden_act"))
    if activation is None:
        raise NotAViTError(
            f"the activation {shown(values['hidden_act'])} is not one that vitedge has"
        )
    return activation


def pair(value: Any) -> tuple[int, int]:
    """A height and a width out of one number or two."""
    height, width = value if isinstance(value, list) else (value, value)
    size = {"height": height, "width": width}
    return whole(size, "height", least=1), whole(size, "width", least=1)


def _theta(values: Mapping[str, Any]) -> float:
    """The base of the rotary frequencies, where either generation of transformers writes it."""
    parameters = values.get("rope_parameters")
    nested = parameters if isinstance(parameters, Mapping) else {}
    return number({**nested, **values}, "rope_theta")


def _grid(size: tuple[int, int], patch_size: tuple[int, int]) -> tuple[int, int]:
    if any(whole < patch or whole % patch for whole, patch in zip(size, patch_size, strict=True)):
        raise ValueError(f"image size {size} is not a multiple of patch size {patch_size}")
    return size[0] // patch_size[0], size[1] // patch_size[1]


def _patch(body: Tensors, names: Names, patch_size: tuple[int, int]) -> Linear:
    """A convolution, or a layer over flattened patches (SigLIP 2)."""
    shape = body.shape(f"{names.patch}.weight")
    if len(shape) == 2:
        return torch_linear(body, names.patch)
    if shape[2:] != patch_size:
        raise ModelError(f"'{names.patch}.weight' has shape {shape}, not patches of {patch_size}")
    return torch_patch(body, names.patch)


def _tokens(body: Tensors, names: Names) -> tuple[Array, Array | None]:
    """Prefix and positions; registers, alone among the tokens, have no position."""
    dim = body.shape(f"{names.patch}.weight")[0]
    tokens = [body[name].reshape(-1, dim) for name in names.tokens if name in body]
    prefix = np.concatenate([*tokens, np.zeros((0, dim), np.float32)])
    if names.positions not in body:
        return prefix, None
    positions = body[names.positions].reshape(-1, dim)
    placed = sum(len(each) for each in tokens[: names.placed])
    if names.behind:
        positions = np.concatenate([positions[:1], np.roll(positions[1:], placed - 1, axis=0)])
    prefix[:placed] += positions[:placed]
    return prefix, np.ascontiguousarray(positions[placed:])


def _biases(
    body: Tensors, values: Mapping[str, Any], names: Names, grid: tuple[int, int]
) -> list[Pass | None]:
    """The position bias of each block.

    Raises:
        ModelError: The config claims more blocks than there are weights, or biases are of images
            that are not square.
    """
    depth = whole(values, "num_hidden_layers", least=1)
    if depth > len(body.names):
        raise ModelError(
            f"'num_hidden_layers' is {depth}, and the file has {len(body.names)} weights"
        )
    biased = names.shared_bias in body or any(name.endswith(names.bias) for name in body.names)
    if biased and grid[0] != grid[1]:
        # transformers resamples the table with rows and columns exchanged, which is no change for
        # squares alone.
        raise ModelError(
            f"images of {grid[0]} x {grid[1]} patches are not square, and vitedge reads relative "
            "position biases of transformers for square images only: export the model to .onnx"
        )
    if names.shared_bias in body:
        return [learned_bias(body, names.shared_bias, grid, class_token=True)] * depth
    found = [f"{names.block.format(index)}.{names.bias}" for index in range(depth)]
    return [
        learned_bias(body, name, grid, class_token=True) if name in body else None for name in found
    ]


def _block(
    tensors: Tensors,
    values: Mapping[str, Any],
    names: Names,
    heads: int,
    turn: Pass | None,
    bias: Pass | None,
) -> BlockParts:
    eps = number(values, "layer_norm_eps")
    out = _scaled(torch_linear(tensors, names.out), tensors, names.scales[0])
    q, k, v = (torch_linear(tensors, part) for part in names.qkv)
    weights = AttentionWeights(q, k, v, out)
    scale = width_of_heads(weights.q.weight.shape[1], heads) ** -0.5

    def attend(net: Builder, x: Value, name: str) -> Value:
        return attention(
            net, x, weights, name, heads=heads, scale=scale, turn=turn, add_to_scores=bias
        )

    return BlockParts(
        norm1=torch_norm(tensors, names.norms[0], eps),
        attention=attend,
        norm2=torch_norm(tensors, names.norms[1], eps),
        mlp=_mlp(tensors, values, names),
    )


def _mlp(tensors: Tensors, values: Mapping[str, Any], names: Names) -> Pass:
    scale = names.scales[1]
    if values.get("use_swiglu_ffn"):
        first, last = (torch_linear(tensors, part) for part in names.packed)
        return gated_mlp(*halves(first), _scaled(last, tensors, scale))
    activation = activation_of(values)
    if values.get("use_gated_mlp"):
        gate, up, down = (torch_linear(tensors, part) for part in names.gated)
        return gated_mlp(gate, up, _scaled(down, tensors, scale), activation)
    fc1, fc2 = (torch_linear(tensors, part) for part in names.mlp)
    return plain_mlp(fc1, _scaled(fc2, tensors, scale), activation)


def _scaled(layer: Linear, tensors: Tensors, scale: str) -> Linear:
    return scaled_outputs(layer, tensors[scale]) if scale in tensors else layer
