"""Rotary positions: queries and keys are turned by angles of their positions (arXiv:2104.09864)."""

from __future__ import annotations

from enum import StrEnum

import numpy as np

from vitedge.elements.attention import Pass
from vitedge.network.network import Builder, Value
from vitedge.network.operators import Add, Array, Concatenate, Constant, Multiply, Take


class Pairing(StrEnum):
    """Which two channels of a head are turned together."""

    HALVES = "halves"
    """One of the first half and one of the second: DINOv3."""
    NEIGHBOURS = "neighbours"
    """Channels 0 and 1, 2 and 3 ...: EVA-02."""


def rope(angles: Array, pairing: Pairing, *, prefix_tokens: int = 0) -> Pass:
    """Turns ``(..., tokens, width)``, the ``turn`` of ``attention``.

    Args:
        angles: One for each turned token and pair of channels, ``(tokens, width / 2)``, radians.
        pairing: Which channels are pairs.
        prefix_tokens: How many tokens stand before those that are turned.
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
