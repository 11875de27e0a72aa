"""Swin and SwinV2 by timm's names, which other sources' weights are given first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from vitedge.elements.attention import AttentionWeights, Pass, attention
from vitedge.elements.block import BlockParts, block
from vitedge.elements.cosine_attention import factors_by_head, spaced_distances, table_of_mlp
from vitedge.elements.kinds import NormPosition, Pooling
from vitedge.elements.patch_merging import patch_merging
from vitedge.elements.pooling import pooled
from vitedge.elements.relative_bias import bias_of_table, distances, relative_bias
from vitedge.elements.shifted_windows import in_windows, shift_mask
from vitedge.elements.trunk import Trunk, tokens_of
from vitedge.errors import ModelError
from vitedge.images.preprocess import Preprocessing
from vitedge.importers.layers import (
    matrix,
    torch_fused_qkv,
    torch_linear,
    torch_norm,
    torch_norm_if_present,
    torch_patch,
    torch_patch_shape,
)
from vitedge.importers.reading.tensors import Tensors, count
from vitedge.importers.torch_blocks import plain_mlp, refuse_large_grid
from vitedge.network.kinds import Activation, NormKind
from vitedge.network.network import Builder, Value
from vitedge.network.operators import Linear, Norm

PATCH = "patch_embed.proj"
DISTANCES = "attn.relative_coords_table"
TABLE, MLP_OF_BIAS = "attn.relative_position_bias_table", "attn.cpb_mlp.0.weight"
_EPS = 1e-5
_LENGTH_EPS = 1e-24  # of a sum of squares; torch's normalize bounds the length by 1e-12


@dataclass(frozen=True)
class Windows:
    """The facts that the weights do not tell.

    Attributes:
        size: Rows and columns of a window, where no table tells it; None where one does.
        pretrained: The window that the MLPs of distances were trained with, for each stage.
        activation: The activation of the MLPs.
        side: The number of tokens that bounds the windows of a stage along both axes, from the
            stage's number and its grid: windows that fill it are not shifted. None where each
            axis of the grid bounds them by itself (timm).
    """

    size: int | None = None
    pretrained: tuple[int, ...] = ()
    activation: Activation = Activation.GELU
    side: Callable[[int, tuple[int, int]], int] | None = None

    def bounds(self, stage: int, grid: tuple[int, int]) -> tuple[int, int]:
        """The rows and columns that bound the windows of a stage."""
        if self.side is None:
            return grid
        side = self.side(stage, grid)
        return side, side


def read_swin(net: Builder, tensors: Tensors, told: Windows, preprocessing: Preprocessing) -> Value:
    """The mean of the last stage's tokens, ``(dim,)``.

    Args:
        net: The builder that makes the values.
        tensors: All weights but the classifier's.
        told: The facts that the weights do not tell.
        preprocessing: The preprocessing of the images.

    Raises:
        ModelError: Weights are missing, or windows do not divide the grid.
    """
    _, patch = torch_patch_shape(tensors, PATCH)
    dim = tensors.shape(f"{PATCH}.weight")[0]
    trunk = Trunk(
        patch=torch_patch(tensors, PATCH),
        patch_size=patch,
        prefix=np.zeros((0, dim), np.float32),
        positions=None,
        blocks=(),
        norm=None,
        patch_norm=torch_norm_if_present(tensors, "patch_embed.norm", _EPS),
    )
    x = tokens_of(net, trunk, preprocessing)
    grid = (preprocessing.size[0] // patch[0], preprocessing.size[1] // patch[1])
    for stage in range(count(tensors, "layers.{}.blocks.0.norm1.weight")):
        below = tensors.below(f"layers.{stage}.")
        if "downsample.reduction.weight" in below:
            x, grid = _merged(net, x, below, grid, f"stages.{stage}.merging")
        pretrained = told.pretrained[stage] if stage < len(told.pretrained) else 0
        for index in range(count(below, "blocks.{}.norm1.weight")):
            inner = below.below(f"blocks.{index}.")
            bounds = told.bounds(stage, grid)
            window, shift = _window(inner, grid, bounds, told.size, is_shifted=index % 2 == 1)
            parts = _block(inner, grid, window, shift, pretrained, told.activation)
            x = block(net, x, parts, f"stages.{stage}.blocks.{index}")
    x = net("norm", torch_norm(tensors, "norm", _EPS), x)
    return pooled(net, x, Pooling.MEAN, 0)


def _merged(
    net: Builder, x: Value, stage: Tensors, grid: tuple[int, int], name: str
) -> tuple[Value, tuple[int, int]]:
    if grid[0] % 2 or grid[1] % 2:
        raise ModelError(f"a grid of {grid[0]} x {grid[1]} tokens cannot be halved")
    reduction = torch_linear(stage, "downsample.reduction")
    norm = torch_norm(stage, "downsample.norm", _EPS)
    first = norm.gamma.size == reduction.weight.shape[0]
    x = patch_merging(net, x, reduction, norm, name, grid=grid, norm_first=first)
    return x, (grid[0] // 2, grid[1] // 2)


def _window(
    inner: Tensors,
    grid: tuple[int, int],
    bounds: tuple[int, int],
    told_size: int | None,
    *,
    is_shifted: bool,
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Rows and columns of a window, and how far it is shifted."""
    if TABLE in inner:
        side = (round(inner.shape(TABLE)[0] ** 0.5) + 1) // 2
        whole = (side, side)
    elif told_size is not None:
        whole = (min(told_size, bounds[0]), min(told_size, bounds[1]))
    else:
        raise ModelError(f"the weights of '{inner.source}' do not tell the size of its windows")
    if any(size % part for size, part in zip(grid, whole, strict=True)):
        raise ModelError(
            f"windows of {whole[0]} x {whole[1]} do not divide a grid of {grid[0]} x {grid[1]} "
            "tokens: give --image-size, or export the model to .onnx, where it pads the grid"
        )
    shifts = (
        part // 2 if is_shifted and bound > part else 0
        for bound, part in zip(bounds, whole, strict=True)
    )
    down, across = shifts
    return whole, (down, across)


def _block(
    inner: Tensors,
    grid: tuple[int, int],
    window: tuple[int, int],
    shift: tuple[int, int],
    pretrained: int,
    activation: Activation,
) -> BlockParts:
    is_second = "attn.logit_scale" in inner
    q, k, v = _queries_keys_values(inner)
    weights = AttentionWeights(q, k, v, torch_linear(inner, "attn.proj"))
    heads = inner.shape("attn.logit_scale")[0] if is_second else inner.shape(TABLE)[1]
    width = q.weight.shape[1] // heads
    bias = _bias(inner, grid, window, shift, pretrained)
    if is_second:
        # Vectors of length one, as a norm that has an all-integer form, too.
        gamma = np.full(width, width**-0.5, np.float32)
        length = Norm(gamma, np.zeros_like(gamma), _LENGTH_EPS / width, NormKind.RMS)
        weights = replace(weights, q_norm=length, k_norm=length)
        bias = factors_by_head(inner["attn.logit_scale"], bias)
    scale = 1.0 if is_second else width**-0.5

    def attend(net: Builder, x: Value, name: str) -> Value:
        return attention(net, x, weights, name, heads=heads, scale=scale, add_to_scores=bias)

    fc1, fc2 = (torch_linear(inner, f"mlp.{name}") for name in ("fc1", "fc2"))
    return BlockParts(
        norm1=torch_norm(inner, "norm1", _EPS),
        attention=in_windows(attend, grid=grid, window=window, shift=shift),
        norm2=torch_norm(inner, "norm2", _EPS),
        mlp=plain_mlp(fc1, fc2, activation),
        norms=NormPosition.BRANCH if is_second else NormPosition.PRE,
    )


def _queries_keys_values(inner: Tensors) -> tuple[Linear, Linear, Linear]:
    if "attn.qkv.weight" not in inner:
        q, k, v = (torch_linear(inner, f"attn.{part}") for part in "qkv")
        return q, k, v
    q, k, v = torch_fused_qkv(inner, "attn.qkv.weight", "attn.qkv.bias")
    if "attn.q_bias" in inner:
        q = replace(q, bias=q.bias + inner["attn.q_bias"])
        v = replace(v, bias=v.bias + inner["attn.v_bias"])
    return q, k, v


def _bias(
    inner: Tensors,
    grid: tuple[int, int],
    window: tuple[int, int],
    shift: tuple[int, int],
    pretrained: int,
) -> Pass:
    """Position bias, with what keeps windows apart in whose middle the image ends."""
    refuse_large_grid(grid if any(shift) else window, window[0] * window[1])
    if TABLE in inner:
        table = matrix(inner, TABLE)
    else:
        _refuse_other_distances(inner, window, pretrained)
        hidden, last = (torch_linear(inner, f"attn.cpb_mlp.{index}") for index in (0, 2))
        table = table_of_mlp(window, hidden, last, pretrained)
    bias = bias_of_table(table, distances(window, class_token=False))
    return relative_bias(bias + shift_mask(grid, window, shift) if any(shift) else bias)


def _refuse_other_distances(inner: Tensors, window: tuple[int, int], pretrained: int) -> None:
    """Older files keep the distances that the MLP reads, which tell its windows.

    Raises:
        ModelError: The distances are those of other windows.
    """
    if DISTANCES not in inner:
        return
    stored, wanted = inner[DISTANCES].reshape(-1, 2), spaced_distances(window, pretrained)
    if stored.shape != wanted.shape or not np.allclose(stored, wanted, atol=1e-4):
        side = (round(len(stored) ** 0.5) + 1) // 2
        raise ModelError(
            f"'{inner.source}' has position biases of windows of {side} x {side}, not those of "
            f"{window[0]} x {window[1]}: its architecture or its image size is another"
        )
