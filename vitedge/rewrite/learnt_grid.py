"""Weights that lie on an integer grid already, because they learnt there.

Quantization-aware training leaves weights that are small integers times a half-precision scale.
Rounding them again would lose nothing, but any change of basis before it would take them off their
grid. So whoever changes weights asks here first.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vitedge.network.network import Network
from vitedge.network.operators import Array, Linear
from vitedge.network.structure import is_inner

LEAST_SCALE = 2.0**-24
"""The smallest positive number of half precision, in which files hold scales."""

INTEGER_LIMITS = {8: (-127, 127)} | {
    bits: (-(1 << bits - 1), (1 << bits - 1) - 1) for bits in (7, 6, 5, 4)
}
"""Smallest and largest integer of a weight, by its bits.

Integer kernels of 8 bits may take -128 for granted not to be there. Fewer bits are widened, all of
their integers; the sixteenth of 4 bits leaves 0.4 dB less error."""

# An integer of up to 7 bits times the 11 of half precision leaves at least 6 of float32's 24 empty.
_EMPTY_BITS = np.uint32(0x3F)


@dataclass(frozen=True)
class Groups:
    """The sharing of scales among the 4-bit weights of one output.

    Attributes:
        size: The number of neighbouring inputs that share a scale.
        zero_points: Whether they share a zero point besides, so that their range need not be
            symmetric.
    """

    size: int
    zero_points: bool = False

    def size_of(self, inputs: int) -> int:
        """``size``, or all inputs where groups of it do not fit."""
        return self.size if inputs % self.size == 0 else inputs


COMMON_GROUPS = Groups(32)
"""As every format has them, and as weights learn. XNNPACK takes multiples of 32, symmetric."""


def group_size(inputs: int, bits: int) -> int:
    """The number of inputs that share a scale: all at 8 bits, groups at 4 where they fit."""
    return COMMON_GROUPS.size_of(inputs) if bits == 4 else inputs


def learnt_integers(weight: Array, bits: int) -> tuple[npt.NDArray[np.int8], Array] | None:
    """The integers of a weight and their scales, if it is on a grid to the last bit.

    Args:
        weight: float32 ``(inputs, outputs)``.
        bits: 8 or 4.

    Returns:
        int8 ``(inputs, outputs)`` and float32 ``(groups, outputs)``; None off the grid.
    """
    # Nearly all weights that did not learn on a grid are told by this alone.
    if (np.ascontiguousarray(weight).view(np.uint32) & _EMPTY_BITS).any():
        return None
    inputs, outputs = weight.shape
    parts = weight.reshape(-1, group_size(inputs, bits), outputs)
    largest = np.abs(parts).max(axis=1)
    if not largest.max() <= np.finfo(np.float16).max:  # NaN, too
        return None
    scales = np.where(largest > 0, np.float32(0), np.float32(1))
    low, high = INTEGER_LIMITS[bits]
    for integer in range(-low, 0, -1):
        candidate = (largest / np.float32(integer)).astype(np.float16).astype(np.float32)
        missing = (scales == 0) & (candidate * np.float32(integer) == largest)
        if missing.any():
            steps = np.where(missing, candidate, np.float32(1))[:, None]
            integers = np.rint(parts / steps)
            fits = missing & ((integers * steps == parts) & (integers <= high)).all(axis=1)
            scales = np.where(fits, candidate, scales)
    if not scales.all():
        return None
    values = np.rint(parts / scales[:, None]).astype(np.int8).reshape(weight.shape)
    return values, scales.astype(np.float32)


def learnt_bits(network: Network) -> int | None:
    """The bits of the grid that inner layers' weights learnt on; None for all other models."""
    weights = _inner_weights(network).values()
    for bits in (4, 8):
        if weights and all(learnt_integers(weight, bits) is not None for weight in weights):
            return bits
    return None


def keeps_grid(before: Network, after: Network, bits: int) -> bool:
    """Whether a rewrite left inner layers' weights on their grid: untouched, or on it nevertheless.

    A power of two in place of the attention scale does, for example, and beta in a bias.
    """
    weights = {name: layer.weight for name, layer in after.named_linears()}
    return all(
        weights[name] is old or learnt_integers(weights[name], bits) is not None
        for name, old in _inner_weights(before).items()
    )


def _inner_weights(network: Network) -> dict[str, Array]:
    """The weights of the layers between the first and the head, which learn on a grid."""
    return {
        value.name: value.operator.weight
        for value in network.values
        if isinstance(value.operator, Linear) and is_inner(value)
    }
