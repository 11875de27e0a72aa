"""The ranges of all tensors of a graph that has no float operator.

8 bits stand where there are products, which is where an integer unit is fast; 16 in the residual
stream and its norms, whose operators cost little and whose error is nearly all of a ViT's.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt

from vitedge.errors import ConversionError
from vitedge.network.kinds import Activation
from vitedge.network.network import Network, Value
from vitedge.network.numerics import activate, softmax
from vitedge.network.operators import Activate, Array, Convolution, Linear, Softmax
from vitedge.network.structure import Readers, is_inner, is_move, readers
from vitedge.quantize import Range
from vitedge.quantize.attended import attended, right_factors
from vitedge.quantize.ranges import fake_quantized, least_costly_range
from vitedge.quantize.trace import Kind, Tensor, trace
from vitedge.quantize.widths import linear

# Images that ranges are taken from; more widened those of DeiT-tiny by under 2 %.
_IMAGES = 64

# 16-bit ranges are this much wider than what was seen: images to come hold larger numbers, and one
# bit of sixteen is cheap.
_HEADROOM = 2.0

# Keys and values are the right-hand side of a product of two activations, of which Qualcomm's HTP
# reads only the upper 8 of 16 bits (seen in its emulator, onnxruntime-qnn 2.7): a bit of headroom
# there is a bit of eight, and costs DeiT-tiny 7 dB.
_NO_HEADROOM = 1.0

# Numbers kept of each narrow tensor and image to search its range with, in whole rows.
_SAMPLE = 1024

# Shares of the negative side that the input of an activation, or of softmax, is tried to end at.
_LOW_SHARES = (1.0, 0.8, 0.65, 0.5, 0.4, 0.3, 0.25, 0.2)

# Activations that see nothing of the negative side.
_FLAT = frozenset((Activation.RELU, Activation.RELU6))


def tensor_ranges(
    network: Network,
    inputs: Mapping[str, Range],
    images: Iterable[npt.NDArray[np.uint8]],
    *,
    narrow_bits: int,
    wide: Collection[str] = (),
) -> dict[str, Range]:
    """The range of every tensor, by the name that converters give it.

    Args:
        network: The model with the weights that the artefact will have.
        inputs: Ranges of the inputs of linear layers, chosen before.
        images: Pixels uint8 ``(H, W, C)``; the first few are looked at.
        narrow_bits: Bits of what products read and make; all else has 16.
        wide: Linear layers whose output has 16 bits nevertheless.

    Raises:
        ConversionError: A tensor is not finite.
    """
    graph = _Graph(network)
    seen: dict[str, _Seen] = {}
    rng = np.random.default_rng(0)
    attention: dict[Value, Array] = {}

    def made(tensor: Tensor, x: Array) -> Array:
        bits = narrow_bits if tensor.narrow and tensor.name not in wide else 16
        seen.setdefault(tensor.name, _Seen(tensor, bits)).add(x, rng)
        # An error of a key or a value matters as far as its token is attended to.
        for layer in graph.by_token(tensor):
            paid = np.square(x).sum(axis=(0, 1, 2))
            attention[layer] = attention[layer] + paid if layer in attention else paid
        return x

    for _, image in zip(range(_IMAGES), images, strict=False):
        attention.clear()
        trace(network, image[None], made, lambda _name, x: x)
        for layer, weights in attention.items():
            seen[layer.name].weigh(weights)
    ranges = {name: it.covered(graph) for name, it in seen.items()}
    if narrow_bits == 8:
        ranges |= _searched(graph, seen, ranges)
        ranges |= _made_for_their_reader(graph, seen, inputs, ranges)
    return ranges


class _Graph:
    """The facts about each tensor that the network tells."""

    def __init__(self, network: Network) -> None:
        self._readers: Readers = readers(network)
        self._shown = set(network.outputs.values())
        self._right = right_factors(network)
        self._attended = attended(network)

    def by_token(self, tensor: Tensor) -> tuple[Value, ...]:
        """The layers whose tokens are attended to, if the tensor is shares of attention."""
        return next((each.by_token for each in self._attended if each.shares is tensor.value), ())

    def is_right_factor(self, tensor: Tensor) -> bool:
        """Whether it is read as the second factor of a product."""
        if tensor.kind is Kind.RIGHT:
            return True
        is_layer = isinstance(tensor.value.operator, Linear)
        return is_layer and tensor.value in self._right

    def sole_reader(self, value: Value) -> Value | None:
        """The only reader of a value."""
        read = self._readers[value]
        return read[0] if len(read) == 1 and value not in self._shown else None

    def layer_reading(self, value: Value) -> Value | None:
        """The linear layer that alone reads a value, but for moves."""
        reader = self.sole_reader(value)
        while reader is not None and is_move(reader) and len(reader.inputs) == 1:
            reader = self.sole_reader(reader)
        is_layer = reader is not None and isinstance(reader.operator, Linear)
        return reader if is_layer else None

    def importance(self, seen: Mapping[str, _Seen], value: Value) -> Array | float:
        """The weight of a squared error in each channel, in some unit.

        An error of a query is multiplied by keys, one of a key by queries, and one of a value by
        the weights of the layer that mixes the heads.
        """
        for each in self._attended:
            if value is each.values and each.out is not None:
                of_rows: Array = np.square(linear(each.out).weight).sum(axis=1)
                return of_rows
            if each.queries is not None and each.keys is not None:
                pair = {each.queries: each.keys, each.keys: each.queries}
                if value in pair and (other := seen[pair[value].name]).bits == 8:
                    return np.average(np.square(other.rows), axis=0, weights=other.counts)
        return 1.0


class _Seen:
    """The statistics of one tensor.

    Attributes:
        tensor: The tensor.
        bits: That it will have; a range of 16 is not searched, and no rows are kept for it.
        rows: Some rows ``(rows, channels)``: of each image the one with the largest number, and
            others by chance.
        counts: The number of rows of one image that each row stands for, or its weight,
            ``(rows,)``.
    """

    def __init__(self, tensor: Tensor, bits: int) -> None:
        self.tensor, self.bits = tensor, bits
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
        """Weighs each row that was added last, ``(rows,)``."""
        if self.bits == 8:
            self._counts[-1] = self._counts[-1] * weights[self._chosen]

    @property
    def rows(self) -> Array:
        return np.concatenate(self._rows)

    @property
    def counts(self) -> Array:
        return np.concatenate(self._counts)

    @property
    def is_laid_down(self) -> bool:
        """Whether runtimes lay down the range of what makes it."""
        return self.tensor.kind in (Kind.SHARES, Kind.SIGNED)

    def covered(self, graph: _Graph) -> Range:
        bits = self.bits
        if self.tensor.kind is Kind.SHARES:  # in steps of 1/256 or 1/32768
            return Range(0.0, 255 / 256) if bits == 8 else Range.symmetric(32767 / 32768, 16)
        if self.tensor.kind is Kind.SIGNED:  # in steps of 1/128 or 1/32768
            return Range.symmetric(1 - 1 / (1 << bits - 1), bits)
        largest = max(-self._low, self._high)
        if not np.isfinite(largest):
            raise ConversionError(f"the calibration images make '{self.tensor.name}' not finite")
        if largest == 0:
            largest = 1.0  # a tensor that is always zero needs some range, whichever
        if bits == 16:
            room = _NO_HEADROOM if graph.is_right_factor(self.tensor) else _HEADROOM
            return Range.symmetric(largest * room, 16)
        return Range(self._low, self._high) if self._low < self._high else Range(0.0, largest)


def _searched(
    graph: _Graph, seen: Mapping[str, _Seen], whole: Mapping[str, Range]
) -> dict[str, Range]:
    """The 8-bit ranges whose rounding and clipping are least seen by what reads the tensor."""
    found = {}
    for name, it in seen.items():
        if it.bits != 8 or it.is_laid_down:
            continue
        covered, value = whole[name], it.tensor.value
        is_result = it.tensor.kind is Kind.RESULT
        reader = graph.sole_reader(value) if is_result else None
        match reader.operator if reader is not None else None:
            case Activate(kind=kind) if is_inner(value) or isinstance(value.operator, Convolution):
                read = partial(activate, activation=kind)
                shares = _LOW_SHARES if kind not in _FLAT or covered.high <= 0 else (0.0,)
                found[name] = _least_seen_behind(read, covered, it, shares)
            case Softmax():
                found[name] = _least_seen_behind(softmax, covered, it, _LOW_SHARES)
            case _:
                importance = graph.importance(seen, value) if is_result else 1.0
                weights = it.counts[:, None] * importance
                found[name] = least_costly_range(covered, it.rows, weights)
    return found


def _least_seen_behind(
    read: Callable[[Array], Array], whole: Range, seen: _Seen, shares: Sequence[float]
) -> Range:
    """The range for a reader that is flat below: its lower end may be cut."""
    rows, counts = seen.rows, seen.counts
    exact = read(rows)

    def error(covered: Range) -> float:
        difference = read(fake_quantized(rows, covered)) - exact
        return float(counts @ np.square(difference).sum(axis=-1))

    return min((Range(whole.low * share + 0.0, whole.high) for share in shares), key=error)


def _made_for_their_reader(
    graph: _Graph,
    seen: Mapping[str, _Seen],
    inputs: Mapping[str, Range],
    ranges: Mapping[str, Range],
) -> dict[str, Range]:
    """8-bit tensors that one linear layer reads have the range that was chosen for that layer."""
    taken = {}
    for name, it in seen.items():
        if it.bits != 8 or it.tensor.kind is not Kind.RESULT:
            continue
        layer = graph.layer_reading(it.tensor.value)
        if layer is not None and inputs[layer.name].bits == ranges[name].bits == 8:
            taken[name] = inputs[layer.name]
    return taken
