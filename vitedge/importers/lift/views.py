"""Tensors of a source seen as values of a network that lie otherwise in memory.

A source reshapes and transposes as its author saw fit: channels first, windows in the batch axis,
queries, keys and values in an axis of their own. A ``View`` remembers where each axis of such a
tensor lies in the value that holds its numbers, so that a move costs nothing until an operator
wants the numbers to lie in a certain way. Axes of size 1, the batch of one image among them, do not
lie anywhere.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from vitedge.network.network import Value
from vitedge.network.operators import Shape

Axis: TypeAlias = tuple[int, ...]
"""The factors that an axis is made of, by number, the slowest first."""


@dataclass(frozen=True, eq=False)
class View:
    """A tensor of the source.

    Attributes:
        value: The value that holds its numbers.
        factors: The sizes, none of them 1, whose product is each axis of the value. They are
            numbered through, in order.
        axes: The factors that each axis of the source's tensor is made of; every factor belongs to
            one axis.
    """

    value: Value
    factors: tuple[tuple[int, ...], ...]
    axes: tuple[Axis, ...]

    @classmethod
    def whole(cls, value: Value, shape: Shape) -> View:
        """A value seen in another shape of the same order.

        Raises:
            ValueError: The shape has another number of elements.
        """
        factors = tuple((size,) if size > 1 else () for size in value.shape)
        count = sum(map(len, factors))
        return cls(value, factors, tuple((each,) for each in range(count))).reshaped(shape)

    @property
    def sizes(self) -> tuple[int, ...]:
        """The size of each factor."""
        return tuple(size for axis in self.factors for size in axis)

    @property
    def shape(self) -> Shape:
        """The view of the source's tensor."""
        sizes = self.sizes
        return tuple(math.prod(sizes[each] for each in axis) for axis in self.axes)

    @property
    def order(self) -> Axis:
        """All factors in the order of the source."""
        return tuple(each for axis in self.axes for each in axis)

    def of_axis(self, axis: int) -> Axis:
        """The factors that an axis of the value has."""
        start = sum(map(len, self.factors[:axis]))
        return tuple(range(start, start + len(self.factors[axis])))

    def axis_of(self, factors: Axis) -> int | None:
        """The axis of the value that has exactly these factors, in order; None: no axis has."""
        places = range(len(self.factors))
        return next((each for each in places if factors and self.of_axis(each) == factors), None)

    def transposed(self, order: Sequence[int]) -> View:
        """The view with the axes in another order."""
        return replace(self, axes=tuple(self.axes[axis] for axis in order))

    def reshaped(self, shape: Shape) -> View:
        """The view in another shape.

        Raises:
            ValueError: An axis of the shape is not a product of factors; see ``View.whole``.
        """
        if math.prod(shape) != math.prod(self.shape):
            raise ValueError(f"{self.shape} is no {shape}")
        cut = self
        axes: list[Axis] = []
        left = list(self.order)
        for size in shape:
            axis: list[int] = []
            missing = size
            while missing > 1:
                first = left.pop(0)
                factor = cut.sizes[first]
                if factor > missing:
                    if factor % missing:
                        raise ValueError(f"{self.shape} lies otherwise than {shape}")
                    cut = cut.split(first, (missing, factor // missing))
                    left = [first, first + 1, *_behind(first, left)]
                    axes, axis = [_behind(first, each) for each in axes], [*_behind(first, axis)]
                    continue
                if missing % factor:
                    raise ValueError(f"{self.shape} lies otherwise than {shape}")
                axis.append(first)
                missing //= factor
            axes.append(tuple(axis))
        return replace(cut, axes=tuple(axes))

    def split(self, factor: int, sizes: Sequence[int]) -> View:
        """Splits a factor into several, whose product it is; the axes stay as they are."""
        more = len(sizes) - 1

        def renumbered(axis: Axis) -> Axis:
            found: list[int] = []
            for each in axis:
                new = each + more if each > factor else each
                found += range(factor, factor + more + 1) if each == factor else [new]
            return tuple(found)

        place = next(each for each in range(len(self.factors)) if factor in self.of_axis(each))
        within = factor - self.of_axis(place)[0]
        old = self.factors[place]
        new = (*old[:within], *sizes, *old[within + 1 :])
        factors = (*self.factors[:place], new, *self.factors[place + 1 :])
        return View(self.value, factors, tuple(map(renumbered, self.axes)))

    def on(self, value: Value) -> View:
        """The same view of another value of the same shape."""
        return replace(self, value=value)


def _behind(split: int, factors: Iterable[int]) -> Axis:
    """Numbers of factors once one of them has become two; that one is not among them."""
    return tuple(each + (each > split) for each in factors)


def refined(a: View, b: View) -> tuple[View, View]:
    """Two views of one shape, or with axes of size 1, cut so that their factors are alike.

    Raises:
        ValueError: Their axes are cut in ways that do not fit.
    """
    for axis in range(len(a.axes)):
        place = 0
        while a.axes[axis] and b.axes[axis] and place < max(len(a.axes[axis]), len(b.axes[axis])):
            first, second = a.axes[axis][place], b.axes[axis][place]
            one, two = a.sizes[first], b.sizes[second]
            if one != two:
                small, large = min(one, two), max(one, two)
                if large % small:
                    raise ValueError(f"{a.shape} is cut in two ways")
                if one > two:
                    a = a.split(first, (small, large // small))
                else:
                    b = b.split(second, (small, large // small))
            place += 1
    return a, b


def runs_of(order: Iterable[int]) -> list[list[int]]:
    """Factors in runs that are neighbours in both orders."""
    runs: list[list[int]] = []
    for each in order:
        if runs and runs[-1][-1] + 1 == each:
            runs[-1].append(each)
        else:
            runs.append([each])
    return runs
