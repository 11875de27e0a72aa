"""Layers of other libraries in canonical form; shared by the importers."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace

import numpy as np

from vitedge.errors import ModelError
from vitedge.files.limits import refuse_inflation
from vitedge.images.preprocess import IMAGENET_MEAN, IMAGENET_STD
from vitedge.importers import ImportOptions
from vitedge.importers.reading.tensors import Tensors
from vitedge.network.kinds import Activation
from vitedge.network.operators import Array, Linear, Norm

# Heads are 64 wide, but for these widths of the residual stream: SO400M (arXiv:2305.13035), and
# ViT-H, g and G (arXiv:2010.11929, arXiv:2106.04560), which have 16 heads.
_HEADS_BY_DIM = {1152: 16, 1280: 16, 1408: 16, 1664: 16}
_HEAD_DIM = 64

_NORM_EPS = 1e-5  # torch.nn.LayerNorm's, which a head that was put in its place has


def torch_linear(tensors: Tensors, name: str) -> Linear:
    """``torch.nn.Linear``: the weight is ``(outputs, inputs)``, the bias may be missing."""
    weight = np.ascontiguousarray(matrix(tensors, f"{name}.weight").T)
    return Linear(weight, _bias(tensors, f"{name}.bias", weight.shape[1]))


def torch_patch(tensors: Tensors, name: str) -> Linear:
    """``torch.nn.Conv2d`` over patches: the weight is ``(dim, channels, height, width)``."""
    torch_patch_shape(tensors, name)
    weight = tensors[f"{name}.weight"]
    flat = np.ascontiguousarray(weight.transpose(2, 3, 1, 0).reshape(-1, len(weight)))
    return Linear(flat, _bias(tensors, f"{name}.bias", len(weight)))


def torch_patch_shape(tensors: Tensors, name: str) -> tuple[int, tuple[int, int]]:
    """Channels, and height and width of a patch, of such a convolution.

    Raises:
        ModelError: The weight is missing or not a convolution.
    """
    shape = tensors.shape(f"{name}.weight")
    if len(shape) != 4:
        raise ModelError(f"'{name}.weight' has shape {shape}, which is not a convolution")
    return shape[1], (shape[2], shape[3])


def torch_norm(tensors: Tensors, name: str, eps: float) -> Norm:
    """``torch.nn.LayerNorm``."""
    return Norm(tensors[f"{name}.weight"], tensors[f"{name}.bias"], eps)


def torch_norm_if_present(tensors: Tensors, name: str, eps: float) -> Norm | None:
    """``torch.nn.LayerNorm``, or None where there is an identity instead."""
    return torch_norm(tensors, name, eps) if f"{name}.weight" in tensors else None


def torch_fused_qkv(tensors: Tensors, weight: str, bias: str) -> tuple[Linear, Linear, Linear]:
    """Query, key and value stacked in one matrix ``(3 * attention_dim, dim)``."""
    stacked = matrix(tensors, weight)
    if len(stacked) % 3:
        raise ModelError(f"'{weight}' has {len(stacked)} rows, which is not query, key and value")
    biases = _bias(tensors, bias, len(stacked))
    q, k, v = (
        Linear(np.ascontiguousarray(part.T), np.ascontiguousarray(part_bias))
        for part, part_bias in zip(np.split(stacked, 3), np.split(biases, 3), strict=True)
    )
    return q, k, v


def folded_linear(kernel: Array, bias: Array | None, input_axes: int) -> Linear:
    """A dense layer or patch convolution of Keras or Flax.

    Args:
        kernel: Its first axes are inputs, the rest outputs: ``(dim, heads, head_dim)``.
        bias: The bias, in the shape of the outputs, or None.
        input_axes: The number of axes of the kernel that are inputs.
    """
    inputs = math.prod(kernel.shape[:input_axes])
    weight = kernel.reshape(inputs, -1)
    return Linear(weight, _no_bias(weight.shape[1]) if bias is None else bias.reshape(-1))


def scaled_outputs(linear: Linear, factors: Array) -> Linear:
    """A linear layer followed by LayerScale, as one linear layer (arXiv:2103.17239)."""
    return replace(linear, weight=linear.weight * factors, bias=linear.bias * factors)


def averaged_heads(first: Linear, second: Linear) -> Linear:
    """One head on two concatenated tokens that gives the mean of two heads' logits (DeiT)."""
    weight = np.concatenate([first.weight, second.weight]) * np.float32(0.5)
    return Linear(weight, (first.bias + second.bias) * np.float32(0.5))


def matrix(tensors: Tensors, name: str) -> Array:
    """An array of rank two.

    Raises:
        ModelError: The array is missing or of another rank.
    """
    array = tensors[name]
    if array.ndim != 2:
        raise ModelError(f"'{name}' has shape {array.shape}, where a matrix is expected")
    return array


def rows(tensors: Tensors, name: str) -> Array:
    """A learned sequence ``(1, n, dim)`` as ``(n, dim)``."""
    array = tensors[name]
    if array.ndim < 2 or array.size == 0:
        raise ModelError(f"'{name}' has shape {array.shape}, where a sequence is expected")
    return array.reshape(-1, array.shape[-1])


@dataclass(frozen=True)
class Head:
    """The layers behind the pooling.

    Attributes:
        last: The layer that gives the logits.
        hidden: Layers before it, each followed by the activation.
        activation: Non-linearity after each hidden layer.
        norm: The norm of the pooled tokens, or None.
    """

    last: Linear
    hidden: tuple[Linear, ...] = ()
    activation: Activation = Activation.TANH
    norm: Norm | None = None


def torch_head(tensors: Tensors, name: str, options: ImportOptions) -> Head:
    """A head that is one ``Linear``, or a ``Sequential`` of some with a norm at most before them.

    Dropout and activations leave nothing in a file but gaps between the numbers.

    Raises:
        ModelError: There is none, or the activation between its layers is unknown.
    """
    if f"{name}.weight" in tensors:
        return Head(torch_linear(tensors, name))
    parts = sorted(
        int(found[1])
        for each in tensors.below(f"{name}.").names
        if (found := re.fullmatch(r"(\d{1,4})\.weight", each))
    )
    if not parts:
        raise ModelError(f"'{tensors.source}' has no classifier ('{name}.weight'), only features")
    norm = None
    if len(tensors.shape(f"{name}.{parts[0]}.weight")) == 1:
        norm = torch_norm(tensors, f"{name}.{parts.pop(0)}", _NORM_EPS)
    layers = [torch_linear(tensors, f"{name}.{part}") for part in parts]
    if not layers:
        raise ModelError(f"'{tensors.source}' has no layer in its head '{name}'")
    if len(layers) > 1 and options.head_activation is None:
        raise ModelError(
            f"the head '{name}' of '{tensors.source}' has {len(layers)} layers, and the weights do "
            "not tell by which activation they are joined: give --head-activation"
        )
    activation = options.head_activation or Activation.TANH
    return Head(layers[-1], tuple(layers[:-1]), activation, norm)


def usual_statistics(channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of ImageNet for RGB, of the middle for other pictures."""
    if channels == len(IMAGENET_MEAN):
        return IMAGENET_MEAN, IMAGENET_STD
    return (0.5,) * channels, (0.5,) * channels


@dataclass(frozen=True)
class LearnedTokens:
    """The learned tensors of tokens besides the patch projection.

    Attributes:
        prefix: The tokens before the patches, with their positions added.
        positions: The positions of the patches.
        image_size: Height and width in pixels.
        patch_size: Height and width in pixels.
    """

    prefix: Array
    positions: Array
    image_size: tuple[int, int]
    patch_size: tuple[int, int]


def class_token_and_patches(
    class_token: Array, positions: Array, patch_size: tuple[int, int], options: ImportOptions
) -> LearnedTokens:
    """A class token, whose position comes first, and a square of patches.

    Raises:
        ModelError: The patches are not square, and the options do not say what else.
    """
    grid = square_grid(len(positions) - 1, patch_size, options)
    if grid is None:
        patches = len(positions) - 1
        advice = size_advice(patches, patch_size, options)
        raise ModelError(f"{patches} patches are not a square: {advice}")
    return LearnedTokens(
        prefix=class_token + positions[:1],
        positions=np.ascontiguousarray(positions[1:]),
        image_size=(grid[0] * patch_size[0], grid[1] * patch_size[1]),
        patch_size=patch_size,
    )


def heads_of(dim: int, options: ImportOptions) -> int:
    """Number of heads: what the person says, else the published default for this width.

    Raises:
        ModelError: Nobody publishes such a width, or the heads do not divide it.
    """
    if dim < 1:
        raise ModelError("the attention has no channels")
    if options.heads:
        if dim % options.heads:
            raise ModelError(f"{options.heads} heads do not divide an attention of width {dim}")
        return options.heads
    if dim in _HEADS_BY_DIM:
        return _HEADS_BY_DIM[dim]
    if dim % _HEAD_DIM:
        raise ModelError(
            f"the weights do not tell the number of heads, and an attention of width {dim} has no "
            "usual one: give --heads"
        )
    return dim // _HEAD_DIM


def width_of_heads(dim: int, heads: int) -> int:
    """Channels of each head of an attention.

    Raises:
        ModelError: There are more heads than channels.
    """
    if heads > dim:
        raise ModelError(f"an attention of width {dim} has no {heads} heads")
    return dim // heads


def square_grid(
    patches: int, patch_size: tuple[int, int], options: ImportOptions
) -> tuple[int, int] | None:
    """Rows and columns of the patches: those of the wanted image size, else of a square.

    As many positions as the wanted size has patches are of that size; timm takes them so, too.
    """
    if options.image_size is not None:
        wanted = (options.image_size[0] // patch_size[0], options.image_size[1] // patch_size[1])
        if wanted[0] * wanted[1] == patches:
            return wanted
    side = math.isqrt(patches)
    return (side, side) if side and side * side == patches else None


def size_advice(patches: int, patch_size: tuple[int, int], options: ImportOptions) -> str:
    """Says what to give for patches that are not square."""
    sides = [rows for rows in range(math.isqrt(patches), 0, -1) if patches % rows == 0]
    high, wide = patch_size
    # The nearest to a square, lying and standing.
    grids = [] if not sides else [(sides[0], patches // sides[0]), (patches // sides[0], sides[0])]
    such = " or ".join(f"{rows * high}x{columns * wide}" for rows, columns in grids)
    given = ""
    if options.image_size is not None:
        height, width = options.image_size
        given = f"{height}x{width} pixels have {height // high} x {width // wide} patches; "
    return f"{given}give --image-size HEIGHTxWIDTH of its own images, such as {such}"


def _bias(tensors: Tensors, name: str, width: int) -> Array:
    bias = tensors.get(name)
    return _no_bias(width) if bias is None else bias


def _no_bias(width: int) -> Array:
    # A weight without inputs takes no room in a file, however many outputs it claims.
    refuse_inflation("a bias that is left out", 4 * width)
    return np.zeros(width, np.float32)
