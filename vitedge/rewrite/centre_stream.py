"""Centres the residual stream: every layer that writes it writes vectors of mean zero.

LayerNorm subtracts the mean over channels, so what the writers add to all channels alike reaches no
reader (SliceGPT, arXiv:2401.15024, section 3.1)::

    LN(x + c 1) = LN(x)

Subtracting from each row of a weight its mean over the outputs takes it out. It costs nothing, and
a stream that runs in bfloat16 or in integers holds the rest more finely: massive tokens, hundreds
in all channels, would leave a bfloat16 steps of one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import numpy as np

from vitedge.network.kinds import NormKind
from vitedge.network.network import Network, Value, with_operators
from vitedge.network.operators import Array, Constant, Convolution, Linear, Norm, Operator
from vitedge.network.streams import Stream, streams

# What float32 leaves of the mean of numbers around one after another change of basis. Its effect on
# a norm is the square of it.
_ROUNDING = 1e-5


class CentreStream:
    """A residual stream of mean zero."""

    name = "centre-stream"
    order = 65
    default = False

    def apply(self, network: Network) -> Network:
        """See the module's docstring; nothing is done where a norm keeps its gamma or beta."""
        changed: dict[Value, Operator] = {}
        for stream in streams_without_mean(network):
            centred = partial(_is_centred, width=stream.width)
            if not all(map(centred, _written(stream))):
                changed |= {each: _centred(each.operator, stream.width) for each in stream.writers}
        return with_operators(network, changed)


def streams_without_mean(network: Network) -> tuple[Stream, ...]:
    """The streams whose every reader takes their mean out first, and that can be centred."""
    return tuple(
        each
        for each in streams(network, through_norms=False)
        if all(_takes_mean_out(reader, each.width) for reader in each.readers)
        and all(_is_centrable(writer, each.width) for writer in each.writers)
    )


def _takes_mean_out(value: Value, width: int) -> bool:
    norm = value.operator
    return (
        isinstance(norm, Norm)
        and norm.kind is NormKind.LAYER
        and norm.is_plain
        and len(norm.gamma) == width
    )


def _is_centrable(value: Value, width: int) -> bool:
    """Whether it can write vectors of mean zero; a norm that takes the mean out does so already."""
    match value.operator:
        case Linear() | Constant():
            return True
        case Convolution(groups=groups):
            return groups == 1
        case _:
            return _takes_mean_out(value, width)


def _written(stream: Stream) -> Iterator[Array]:
    for value in stream.writers:
        match value.operator:
            case Constant(values=values):
                yield values
            case Linear(weight=weight, bias=bias) | Convolution(weight=weight, bias=bias):
                yield weight
                yield bias


def _vectors(array: Array, width: int) -> Array:
    """The array with an axis of its own for several vectors that stand behind one another."""
    is_one = array.shape[-1] == width
    return array if is_one else array.reshape(*array.shape[:-1], -1, width)


def _is_centred(array: Array, width: int) -> bool:
    vectors = _vectors(array, width)
    largest = np.abs(vectors).max(initial=0.0)
    mean = vectors.mean(axis=-1, dtype=np.float64)
    return bool(np.abs(mean).max(initial=0.0) <= _ROUNDING * largest)


def _centred(operator: Operator, width: int) -> Operator:
    def centred(array: Array) -> Array:
        wide = _vectors(array, width).astype(np.float64)
        made: Array = (wide - wide.mean(axis=-1, keepdims=True)).astype(array.dtype)
        return made.reshape(array.shape)

    match operator:
        case Constant(values=values):
            return Constant(centred(values))
        case Linear(weight=weight, bias=bias) | Convolution(weight=weight, bias=bias):
            return replace(operator, weight=centred(weight), bias=centred(bias))
        case _:
            return operator


PLUGIN = CentreStream()
