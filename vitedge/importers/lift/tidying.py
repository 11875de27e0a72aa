"""Brings values that were read node by node into the form that rewrites and the quantizer know."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from vitedge.network.channels import Uses
from vitedge.network.network import Network, Value, rebuilt
from vitedge.network.operators import (
    Add,
    Array,
    Concatenate,
    Constant,
    Convolution,
    Linear,
    Multiply,
    Product,
    Softmax,
    Take,
    Transpose,
)

_UNSEEN = -1e3
"""A score so low that a softmax gives its key nothing, and that leaves integers fine steps."""


def tidied(network: Network) -> Network:
    """The model with packed layers apart, and constant factors and terms inside of layers."""
    while True:
        before = network
        for step in (_finite, _unpacked, _absorbed, _composed, _turned, _positions_apart):
            network = step(network)
        if network is before:
            return network


def _finite(network: Network) -> Network:
    """Masks of minus infinity become scores so low that a softmax gives their keys nothing."""
    uses = Uses.of(network)

    def change(value: Value, inputs: tuple[Value, ...]) -> Value | None:
        if not isinstance(value.operator, Constant) or not _is_mask(value, uses):
            return None
        return Value(value.name, Constant(np.maximum(value.operator.values, _UNSEEN)), inputs)

    return rebuilt(network, change)


def _is_mask(constant: Value, uses: Uses) -> bool:
    """Whether a constant has scores of minus infinity, and a softmax reads each sum with it."""
    assert isinstance(constant.operator, Constant)
    return bool(np.isneginf(constant.operator.values).any()) and all(
        isinstance(total.operator, Add)
        and all(isinstance(each.operator, Softmax) for each in uses.readers[total])
        for total in uses.readers[constant]
    )


def _unpacked(network: Network) -> Network:
    """Queries, keys and values that are parts of one layer become layers of their own."""
    uses = Uses.of(network)

    def is_packed(layer: Value) -> bool:
        parts = [each.operator for each in uses.readers[layer]]
        last = len(layer.shape) - 1
        return (
            isinstance(layer.operator, Linear)
            and layer not in uses.shown
            and all(isinstance(part, Take) and part.axis == last for part in parts)
            and sum(len(part.places) for part in parts if isinstance(part, Take)) <= layer.shape[-1]
        )

    def change(value: Value, inputs: tuple[Value, ...]) -> Value | None:
        if not isinstance(value.operator, Take) or not is_packed(value.inputs[0]):
            return None
        layer, places = inputs[0].operator, list(value.operator.places)
        assert isinstance(layer, Linear)
        weight = np.ascontiguousarray(layer.weight[:, places])
        return Value(value.name, Linear(weight, layer.bias[places].copy()), inputs[0].inputs)

    return rebuilt(network, change)


def _absorbed(network: Network) -> Network:
    """A constant factor or term of each channel goes into the layer beside it."""
    uses = Uses.of(network)

    def change(value: Value, inputs: tuple[Value, ...]) -> Value | None:
        if isinstance(value.operator, Linear):
            return _into_following(value, inputs[0], uses)
        fixed = _fixed_operand(value, inputs)
        if fixed is None:
            return None
        place, numbers = fixed
        before = inputs[1 - place]
        if uses.sole_reader(value.inputs[1 - place]) is not value:
            return None
        return _into_preceding(value, before, numbers)

    return rebuilt(network, change)


def _fixed_operand(
    value: Value, inputs: tuple[Value, ...]
) -> tuple[int, npt.NDArray[np.float64]] | None:
    """The constant operand of a sum or product, and its numbers."""
    if not isinstance(value.operator, Add | Multiply):
        return None
    for place, each in enumerate(inputs):
        if isinstance(each.operator, Constant) and not inputs[1 - place].is_constant:
            return place, each.operator.values.astype(np.float64)
    return None


def _into_preceding(value: Value, before: Value, numbers: npt.NDArray[np.float64]) -> Value | None:
    layer, is_sum = before.operator, isinstance(value.operator, Add)
    by_channel = numbers.size in (1, numbers.shape[-1] if numbers.shape else 1)
    if isinstance(layer, Linear | Convolution) and by_channel and value.shape == before.shape:
        channel = numbers.reshape(-1)
        weight, bias = layer.weight, layer.bias.astype(np.float64)
        if is_sum:
            bias = bias + channel
        else:
            weight, bias = _narrow(weight * channel), bias * channel
        made = replace(layer, weight=weight, bias=_narrow(bias))
        return Value(before.name, made, before.inputs)
    earlier = _fixed_operand(before, before.inputs)
    if earlier is None or type(before.operator) is not type(value.operator):
        return None
    place, others = earlier
    both = numbers + others if is_sum else numbers * others
    if both.size > max(numbers.size, others.size) or value.shape != before.shape:
        return None
    constant = Value(f"{value.name}/both", Constant(both if not both.shape else _narrow(both)))
    return Value(value.name, value.operator, (before.inputs[1 - place], constant))


def _into_following(layer: Value, before: Value, uses: Uses) -> Value | None:
    """The factors or terms of a layer's input."""
    operator = layer.operator
    assert isinstance(operator, Linear)
    fixed = _fixed_operand(before, before.inputs)
    if fixed is None or uses.sole_reader(layer.inputs[0]) is not layer:
        return None
    place, numbers = fixed
    source = before.inputs[1 - place]
    by_channel = numbers.size in (1, numbers.shape[-1] if numbers.shape else 1)
    if not by_channel or source.shape != before.shape or _is_image(source):
        return None
    channel = np.broadcast_to(numbers.reshape(-1), operator.weight.shape[:1])
    weight, bias = operator.weight, operator.bias.astype(np.float64)
    if isinstance(before.operator, Add):
        bias = bias + channel @ weight
    else:
        weight = _narrow(channel[:, None] * weight)
    return Value(layer.name, Linear(weight, _narrow(bias)), (source,))


def _is_image(value: Value) -> bool:
    return not value.inputs or not value.inputs[0].inputs


def _turned(network: Network) -> Network:
    """Scores of queries by keys where the source multiplies keys by queries and turns them."""
    uses = Uses.of(network)

    def change(value: Value, inputs: tuple[Value, ...]) -> Value | None:
        if not isinstance(value.operator, Transpose):
            return None
        axes, (scores,) = value.operator.axes, inputs
        rank = len(axes)
        is_turned = axes == (*range(rank - 2), rank - 1, rank - 2)
        if not is_turned or scores.operator != Product(transposed=True):
            return None
        if uses.sole_reader(value.inputs[0]) is not value:
            return None
        return Value(value.name, scores.operator, scores.inputs[::-1])

    return rebuilt(network, change)


def _composed(network: Network) -> Network:
    """Two linear layers with nothing between them are one, where that is no more work."""
    uses = Uses.of(network)

    def change(value: Value, inputs: tuple[Value, ...]) -> Value | None:
        layer, before = value.operator, inputs[0].operator if inputs else None
        if not isinstance(layer, Linear) or not isinstance(before, Linear):
            return None
        if uses.sole_reader(value.inputs[0]) is not value:
            return None
        apart = before.weight.size + layer.weight.size
        if before.weight.shape[0] * layer.weight.shape[1] > apart:
            return None
        return Value(value.name, before.followed_by(layer), inputs[0].inputs)

    return rebuilt(network, change)


def _positions_apart(network: Network) -> Network:
    """Positions are added to patches alone: constant tokens before them hold their own."""

    def change(value: Value, inputs: tuple[Value, ...]) -> Value | None:
        fixed = _fixed_operand(value, inputs)
        if fixed is None or not isinstance(value.operator, Add):
            return None
        place, numbers = fixed
        joined = inputs[1 - place]
        operator, parts = joined.operator, joined.inputs
        if not isinstance(operator, Concatenate) or len(parts) < 2:
            return None
        live = [each for each in parts if not each.is_constant]
        if len(live) != 1 or numbers.shape != joined.shape:
            return None
        ends = np.cumsum([each.shape[operator.axis] for each in parts])[:-1]
        made = []
        for each, part in zip(parts, np.split(numbers, ends, operator.axis), strict=True):
            term = Value(f"{value.name}/of/{each.name}", Constant(_narrow(part)))
            if isinstance(each.operator, Constant):
                sum_ = Constant(_narrow(each.operator.values + part))
                made.append(Value(f"{value.name}/with/{each.name}", sum_))
            else:
                made.append(Value(f"{value.name}/with/{each.name}", Add(), (each, term)))
        return Value(value.name, operator, tuple(made))

    return rebuilt(network, change)


def _narrow(array: npt.NDArray[np.floating]) -> Array:
    return np.ascontiguousarray(array, np.float32)
