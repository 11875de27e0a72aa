"""Carries merged tokens through a network: who reads them, and what that makes of them.

What treats all tokens alike works on fewer of them as it is. Softmax and means over tokens count
each as often as there are tokens in it. What takes the fixed tokens out finds them where they
stood. All else, convolutions or a head that reads tokens one by one, gets as many tokens as there
were: each the one that it was merged into. What would add the number of a position to a merged
token cannot be had, and is refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from vitedge.errors import ConversionError
from vitedge.network.network import Network, Value, needed
from vitedge.network.operators import (
    Activate,
    Add,
    Concatenate,
    Constant,
    Linear,
    Mean,
    Multiply,
    Norm,
    Product,
    Reshape,
    Shape,
    Softmax,
    Take,
    Transpose,
)


@dataclass(frozen=True, eq=False)
class Tokens:
    """Merged tokens along an axis of a value.

    Attributes:
        axis: The axis of the tokens.
        whole: The number of tokens before merging.
        fixed: The number of first tokens that were neither merged nor moved.
        counts: The number of old tokens that each stands for, as a value of the new network,
            ``(tokens, 1)``.
        matches: The values of the new network that merged them, in order.
        other: A second axis of the same tokens, as scores have; None elsewhere.
        skipped: The number of fixed tokens that were left out.
    """

    axis: int
    whole: int
    fixed: int
    counts: Value
    matches: tuple[Value, ...]
    other: int | None = None
    skipped: int = 0

    @property
    def number(self) -> int:
        """The number of tokens."""
        return self.counts.shape[0] - self.skipped

    @property
    def axes(self) -> tuple[int, ...]:
        """All axes that they are along, in order."""
        return (self.axis,) if self.other is None else (self.axis, self.other)

    def moved(self, place: Callable[[int], int]) -> Tokens:
        """The same tokens after each axis has moved to another place."""
        axes = sorted(place(axis) for axis in self.axes)
        return replace(self, axis=axes[0], other=axes[1] if len(axes) > 1 else None)

    def is_of(self, other: Tokens) -> bool:
        """Whether both are the same tokens."""
        return self.matches == other.matches and self.skipped == other.skipped


class Followed:
    """The successor of each value of the old network.

    Attributes:
        merged: The tokens of those values of the old network that have merged ones in the new.
        new: The value of the new network for each value of the old one.
    """

    def __init__(self) -> None:
        self.merged: dict[Value, Tokens] = {}
        self.new: dict[Value, Value] = {}
        self._whole: dict[Value, Value] = {}

    def step(self, value: Value, inputs: tuple[Value, ...]) -> Value:
        """The successor of a value.

        Args:
            value: The value of the old network.
            inputs: The successors of its inputs.

        Raises:
            ConversionError: The value tells merged tokens apart.
        """
        found = [self.merged.get(each) for each in value.inputs]
        if not any(found):
            return value if inputs == value.inputs else replace(value, inputs=inputs)
        carried = self._carried(value, inputs, found)
        if carried is not None:
            if carried.tokens is not None:
                self.merged[value] = carried.tokens
            return carried.made or replace(value, inputs=inputs)
        if isinstance(value.operator, Add | Multiply) and not all(
            each is not None or source.is_constant
            for each, source in zip(found, value.inputs, strict=True)
        ):
            raise ConversionError(
                f"tokens cannot be merged: '{value.name}' combines them with others one by one"
            )
        wholes = tuple(
            each if tokens is None else self.whole(source, each, tokens)
            for source, each, tokens in zip(value.inputs, inputs, found, strict=True)
        )
        return Value(value.name, value.operator, wholes)

    def whole(self, source: Value, made: Value, tokens: Tokens) -> Value:
        """Gives as many tokens as there were, in their order.

        Raises:
            ConversionError: The tokens do not stand along the first of two axes.
        """
        if tokens.axes != (0,) or len(made.shape) != 2:
            raise ConversionError(
                f"tokens cannot be merged: what reads '{source.name}' tells them apart"
            )
        if source not in self._whole:
            name = f"{source.name}/whole"
            for number, match in enumerate(reversed(tokens.matches)):
                turned = Value(f"{name}/{number}/from", Transpose((1, 0)), (match,))
                for axis, size in enumerate(turned.shape if tokens.skipped else ()):
                    behind = Take(axis, tuple(range(tokens.skipped, size)))
                    turned = Value(f"{name}/{number}/behind/{axis}", behind, (turned,))
                label = name if number + 1 == len(tokens.matches) else f"{name}/{number}"
                made = Value(label, Product(), (turned, made))
            self._whole[source] = made
        return self._whole[source]

    def with_whole_outputs(self, new: Network, old: Network) -> Network:
        """The new network whose outputs have the tokens that they had."""
        outputs = dict(new.outputs)
        values = list(new.values)
        for name, value in old.outputs.items():
            tokens = self.merged.get(value)
            if tokens is not None:
                outputs[name] = self.whole(value, new.outputs[name], tokens)
                values += _made_since(outputs[name], set(values))
        return replace(new, values=needed(values, outputs.values()), outputs=outputs)

    def _carried(
        self, value: Value, inputs: tuple[Value, ...], found: list[Tokens | None]
    ) -> _Carried | None:
        """The successor made of merged tokens, and their places; None where all are needed."""
        match value.operator:
            case Product(transposed=transposed):
                return _multiplied(value, found, transposed=transposed)
            case Add() | Multiply():
                return _combined(value, found)
            case Concatenate(axis=axis):
                tokens = found[0]
                alike = tokens is not None and all(_are_same(each, tokens) for each in found)
                beside = tokens is not None and axis not in tokens.axes
                return _Carried(None, tokens) if alike and beside else None
        (tokens,) = found[:1]
        if tokens is None or len(found) > 1:
            return None
        is_last = len(value.inputs[0].shape) - 1 in tokens.axes
        match value.operator:
            case Activate():
                return _Carried(None, tokens)
            case Linear() | Norm():
                return None if is_last else _Carried(None, tokens)
            case Softmax():
                return _shared(value, inputs[0], tokens) if is_last else _Carried(None, tokens)
            case Reshape(to=to):
                return _reshaped(value, inputs[0], to, tokens)
            case Transpose(axes=axes):
                return _Carried(None, tokens.moved(axes.index))
            case Take() as take:
                return _taken(value, inputs[0], take, tokens)
            case Mean(axis=axis):
                return _averaged(value, inputs[0], axis, tokens)
            case _:
                return None


@dataclass(frozen=True, eq=False)
class _Carried:
    """A value behind merged tokens.

    Attributes:
        made: The value; None is the same operator on the new inputs.
        tokens: The tokens of each value; None if it has none of them.
    """

    made: Value | None
    tokens: Tokens | None


def _are_same(tokens: Tokens | None, other: Tokens) -> bool:
    return tokens is not None and tokens.is_of(other) and tokens.axes == other.axes


def _multiplied(value: Value, found: list[Tokens | None], *, transposed: bool) -> _Carried | None:
    """A product of scores, of shares and tokens, or of tokens and what is not a token."""
    left, right = found
    rows, last = len(value.shape) - 2, len(value.shape) - 1
    if transposed:
        axes = [None if each is None else each.axes for each in found]
        if any(each not in (None, (rows,)) for each in axes):
            return None
        if left is None or right is None:
            only = left or right
            assert only is not None
            return _Carried(None, only if right is None else only.moved(lambda _: last))
        other = replace(left, axis=rows, other=last)
        return _Carried(None, other) if left.is_of(right) else None
    if left is None or (right is not None and right.axes != (rows,)):
        return None
    if right is None:
        return _Carried(None, left) if left.axes == (rows,) else None
    is_shares = isinstance(value.inputs[0].operator, Softmax) and last in left.axes
    if not is_shares or not left.is_of(right):
        return None
    return _Carried(None, replace(left, axis=rows, other=None) if rows in left.axes else None)


def _combined(value: Value, found: list[Tokens | None]) -> _Carried | None:
    """A sum or product where what meets a token is the same token, or the same for all."""
    tokens = next(each for each in found if each is not None)
    for source, each in zip(value.inputs, found, strict=True):
        if each is None:
            lacking = len(value.shape) - len(source.shape)
            sizes = [source.shape[at - lacking] for at in tokens.axes if at >= lacking]
            if any(size != 1 for size in sizes):
                return None
        elif not _are_same(each, tokens):
            return None
    return _Carried(None, tokens)


def _shared(value: Value, scores: Value, tokens: Tokens) -> _Carried:
    """Shares of tokens that count as often as there are tokens in them."""
    counts = tokens.counts
    if isinstance(counts.operator, Constant):
        often = np.log(counts.operator.values[tokens.skipped :, 0])
        added = Value(f"{value.name}/often", Constant(often.astype(np.float32)))
        counted = Value(f"{value.name}/counted", Add(), (scores, added))
        return _Carried(Value(value.name, Softmax(), (counted,)), tokens)
    if tokens.skipped:
        behind = Take(0, tuple(range(tokens.skipped, counts.shape[0])))
        counts = Value(f"{value.name}/counts", behind, (counts,))
    return _Carried(Value(value.name, Softmax(), (scores, counts)), tokens)


def _reshaped(value: Value, x: Value, to: Shape, tokens: Tokens) -> _Carried | None:
    """The carried value, if each axis of tokens is one of the new shape as well."""
    read, shape, places = value.inputs[0].shape, list(to), dict[int, int]()
    for axis in tokens.axes:
        for place, size in enumerate(to):
            if size == read[axis] and math.prod(to[:place]) == math.prod(read[:axis]):
                places[axis], shape[place] = place, tokens.number
                break
        else:
            return None
    made = Value(value.name, Reshape(tuple(shape)), (x,))
    return _Carried(made, tokens.moved(places.__getitem__))


def _taken(value: Value, x: Value, take: Take, tokens: Tokens) -> _Carried | None:
    """Takes some of the fixed tokens, or all tokens behind some of the fixed ones."""
    if take.axis not in tokens.axes:
        return _Carried(None, tokens)
    fixed, first = tokens.fixed - tokens.skipped, take.places[0]
    if tokens.other is not None:
        return None
    if max(take.places) < fixed:
        return _Carried(None, None)
    whole = tokens.whole - tokens.skipped
    if first > fixed or take.places != tuple(range(first, whole)):
        return None
    behind = Take(take.axis, tuple(range(first, tokens.number)))
    skipped = replace(tokens, skipped=tokens.skipped + first)
    return _Carried(Value(value.name, behind, (x,)), skipped)


def _averaged(value: Value, x: Value, axis: int, tokens: Tokens) -> _Carried | None:
    """A mean over tokens counts each as often as there are tokens in it."""
    if axis not in tokens.axes:
        return _Carried(None, tokens.moved(lambda at: at - (at > axis)))
    if len(x.shape) != 2 or axis != 0 or tokens.other is not None:
        return None
    name, counts = value.name, tokens.counts
    if tokens.skipped:
        behind = Take(0, tuple(range(tokens.skipped, counts.shape[0])))
        counts = Value(f"{name}/counts", behind, (counts,))
    row = Value(f"{name}/counts/row", Transpose((1, 0)), (counts,))
    total = Value(f"{name}/sum", Product(), (row, x))
    share = Constant(np.asarray(1 / (tokens.whole - tokens.skipped), np.float64))
    mean = Value(f"{name}/mean", Multiply(), (total, Value(f"{name}/share", share)))
    return _Carried(Value(name, Reshape((x.shape[1],)), (mean,)), None)


def _made_since(value: Value, known: set[Value]) -> Iterator[Value]:
    """The values behind a value that are not known yet, in the order of computation."""
    if value not in known:
        known.add(value)
        for each in value.inputs:
            yield from _made_since(each, known)
        yield value
