"""Moving difficulty between activations and weights, where it costs no operator.

A channel that is large at the input of a linear layer makes the step coarse for all others. Its
factor can move: out of the norm before (gamma) or the layer before (v), into the weight after.
How far is searched per layer, including not at all, by the predicted error of the logits
(SmoothQuant, arXiv:2211.10438, has one exponent for all layers).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from vitedge.network.channels import Uses, readers_of_vectors
from vitedge.network.network import Network, Value, with_operators
from vitedge.network.operators import Array, Linear, Norm, Operator
from vitedge.network.routes import Mix, channels, mixes
from vitedge.network.structure import is_inner
from vitedge.quantize import Activations
from vitedge.quantize.cores import all_cores
from vitedge.quantize.input_statistics import InputStatistics, Statistics
from vitedge.quantize.ranges import input_error
from vitedge.rewrite import BALANCE, SCALE
from vitedge.rewrite.balanced_pairs import balancing

# How much of the differences between channels is taken out.
_EXPONENTS = (0.0, 0.25, 0.5, 0.75, 1.0)

# An exponent must halve the error: on DeiT-tiny smaller gains at the input were lost again in the
# weights, which it makes harder to round.
_WORTHWHILE = 0.5

# Channels below this share of the largest are not scaled up further.
_FLOOR = 1e-3


class BalanceMeasuredValues:
    """Another basis between v and the output projection of each head.

    As the rewrite ``balance-values``, but with the measured moments and the measured cost of
    errors in place of what the weights suggest.
    """

    name = BALANCE

    def apply(self, network: Network, statistics: Statistics) -> tuple[Network, Statistics]:
        """The rewritten network and statistics of it."""
        inputs = dict(statistics.inputs)
        found = [each for each in mixes(network) if _is_movable(each, inputs)]
        changed: dict[Value, Operator] = {}

        def basis(mix: Mix) -> _Basis:
            (reader,) = mix.readers
            return _basis(mix, reader.operator, inputs[reader.name])

        with all_cores() as cores:
            bases = cores.map(basis, found)
        for mix, (change, inverse) in zip(found, bases, strict=True):
            (reader,) = mix.readers
            value, out = (_layer(each, changed) for each in (mix.layer, reader))
            at_layer = change if mix.is_straight else _at_layer(mix, change)
            changed[mix.layer] = Linear(
                (value.weight @ at_layer).astype(np.float32),
                (value.bias @ at_layer).astype(np.float32),
            )
            weight = (inverse @ out.weight.astype(np.float64)).astype(np.float32)
            changed[reader] = replace(out, weight=weight)
            inputs[reader.name] = inputs[reader.name].mapped(change, inverse)
        return with_operators(network, changed), replace(statistics, inputs=inputs)


_Matrix = npt.NDArray[np.float64]

_Basis = tuple[_Matrix, _Matrix]


def _is_movable(mix: Mix, inputs: Mapping[str, InputStatistics]) -> bool:
    """Whether one measured layer reads what is mixed, and each output of the layer at one place."""
    return mix.is_one_to_one and len(mix.readers) == 1 and mix.readers[0].name in inputs


def _layer(value: Value, changed: Mapping[Value, Operator]) -> Linear:
    layer = changed.get(value, value.operator)
    assert isinstance(layer, Linear)
    return layer


def _basis(mix: Mix, reader: Operator, watched: InputStatistics) -> _Basis:
    """The change at the reader's inputs, head by head, and its inverse."""
    assert isinstance(reader, Linear)
    out = reader.weight.astype(np.float64)
    change, inverse = np.zeros((len(out), len(out))), np.zeros((len(out), len(out)))
    stands_at = np.argsort(mix.places)
    for number, head in enumerate(mix.heads):
        rows = stands_at[head]
        block = np.ix_(rows, rows)
        part = channels(rows)
        moments = watched.moments[block].astype(np.float64)
        reading = out[part] @ out[part].T
        change[block], inverse[block] = balancing(moments, reading, seed=number)
    return change, inverse


def _at_layer(mix: Mix, change: _Matrix) -> _Matrix:
    """The change of what the layer makes, whose outputs stand elsewhere at the reader."""
    stands_at = np.argsort(mix.places)
    moved: _Matrix = change[np.ix_(stands_at, stands_at)]
    return moved


class Scaled(NamedTuple):
    """A network with scaled channels, statistics of it, and the exponent chosen for each input."""

    network: Network
    statistics: Statistics
    exponents: dict[str, float]


@dataclass(frozen=True)
class ScaleChannels:
    """Channels that are more alike, between norms and linear layers, and between v and its output.

    Attributes:
        activations: The runtime's treatment of the inputs of integer layers.
    """

    activations: Activations
    name = SCALE

    def apply(self, network: Network, statistics: Statistics) -> Scaled:
        """The rewritten network, statistics of it, and what was chosen."""
        scaling = _Scaling(statistics, self.activations)
        # LiteRT has no norm operator: there gamma is a multiplication of its own, and a scale per
        # token leaves little to gain.
        if self.activations is not Activations.PER_TOKEN:
            uses = Uses.of(network)
            for value in network.values:
                if isinstance(value.operator, Norm):
                    scaling.scale_norm(value, readers_of_vectors(value, uses) or ())
        for mix in mixes(network):
            if _is_movable(mix, statistics.inputs):
                scaling.scale_values(mix)
        inputs = replace(statistics, inputs=scaling.inputs)
        return Scaled(with_operators(network, scaling.changed), inputs, scaling.exponents)


class _Scaling:
    """The scales so far."""

    def __init__(self, statistics: Statistics, activations: Activations) -> None:
        self.inputs = dict(statistics.inputs)
        self.changed: dict[Value, Operator] = {}
        self.exponents: dict[str, float] = {}
        self._activations = activations

    def scale_norm(self, value: Value, readers: Sequence[Value]) -> None:
        """Scales what a norm makes, where inner linear layers alone read it."""
        norm = value.operator
        assert isinstance(norm, Norm)
        are_layers = all(is_inner(each) and each.name in self.inputs for each in readers)
        if not readers or not are_layers:
            return
        if any(len(_layer(each, self.changed).weight) != len(norm.gamma) for each in readers):
            return
        # Queries may be fewer than the keys, of which all tokens were measured.
        fullest = max(readers, key=lambda each: self.inputs[each.name].tokens)
        factors = self._chosen(fullest)
        if factors is not None:
            self.changed[value] = _scaled_norm(norm, factors)
            scaled: dict[int, InputStatistics] = {}
            for each in readers:
                self.changed[each] = _undo(_layer(each, self.changed), factors)
                watched = self.inputs[each.name]
                if id(watched) not in scaled:
                    scaled[id(watched)] = watched.scaled(factors)
                self.inputs[each.name] = scaled[id(watched)]

    def scale_values(self, mix: Mix) -> None:
        """Scales what is mixed, between the layer that makes it and the one that reads it."""
        (reader,) = mix.readers
        factors = self._chosen(reader)
        if factors is not None:
            layer = _layer(mix.layer, self.changed)
            at_layer = factors[np.argsort(mix.places)]
            self.changed[mix.layer] = Linear(layer.weight * at_layer, layer.bias * at_layer)
            self.changed[reader] = _undo(_layer(reader, self.changed), factors)
            self.inputs[reader.name] = self.inputs[reader.name].scaled(factors)

    def _chosen(self, layer: Value) -> Array | None:
        factors, self.exponents[layer.name] = _factors(self.inputs[layer.name], self._activations)
        return factors


def _factors(watched: InputStatistics, activations: Activations) -> tuple[Array | None, float]:
    """The factor of each channel, or None for no change, and the exponent that gives it.

    What is not scaled stays the very same array: a large model's weights and moments are
    gigabytes, and other recipes share them.
    """
    largest = np.maximum(watched.high, -watched.low)
    largest = np.maximum(largest, largest.max() * np.float32(_FLOOR))
    if not len(watched.rows) or not largest.all():
        return None, 0.0
    # Relative to the geometric mean, so that the weight does not grow or shrink as a whole.
    relative = np.log(largest) - np.log(largest).mean()
    best: Array | None = None
    best_exponent, least = 0.0, np.inf
    for exponent in _EXPONENTS:
        factors: Array = np.exp(-exponent * relative).astype(np.float32)
        cost = input_error(watched.scaled(factors), activations)
        if cost < least * _WORTHWHILE:
            best, best_exponent, least = factors if exponent else None, exponent, cost
    return best, best_exponent


def _scaled_norm(norm: Norm, factors: Array) -> Norm:
    return replace(norm, gamma=norm.gamma * factors, beta=norm.beta * factors)


def _undo(layer: Linear, factors: Array) -> Linear:
    return replace(layer, weight=layer.weight / factors[:, None])
