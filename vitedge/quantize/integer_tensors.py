"""The ranges of all tensors of a graph that has no float operator.

8 bits stand where there are products, which is where an integer unit is fast; 16 in the residual
stream and its norms, whose operators cost little and whose error is nearly all of a ViT's.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import numpy as np
import numpy.typing as npt

from vitedge.errors import ConversionError
from vitedge.quantize import Range
from vitedge.quantize.ranges import fake_quantized
from vitedge.quantize.trace import trace
from vitedge.spec import Activation
from vitedge.vit import Array, ViT, activate

# Images that ranges are taken from; more widened those of DeiT-tiny by under 2 %.
_IMAGES = 64

# 16-bit ranges are this much wider than what was seen: images to come hold larger numbers, and one
# bit of sixteen is cheap.
_HEADROOM = 2.0

# Keys and values are the right-hand side of a product of two activations, of which Qualcomm's HTP
# reads only the upper 8 of 16 bits (seen in its emulator, onnxruntime-qnn 2.7): a bit of headroom
# there is a bit of eight, and costs DeiT-tiny 7 dB.
_NO_HEADROOM = (".k", ".v", "/keys")

# Numbers kept of each narrow tensor and image to search its range with.
_SAMPLE = 512

# Shares of the negative side that the input of an activation is tried to end at.
_LOW_SHARES = (1.0, 0.8, 0.65, 0.5, 0.4, 0.3, 0.25, 0.2)

# What runtimes lay down for the outputs of these, by the end of their name. Shares and gates lie
# within 0..1, in steps of 1/256 or 1/32768; tanh within -1..1, in steps of 1/128 or 1/32768.
_BETWEEN_0_AND_1, _BETWEEN_SIGNS = ("/softmax", "/gate"), "/tanh"


def tensor_ranges(
    vit: ViT,
    inputs: Mapping[str, Range],
    images: Iterable[npt.NDArray[np.uint8]],
    *,
    narrow_bits: int,
    wide: Collection[str] = (),
) -> dict[str, Range]:
    """The range of every tensor, by the name that the walk gives it.

    Args:
        vit: The model with the weights that the artefact will have.
        inputs: Ranges of the inputs of linear layers, chosen before.
        images: Pixels uint8 ``(H, W, C)``; the first few are looked at.
        narrow_bits: Bits of what products read and make; all else has 16.
        wide: Linear layers whose output has 16 bits all the same.

    Raises:
        ConversionError: A tensor is not finite.
    """
    seen: dict[str, _Seen] = {}
    rng = np.random.default_rng(0)

    def made(name: str, x: Array, narrow: bool) -> Array:
        seen.setdefault(name, _Seen(narrow and name not in wide)).add(x, rng)
        return x

    for _, image in zip(range(_IMAGES), images, strict=False):
        trace(vit, image[None], made, lambda _name, x: x)
    ranges = {name: it.covered(name, narrow_bits) for name, it in seen.items()}
    if narrow_bits == 8:
        for index in range(vit.config.depth):
            name = f"blocks.{index}.fc1"
            if seen[name].narrow:
                sample = np.concatenate(seen[name].sample)
                ranges[name] = _before_activation(ranges[name], sample, vit.config.activation)
        ranges |= _made_for_their_reader(vit, inputs, ranges)
    return ranges


class _Seen:
    """What was seen of one tensor."""

    def __init__(self, narrow: bool) -> None:
        self.narrow = narrow
        self.sample: list[Array] = []
        self._low = self._high = 0.0

    def add(self, x: Array, rng: np.random.Generator) -> None:
        self._low = min(self._low, float(x.min()))
        self._high = max(self._high, float(x.max()))
        if self.narrow:
            self.sample.append(rng.choice(x.reshape(-1), _SAMPLE))

    def covered(self, name: str, narrow_bits: int) -> Range:
        bits = narrow_bits if self.narrow else 16
        if name.endswith(_BETWEEN_0_AND_1):
            return Range(0.0, 255 / 256) if bits == 8 else Range.symmetric(32767 / 32768, 16)
        if name.endswith(_BETWEEN_SIGNS):
            return Range.symmetric(1 - 1 / (1 << bits - 1), bits)
        largest = max(-self._low, self._high)
        if not np.isfinite(largest):
            raise ConversionError(f"the calibration images make '{name}' not finite")
        if largest == 0:
            largest = 1.0  # a tensor that is always zero needs some range, whichever
        if bits == 16:
            room = 1.0 if name.endswith(_NO_HEADROOM) else _HEADROOM
            return Range.symmetric(largest * room, 16)
        return Range(self._low, self._high) if self._low < self._high else Range(0.0, largest)


def _before_activation(whole: Range, sample: Array, activation: Activation) -> Range:
    """The range whose rounding is least seen behind the activation, which flattens below zero."""

    def error(share: float) -> float:
        kept = fake_quantized(sample, Range(whole.low * share, whole.high))
        difference = activate(kept, activation) - activate(sample, activation)
        return float(np.square(difference).sum())

    return Range(whole.low * min(_LOW_SHARES, key=error), whole.high)


def _made_for_their_reader(
    vit: ViT, inputs: Mapping[str, Range], ranges: Mapping[str, Range]
) -> dict[str, Range]:
    """8-bit tensors that one linear layer reads have the range that was chosen for that layer."""
    taken = {}
    for index in range(vit.config.depth):
        name = f"blocks.{index}"
        for tensor, layer in (
            (f"{name}/mixed", f"{name}.out"),
            (f"{name}.fc1/{vit.config.activation}", f"{name}.fc2"),
        ):
            if ranges[tensor].bits == inputs[layer].bits == 8:
                taken[tensor] = inputs[layer]
    return taken
