"""Rotary positions: queries and keys are turned by angles of their positions (arXiv:2104.09864)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from vitedge.elements.attention import Pass
from vitedge.network.network import Builder, Value
from vitedge.network.operators import Add, Array, Concatenate, Constant, Multiply, Take


class Pairing(StrEnum):
    """The pairing of channels of a head that are turned together."""

    HALVES = "halves"
    """One of the first half and one of the second: DINOv3."""
    NEIGHBOURS = "neighbours"
    """Channels 0 and 1, 2 and 3 ...: EVA-02."""


@dataclass(frozen=True)
class AxialPositions:
    """The way in which the angles of a patch follow from its row and its column.

    Attributes:
        temperature: The slowest of the frequencies is near its inverse.
        centred: The middle of the image is 0 and its edges are -2π and 2π (DINOv3); else places
            are whole numbers from 0 on (EVA-02).
        offset: Added to whole numbers.
        reference: Rows and columns that whole numbers are stretched to, whatever the image's own.
        columns_first: The first half of the pairs turns by the column.
    """

    temperature: float
    centred: bool = False
    offset: float = 0.0
    reference: tuple[int, int] | None = None
    columns_first: bool = False


def axial_angles(
    grid: tuple[int, int], width: int, positions: AxialPositions
) -> npt.NDArray[np.float64]:
    """Angles ``(rows * columns, width / 2)``: half of them of the row, half of the column.

    Args:
        grid: Rows and columns of patches.
        width: Channels of a head, a multiple of four.
        positions: The way in which angles follow from places.

    Raises:
        ValueError: The width is not a multiple of four.
    """
    if width % 4:
        raise ValueError(f"axial rotary positions need heads of a multiple of 4, not {width}")
    bands = width // 4
    frequencies = positions.temperature ** -(np.arange(bands) / bands)
    rows, columns = np.meshgrid(*_places(grid, positions), indexing="ij")
    places = [columns, rows] if positions.columns_first else [rows, columns]
    return np.concatenate([each.reshape(-1, 1) * frequencies for each in places], axis=1)


def mixed_angles(
    grid: tuple[int, int], frequencies: Array, *, columns_first: bool
) -> npt.NDArray[np.float64]:
    """Angles of learned frequencies ``(2, heads, width / 2)``: ``(heads, patches, width / 2)``."""
    rows, columns = np.indices(grid).reshape(2, -1, 1).astype(np.float64)
    first, second = (columns, rows) if columns_first else (rows, columns)
    along, across = frequencies.astype(np.float64)[:, :, None]
    angles: npt.NDArray[np.float64] = first * along + second * across
    return angles


def _places(
    grid: tuple[int, int], positions: AxialPositions
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The coordinates of rows and columns."""
    if positions.centred:
        rows, columns = (2 * np.pi * (2 * (np.arange(n) + 0.5) / n - 1) for n in grid)
        return rows, columns
    reference = positions.reference or grid
    rows, columns = (
        (np.arange(n) + positions.offset) / n * wanted
        for n, wanted in zip(grid, reference, strict=True)
    )
    return rows, columns


def rope(
    angles: npt.NDArray[np.floating[Any]], pairing: Pairing, *, prefix_tokens: int = 0
) -> Pass:
    """Turns ``(..., tokens, width)``, the ``turn`` of ``attention``.

    Args:
        angles: One for each turned token and pair of channels, ``(tokens, width / 2)``, radians;
            with an axis of heads before them where each head has its own.
        pairing: The channels that form pairs.
        prefix_tokens: The number of tokens that stand before those that are turned.
    """
    pairs = angles.shape[-1]
    match pairing:
        case Pairing.HALVES:
            places = (*range(pairs, 2 * pairs), *range(pairs))
            wide, signs = np.concatenate([angles, angles], -1), np.repeat([-1.0, 1.0], pairs)
        case Pairing.NEIGHBOURS:
            places = tuple(channel ^ 1 for channel in range(2 * pairs))
            wide, signs = np.repeat(angles, 2, -1), np.tile([-1.0, 1.0], pairs)
    cosines = np.cos(wide).astype(np.float32)
    sines = (np.sin(wide) * signs).astype(np.float32)

    def turn(net: Builder, x: Value, name: str) -> Value:
        axis, tokens = len(x.shape) - 2, x.shape[-2]
        turned = x
        if prefix_tokens:
            turned = net(f"{name}/patches", Take(axis, tuple(range(prefix_tokens, tokens))), x)
        other = net(f"{name}/swapped", Take(axis + 1, places), turned)
        along = net(f"{name}/along", Multiply(), turned, net(f"{name}.cos", Constant(cosines)))
        across = net(f"{name}/across", Multiply(), other, net(f"{name}.sin", Constant(sines)))
        if not prefix_tokens:
            return net(name, Add(), along, across)
        sums = net(f"{name}/sum", Add(), along, across)
        prefix = net(f"{name}/prefix", Take(axis, tuple(range(prefix_tokens))), x)
        return net(name, Concatenate(axis), prefix, sums)

    return turn
