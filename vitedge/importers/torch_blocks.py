"""Parts of a block that several libraries for torch have, out of their weights."""

from __future__ import annotations

from dataclasses import replace

from vitedge.elements.attention import Pass
from vitedge.elements.mlp import mlp
from vitedge.elements.relative_bias import bias_of_table, distances, relative_bias, table_rows
from vitedge.elements.rope import AxialPositions, Pairing, axial_angles, rope
from vitedge.elements.swiglu import swiglu
from vitedge.errors import ModelError
from vitedge.files.limits import refuse_inflation
from vitedge.importers.layers import matrix
from vitedge.importers.reading.tensors import Tensors
from vitedge.network.kinds import Activation
from vitedge.network.network import Builder, Value
from vitedge.network.operators import Linear, Norm

_BYTES = 8


def plain_mlp(fc1: Linear, fc2: Linear, activation: Activation, norm: Norm | None = None) -> Pass:
    """An MLP with its weights in it."""

    def grow(net: Builder, x: Value, name: str) -> Value:
        return mlp(net, x, fc1, fc2, name, activation=activation, norm=norm)

    return grow


def gated_mlp(
    gate: Linear,
    up: Linear,
    down: Linear,
    activation: Activation = Activation.SILU,
    norm: Norm | None = None,
) -> Pass:
    """A gated MLP with its weights in it."""

    def grow(net: Builder, x: Value, name: str) -> Value:
        return swiglu(net, x, gate, up, down, name, activation=activation, norm=norm)

    return grow


def halves(packed: Linear) -> tuple[Linear, Linear]:
    """The two layers of the first and the second half of a layer's outputs."""
    half = packed.weight.shape[1] // 2
    first = replace(packed, weight=packed.weight[:, :half].copy(), bias=packed.bias[:half])
    return first, replace(packed, weight=packed.weight[:, half:].copy(), bias=packed.bias[half:])


def axial_rope(
    grid: tuple[int, int], width: int, positions: AxialPositions, pairing: Pairing, prefix: int
) -> Pass:
    """Rotary positions of a grid of patches, of which a file only claims how many there are.

    Args:
        grid: Rows and columns of patches.
        width: Channels of a head.
        positions: The way in which angles follow from places.
        pairing: The channels that are turned together.
        prefix: The number of tokens that stand before the patches.

    Raises:
        SizeError: There are too many.
    """
    refuse_large_grid(grid, width)
    return rope(axial_angles(grid, width, positions), pairing, prefix_tokens=prefix)


def refuse_large_grid(grid: tuple[int, int], numbers: int) -> None:
    """Refuses to make so many numbers for each patch of a grid that a file claims.

    Raises:
        SizeError: The numbers would take too much memory.
    """
    claimed = grid[0] * grid[1] * numbers * _BYTES
    refuse_inflation(f"positions of {grid[0]} x {grid[1]} patches", claimed)


def learned_bias(tensors: Tensors, name: str, grid: tuple[int, int], *, class_token: bool) -> Pass:
    """The relative position bias of a table in BEiT's numbering, ``(rows, heads)``.

    Raises:
        ModelError: The table is of another grid.
    """
    table = matrix(tensors, name)
    rows = table_rows(grid, class_token=class_token)
    if len(table) != rows:
        raise ModelError(
            f"'{name}' of '{tensors.source}' has {len(table)} rows, and images of {grid[0]} x "
            f"{grid[1]} patches need {rows}: a relative position bias is for one image size"
        )
    return relative_bias(bias_of_table(table, distances(grid, class_token=class_token)))
