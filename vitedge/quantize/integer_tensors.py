"""The ranges of all tensors of a graph that has no float operator.

8 bits stand where there are products, which is where an integer unit is fast; 16 in the residual
stream and its norms, whose operators cost little and whose error is nearly all of a ViT's.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial

import numpy as np
import numpy.typing as npt

from vitedge.errors import ConversionError
from vitedge.quantize import Range
from vitedge.quantize.ranges import fake_quantized, least_costly_range
from vitedge.quantize.trace import trace
from vitedge.vit import Array, ViT, activate, softmax

# Images that ranges are taken from; more widened those of DeiT-tiny by under 2 %.
_IMAGES = 64

# 16-bit ranges are this much wider than what was seen: images to come hold larger numbers, and one
# bit of sixteen is cheap.
_HEADROOM = 2.0

# Keys and values are the right-hand side of a product of two activations, of which Qualcomm's HTP
# reads only the upper 8 of 16 bits (seen in its emulator, onnxruntime-qnn 2.7): a bit of headroom
# there is a bit of eight, and costs DeiT-tiny 7 dB.
_NO_HEADROOM = (".k", ".v", "/keys")

# Numbers kept of each narrow tensor and image to search its range with, in whole rows.
_SAMPLE = 1024

# Shares of the negative side that the input of an activation, or of softmax, is tried to end at.
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
        bits = narrow_bits if narrow and name not in wide else 16
        seen.setdefault(name, _Seen(bits)).add(x, rng)
        if name.endswith("/softmax"):
            # An error of a key or a value matters as far as its token is attended to.
            attention = np.square(x).sum(axis=(0, 1, 2))
            for part in ("k", "v"):
                seen[f"{name.removesuffix('/softmax')}.{part}"].weigh(attention)
        return x

    for _, image in zip(range(_IMAGES), images, strict=False):
        trace(vit, image[None], made, lambda _name, x: x)
    ranges = {name: it.covered(name) for name, it in seen.items()}
    if narrow_bits == 8:
        ranges |= _searched(vit, seen, ranges)
        ranges |= _made_for_their_reader(vit, inputs, ranges)
    return ranges


class _Seen:
    """What was seen of one tensor.

    Attributes:
        bits: That it will have; a range of 16 is not searched, and no rows are kept for it.
        rows: Some rows ``(rows, channels)``: of each image the one with the largest number, and
            others by chance.
        counts: How many rows of one image each stands for, or how much they matter, ``(rows,)``.
    """

    def __init__(self, bits: int) -> None:
        self.bits = bits
        self._rows: list[Array] = []
        self._counts: list[Array] = []
        self._chosen: npt.NDArray[np.intp] = np.array([], np.intp)
        self._low = self._high = 0.0

    def add(self, x: Array, rng: np.random.Generator) -> None:
        self._low = min(self._low, float(x.min()))
        self._high = max(self._high, float(x.max()))
        if self.bits != 8:
            return
        rows = x.reshape(-1, x.shape[-1])
        largest = int(np.abs(rows).max(axis=1).argmax())
        others = np.delete(np.arange(len(rows)), largest)
        few = min(len(others), max(1, _SAMPLE // rows.shape[1]))
        self._chosen = np.array([largest, *rng.choice(others, few, replace=False)])
        self._rows.append(rows[self._chosen])
        each = len(others) / few if few else 0.0
        self._counts.append(np.array([1.0, *[each] * few], np.float32))

    def weigh(self, weights: Array) -> None:
        """How much each row of what was added last matters, ``(rows,)``."""
        if self.bits == 8:
            self._counts[-1] = self._counts[-1] * weights[self._chosen]

    @property
    def rows(self) -> Array:
        return np.concatenate(self._rows)

    @property
    def counts(self) -> Array:
        return np.concatenate(self._counts)

    def covered(self, name: str) -> Range:
        bits = self.bits
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


def _searched(vit: ViT, seen: Mapping[str, _Seen], whole: Mapping[str, Range]) -> dict[str, Range]:
    """The 8-bit ranges whose rounding and clipping are least seen by what reads the tensor."""
    softened = "scores" if vit.config.attention_scale == 1.0 else "scaled"
    found = {}
    for name, covered in whole.items():
        if covered.bits != 8 or name.endswith((*_BETWEEN_0_AND_1, *_BETWEEN_SIGNS)):
            continue
        it = seen[name]
        if name.endswith(".fc1"):
            read = partial(activate, activation=vit.config.activation)
            found[name] = _least_seen_behind(read, covered, it)
        elif name.endswith(f"/{softened}"):
            found[name] = _least_seen_behind(softmax, covered, it)
        else:
            weights = it.counts[:, None] * _importance(vit, seen, name)
            found[name] = least_costly_range(covered, it.rows, weights)
    return found


def _least_seen_behind(read: Callable[[Array], Array], whole: Range, seen: _Seen) -> Range:
    """For a reader that flattens below: where the range may end there."""
    rows, counts = seen.rows, seen.counts
    exact = read(rows)

    def error(covered: Range) -> float:
        difference = read(fake_quantized(rows, covered)) - exact
        return float(counts @ np.square(difference).sum(axis=-1))

    return min((Range(whole.low * share, whole.high) for share in _LOW_SHARES), key=error)


def _importance(vit: ViT, seen: Mapping[str, _Seen], name: str) -> Array | float:
    """How much a squared error counts in each channel, in some unit.

    An error of a query is multiplied by keys, one of a key by queries, and one of a value by the
    weights of the layer that mixes the heads.
    """
    before, _, part = name.rpartition(".")
    if not before.startswith("blocks."):
        return 1.0
    block = vit.blocks[int(before.removeprefix("blocks."))]
    if part == "v":
        of_rows: Array = np.square(block.out.weight).sum(axis=1)
        return of_rows
    normed = {"q": block.q_norm, "k": block.k_norm}
    if part not in normed or normed[part] is not None:
        return 1.0
    other = seen[f"{before}.{'k' if part == 'q' else 'q'}"]
    return np.average(np.square(other.rows), axis=0, weights=other.counts)


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
