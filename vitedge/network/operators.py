"""The operators that a network is made of: a closed union, which mypy checks in every ``match``.

An operator says how one tensor of one image is made of others, and holds the arrays and numbers
that it needs. Shapes leave the batch axis out; images are NHWC, so channels are always last.
An operator is added only when no composition of these says the same.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from vitedge.network.kinds import Activation, NormKind

Array: TypeAlias = npt.NDArray[np.float32]

Shape: TypeAlias = tuple[int, ...]
"""Sizes of the axes of one image's tensor, without the batch axis."""


@dataclass(frozen=True)
class Pixels:
    """The input: raw pixels 0..255, ``(height, width, channels)``."""

    height: int
    width: int
    channels: int

    def shape_of(self) -> Shape:
        """The shape that it makes."""
        return self.height, self.width, self.channels


@dataclass(frozen=True, eq=False)
class Constant:
    """A tensor that is the same for every image.

    Attributes:
        values: float32; float64 where a rewrite has yet to fold it into weights without a loss.
            What has no axis is a factor or a term, and does not count as a parameter.
    """

    values: npt.NDArray[np.floating[Any]]

    def shape_of(self) -> Shape:
        """The shape that it makes."""
        return self.values.shape


@dataclass(frozen=True)
class Standardize:
    """``(x / 255 - mean) / std``, each channel with its own.

    A multiplication and an addition would say the same, but round otherwise than the code that the
    model was trained with.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def shape_of(self, x: Shape) -> Shape:
        """The shape that it makes."""
        _require(all(0 < each < math.inf for each in self.std), f"standard deviations {self.std}")
        _require(x[-1] == len(self.mean) == len(self.std), f"{x} has not one mean a channel")
        return x


@dataclass(frozen=True, eq=False)
class Linear:
    """``x @ weight + bias`` over the last axis; weight ``(inputs, outputs)``, float32."""

    weight: Array
    bias: Array

    def shape_of(self, x: Shape) -> Shape:
        """The shape that it makes."""
        inputs, outputs = self.weight.shape
        _require(bool(x) and x[-1] == inputs, f"a weight of {inputs} inputs cannot read {x}")
        _require(self.bias.shape == (outputs,), f"bias {self.bias.shape} of {outputs} outputs")
        return *x[:-1], outputs

    def followed_by(self, second: Linear) -> Linear:
        """Both layers as one, multiplied in float64."""
        weight = second.weight.astype(np.float64)
        bias = self.bias @ weight + second.bias
        return Linear((self.weight @ weight).astype(np.float32), bias.astype(np.float32))


@dataclass(frozen=True, eq=False)
class Convolution:
    """A convolution of ``(height, width, channels)``.

    Attributes:
        weight: ``(kernel_height, kernel_width, channels / groups, outputs)``, float32.
        bias: ``(outputs,)``, float32.
        strides: Rows and columns from one output to the next.
        padding: Zeros before and after the rows, and before and after the columns.
        groups: Into how many parts channels and outputs are cut that do not see one another.
    """

    weight: Array
    bias: Array
    strides: tuple[int, int] = (1, 1)
    padding: tuple[tuple[int, int], tuple[int, int]] = ((0, 0), (0, 0))
    groups: int = 1

    def shape_of(self, x: Shape) -> Shape:
        """The shape that it makes."""
        rows, columns, part, outputs = self.weight.shape
        _require(len(x) == 3 and x[2] == part * self.groups, f"{self.weight.shape} cannot read {x}")
        _require(
            self.groups > 0 and outputs % self.groups == 0,
            f"{outputs} outputs in {self.groups} groups",
        )
        height, width = _slid(x, (rows, columns), self.strides, self.padding)
        return height, width, outputs


@dataclass(frozen=True, eq=False)
class Norm:
    """``gamma * normed + beta`` over the last axis; what ``normed`` is, ``kind`` says.

    Attributes:
        gamma: ``(channels,)``, float32.
        beta: ``(channels,)``, float32.
        eps: Added to the variance (layer), to the mean square (RMS) or to the sum of squares (L2).
        kind: Layer, RMS or L2.
    """

    gamma: Array
    beta: Array
    eps: float
    kind: NormKind = NormKind.LAYER

    def shape_of(self, x: Shape) -> Shape:
        """The shape that it makes."""
        _require(0 <= self.eps < math.inf, f"an epsilon of {self.eps}")
        _require(x[-1:] == self.gamma.shape == self.beta.shape, f"{self.gamma.shape} norms {x}")
        return x

    @property
    def is_plain(self) -> bool:
        """Whether gamma is 1 and beta 0 throughout."""
        return bool(np.all(self.gamma == 1) and np.all(self.beta == 0))


@dataclass(frozen=True)
class Activate:
    """A non-linearity, element by element."""

    kind: Activation

    def shape_of(self, x: Shape) -> Shape:
        """The shape that it makes."""
        return x


@dataclass(frozen=True)
class Add:
    """A sum; axes of size 1 are repeated. Only a constant may have fewer axes than the other."""

    def shape_of(self, a: Shape, b: Shape) -> Shape:
        """The shape that it makes."""
        return np.broadcast_shapes(a, b)


@dataclass(frozen=True)
class Multiply:
    """A product, element by element; axes are repeated as in ``Add``."""

    def shape_of(self, a: Shape, b: Shape) -> Shape:
        """The shape that it makes."""
        return np.broadcast_shapes(a, b)


@dataclass(frozen=True)
class Product:
    """The matrix product of two values over their last two axes, all others side by side.

    Attributes:
        transposed: The second is ``(..., columns, inputs)``, as keys are, not ``(..., inputs,
            columns)``.
    """

    transposed: bool = False

    def shape_of(self, a: Shape, b: Shape) -> Shape:
        """The shape that it makes."""
        _require(len(a) == len(b) >= 2 and a[:-2] == b[:-2], f"{a} times {b}")
        inputs, columns = (b[-1], b[-2]) if self.transposed else (b[-2], b[-1])
        _require(a[-1] == inputs, f"{a} times {b}")
        return *a[:-1], columns


@dataclass(frozen=True)
class Softmax:
    """Softmax over the last axis.

    A second input says how often each place counts, ``(places, 1)``: as if it stood there that
    many times. So a token that stands for several has the attention of all of them.
    """

    def shape_of(self, x: Shape, counts: Shape | None = None) -> Shape:
        """The shape that it makes."""
        _require(counts in (None, (*x[-1:], 1)), f"{counts} does not count the places of {x}")
        return x


@dataclass(frozen=True)
class Reshape:
    """Gives its input another shape, with the same numbers in the same order."""

    to: Shape

    def shape_of(self, x: Shape) -> Shape:
        """The shape that it makes."""
        _require(
            min(self.to, default=1) > 0 and math.prod(x) == math.prod(self.to),
            f"{x} is no {self.to}",
        )
        return self.to


@dataclass(frozen=True)
class Transpose:
    """The axes in another order: axis ``axes[i]`` becomes axis ``i``."""

    axes: tuple[int, ...]

    def shape_of(self, x: Shape) -> Shape:
        """The shape that it makes."""
        _require(sorted(self.axes) == list(range(len(x))), f"{self.axes} are not the axes of {x}")
        return tuple(x[axis] for axis in self.axes)


@dataclass(frozen=True)
class Take:
    """Some places along an axis, in the order given; a place may come twice."""

    axis: int
    places: tuple[int, ...]

    def shape_of(self, x: Shape) -> Shape:
        """The shape that it makes."""
        _require(0 <= self.axis < len(x), f"{x} has no axis {self.axis}")
        _require(
            bool(self.places) and min(self.places) >= 0 and max(self.places) < x[self.axis],
            f"axis {self.axis} of {x} has not all of the places that are taken",
        )
        return *x[: self.axis], len(self.places), *x[self.axis + 1 :]

    @property
    def span(self) -> slice | None:
        """The places as a slice, where they are neighbours in ascending order."""
        first, count = self.places[0], len(self.places)
        neighbours = self.places == tuple(range(first, first + count))
        return slice(first, first + count) if neighbours else None


@dataclass(frozen=True)
class Concatenate:
    """Several values one behind the other along an axis."""

    axis: int

    def shape_of(self, *parts: Shape) -> Shape:
        """The shape that it makes."""
        _require(bool(parts), "there is nothing to concatenate")
        first, axis = parts[0], self.axis
        _require(0 <= axis < len(first), f"{first} has no axis {axis}")
        for part in parts:
            alike = (*part[:axis], first[axis], *part[axis + 1 :]) == first
            _require(len(part) == len(first) and alike, f"{part} does not go behind {first}")
        return *first[:axis], sum(part[axis] for part in parts), *first[axis + 1 :]


@dataclass(frozen=True)
class Mean:
    """The mean over an axis, which is gone behind it."""

    axis: int

    def shape_of(self, x: Shape) -> Shape:
        """The shape that it makes."""
        _require(0 <= self.axis < len(x), f"{x} has no axis {self.axis}")
        return *x[: self.axis], *x[self.axis + 1 :]


class PoolKind(StrEnum):
    """The function of a pool over the numbers in its window."""

    MAX = "max"
    AVERAGE = "average"
    """The mean of those inside the image: padding does not count."""


@dataclass(frozen=True)
class Pool:
    """Slides a window over ``(height, width, channels)``, each channel for itself.

    Attributes:
        kind: Largest number or mean.
        window: Rows and columns of the window.
        strides: Rows and columns from one window to the next.
        padding: The padding, as in ``Convolution``; smaller than the window.
    """

    kind: PoolKind
    window: tuple[int, int]
    strides: tuple[int, int] = (1, 1)
    padding: tuple[tuple[int, int], tuple[int, int]] = ((0, 0), (0, 0))

    def shape_of(self, x: Shape) -> Shape:
        """The shape that it makes."""
        _require(len(x) == 3, f"a pool cannot read {x}")
        for size, padding in zip(self.window, self.padding, strict=True):
            _require(max(padding) < size, f"a window of {self.window} in {self.padding} of padding")
        height, width = _slid(x, self.window, self.strides, self.padding)
        return height, width, x[2]

    def takes_columns(self, x: Shape) -> bool:
        """Whether each of its windows is one whole column of the image."""
        return self.window == (x[0], 1) and self.strides[1] == 1 and not any(sum(self.padding, ()))


class ResizeKind(StrEnum):
    """The way in which a resize finds the numbers between pixels, whose centres are at a half."""

    NEAREST = "nearest"
    """The pixel whose square holds the place."""
    BILINEAR = "bilinear"
    """Half-pixel centres, without antialiasing."""
    BILINEAR_CORNERS = "bilinear_corners"
    """The corner pixels of both stand on each other (``align_corners``)."""


@dataclass(frozen=True)
class Resize:
    """``(height, width, channels)`` in another height and width."""

    height: int
    width: int
    kind: ResizeKind

    def shape_of(self, x: Shape) -> Shape:
        """The shape that it makes."""
        _require(len(x) == 3 and min(self.height, self.width) > 0, f"{x} cannot be resized")
        return self.height, self.width, x[2]


@dataclass(frozen=True)
class Match:
    """Finds the tokens that become one: bipartite soft matching (Bolya et al., arXiv:2210.09461).

    It reads a unit vector of each token, ``(tokens, width)``. Behind the ``fixed`` first tokens,
    every second one, from the first on, finds the most similar of those in between, and those that
    have found the most similar are merged into what they found.

    It makes a matrix of ones and zeros, ``(tokens - merged, tokens)``: which tokens each of the new
    ones is made of. New tokens are the fixed ones, those that found but are not merged, the most
    similar first, and those in between. It is constant to a gradient.

    Attributes:
        merged: The number of tokens that disappear.
        fixed: The number of first tokens that are neither merged nor moved.
    """

    merged: int
    fixed: int = 0

    def shape_of(self, x: Shape) -> Shape:
        """The shape that it makes."""
        _require(len(x) == 2 and self.fixed >= 0, f"{x} holds no vector of each token")
        finders = len(self.finders(x[0]))
        enough = 0 < self.merged <= finders and len(self.found(x[0])) > 0
        _require(enough, f"of {x[0]} tokens, {self.fixed} fixed, {self.merged} cannot be merged")
        return x[0] - self.merged, x[0]

    def finders(self, tokens: int) -> range:
        """The tokens that may be merged into others."""
        return range(self.fixed, tokens, 2)

    def found(self, tokens: int) -> range:
        """The tokens that others may be merged into."""
        return range(self.fixed + 1, tokens, 2)


@dataclass(frozen=True)
class Merge:
    """Tokens ``(tokens, channels)`` of which some are merged, each the mean of what it is made of.

    It reads what ``Match`` makes, the tokens, and how many each stands for, ``(tokens, 1)``.
    """

    def shape_of(self, match: Shape, x: Shape, counts: Shape) -> Shape:
        """The shape that it makes."""
        fits = len(match) == len(x) == 2 and match[1] == x[0] and counts == (x[0], 1)
        _require(fits, f"{match} does not merge {x} of {counts}")
        return match[0], x[1]


@dataclass(frozen=True)
class Count:
    """Counts the tokens in each token once some are merged, ``(tokens, 1)``.

    It reads what ``Match`` makes, and how many each stood for before.
    """

    def shape_of(self, match: Shape, counts: Shape) -> Shape:
        """The shape that it makes."""
        _require(len(match) == 2 and counts == (match[1], 1), f"{match} does not merge {counts}")
        return match[0], 1


Operator: TypeAlias = (
    Pixels
    | Constant
    | Standardize
    | Linear
    | Convolution
    | Norm
    | Activate
    | Add
    | Multiply
    | Product
    | Softmax
    | Reshape
    | Transpose
    | Take
    | Concatenate
    | Mean
    | Pool
    | Resize
    | Match
    | Merge
    | Count
)

Move: TypeAlias = Reshape | Transpose | Take | Concatenate
"""Operators that only move numbers."""

MOVES = (Reshape, Transpose, Take, Concatenate)


def _slid(
    x: Shape,
    window: tuple[int, int],
    strides: tuple[int, int],
    padding: tuple[tuple[int, int], tuple[int, int]],
) -> tuple[int, ...]:
    """Rows and columns of what a sliding window makes."""
    is_forward = min(strides) > 0 and min(map(min, padding)) >= 0
    _require(is_forward, f"strides of {strides} in {padding} of padding")
    sizes = zip(x[:2], window, strides, padding, strict=True)
    made = tuple((size + sum(pad) - each) // stride + 1 for size, each, stride, pad in sizes)
    _require(min(made) > 0, f"a window of {window} does not fit into {x}")
    return made


def _require(holds: bool, words: str) -> None:
    if not holds:
        raise ValueError(words)
