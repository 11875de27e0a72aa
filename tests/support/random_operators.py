"""Networks of operators that are put together at random, in ways that no model has.

Every number stays of a trained model's size, so that what two networks differ by that compute the
same is the rounding of float32.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from tests.support.random_weights import PREPROCESSING, SIDE, Weights, random_pixels
from vitedge.network.evaluate import computed
from vitedge.network.kinds import MLP_ACTIVATIONS, NormKind
from vitedge.network.network import Builder, Network, Value
from vitedge.network.operators import (
    Activate,
    Add,
    Array,
    Concatenate,
    Constant,
    Mean,
    Multiply,
    Norm,
    Operator,
    Pixels,
    Pool,
    PoolKind,
    Product,
    Reshape,
    Resize,
    ResizeKind,
    Softmax,
    Standardize,
    Take,
    Transpose,
)


@dataclass
class Composer:
    """Makes one random value after another, and knows its numbers on two images."""

    seed: int
    net: Builder = field(default_factory=Builder)

    def __post_init__(self) -> None:
        self.weights = Weights(np.random.default_rng(self.seed))
        self.rng = self.weights.rng
        self.pixels = random_pixels(self.seed)
        self.held: dict[Value, Array] = {}
        self.live: list[Value] = []

    def make(self, operator: Operator, *inputs: Value) -> Value | None:
        """A value, unless its operator does not fit or its numbers leave the usual size."""
        name = f"{type(operator).__name__.lower()}{len(self.held)}"
        try:
            value = Value(name, operator, inputs)
        except ValueError:
            return None
        if int(np.prod(value.shape)) > 4000:
            return None
        if isinstance(operator, Norm) and not _is_steady(self.held[inputs[0]], operator):
            return None
        made = computed(value, [self.held[each] for each in inputs], self.pixels)
        largest = np.abs(made).max()
        is_image = isinstance(operator, Pixels)
        if not is_image and not (np.isfinite(largest) and 1e-2 < largest < 12):
            return None
        value = self.net(name, operator, *inputs)
        self.held[value] = made
        if not isinstance(operator, Constant):
            self.live.append(value)
        return value

    def constant(self, *shape: int) -> Value:
        made = self.make(Constant(self.weights.array(*shape, scale=0.5, shift=0.6)))
        return made if made is not None else self.constant(*shape)

    def constant_of(self, number: float) -> Value:
        value = self.net(f"factor{len(self.held)}", Constant(np.asarray(number, np.float64)))
        self.held[value] = np.full(len(self.pixels), number, np.float32)
        return value

    def pick(self) -> Value:
        """A live value, late ones rather than early ones."""
        late = self.live[-6:] if self.weights.chance(0.8) else self.live
        return late[int(self.rng.integers(len(late)))]

    def alike(self, value: Value) -> Value:
        """Another value of the same shape, or a constant that fits."""
        others = [each for each in self.live if each.shape == value.shape]
        if len(others) > 1 and self.weights.chance(0.7):
            return others[int(self.rng.integers(len(others)))]
        shape = value.shape
        ones = (1,) * (len(shape) - 1)
        options = [shape, shape[-1:], (), (*ones, shape[-1]), (*shape[:-1], 1), (*ones, 1)]
        return self.constant(*self.weights.one_of(options))

    def step(self) -> None:
        x = self.pick()
        steps: list[Callable[[Value], object]] = [
            self.linear, self.linear, self.normed, self.residual, self.residual, self.attention,
            self.attention, self.activated, self.combined, self.combined, self.moved, self.moved,
            self.taken, self.image_step, self.product, self.joined, self.shares, self.mean,
        ]  # fmt: skip
        self.weights.one_of(steps)(x)

    def linear(self, x: Value) -> Value | None:
        width = self.weights.one_of((4, 6, 8, 12))
        return self.make(self.weights.linear(x.shape[-1], width), x) if x.shape else None

    def normed(self, x: Value) -> Value | None:
        if not x.shape or x.shape[-1] < 3:
            return None
        kind = self.weights.one_of(tuple(NormKind))
        return self.make(self.weights.norm(x.shape[-1], kind, plain=self.weights.chance(0.3)), x)

    def residual(self, x: Value) -> Value | None:
        """A branch whose end is added to its beginning."""
        inner = self.normed(x) if self.weights.chance(0.8) else x
        if inner is None:
            return None
        if self.weights.chance():
            hidden = self.linear(inner)
            hidden = None if hidden is None else self.activated(hidden)
        else:
            hidden = inner
        if hidden is None:
            return None
        end = self.make(self.weights.linear(hidden.shape[-1], x.shape[-1]), hidden)
        return None if end is None else self.make(Add(), x, end)

    def attention(self, x: Value) -> Value | None:
        """Queries, keys and values, now and then with something in the way."""
        if len(x.shape) < 2 or x.shape[-2] < 2:
            return None
        made = [self.by_head(x) for _ in range(2 if self.weights.chance(0.1) else 3)]
        if any(each is None for each in made):
            return None
        q, k, v = (made * 2)[:3]
        scores = self.make(Product(transposed=True), self.hindered(q), self.hindered(k))
        for _ in range(int(self.rng.integers(3))):
            if scores is not None:
                scores = self.on_scores(scores)
        shares = None if scores is None else self.make(Softmax(), scores)
        if shares is not None and self.weights.chance(0.1):
            shares = self.on_scores(shares)
        mixed = None if shares is None else self.make(Product(), shares, self.hindered(v))
        if mixed is None:
            return None
        rank = len(mixed.shape)
        axes = (*range(rank - 3), rank - 2, rank - 3, rank - 1)
        turned = self.make(Transpose(axes), self.hindered(mixed))
        if turned is None:
            return None
        whole = self.make(
            Reshape((*turned.shape[:-2], turned.shape[-2] * turned.shape[-1])), turned
        )
        return None if whole is None else self.linear(whole)

    def by_head(self, x: Value) -> Value | None:
        made = self.make(self.weights.linear(x.shape[-1], 8), x)
        cut = None if made is None else self.make(Reshape((*x.shape[:-1], 2, 4)), made)
        rank = len(x.shape) + 1
        axes = (*range(rank - 3), rank - 2, rank - 3, rank - 1)
        return None if cut is None else self.make(Transpose(axes), cut)

    def hindered(self, x: Value | None) -> Value:
        """The value, or what stands in the way of most rewrites."""
        assert x is not None
        if self.weights.chance(0.75):
            return x
        ways: list[Callable[[Value], Value | None]] = [
            self.normed, self.activated, self.combined, self.turned, self.same,
        ]  # fmt: skip
        made = self.weights.one_of(ways)(x)
        return x if made is None or made.shape != x.shape else made

    def turned(self, x: Value) -> Value | None:
        """As rotary positions do."""
        width = x.shape[-1]
        other = self.make(Take(len(x.shape) - 1, tuple(reversed(range(width)))), x)
        cos, sin = self.constant(*x.shape[-2:]), self.constant(*x.shape[-2:])
        along = self.make(Multiply(), x, cos)
        across = None if other is None else self.make(Multiply(), other, sin)
        return None if along is None or across is None else self.make(Add(), along, across)

    def same(self, x: Value) -> Value | None:
        """Both axes of tokens and channels in another order, or heads repeated."""
        size = x.shape[0]
        places = tuple(int(place) for place in self.rng.integers(0, size, size))
        return self.make(Take(0, places), x)

    def on_scores(self, scores: Value) -> Value | None:
        shape = scores.shape
        options = [(), shape[-1:], shape[-2:], shape, (*shape[:-1], 1)]
        constant = self.constant(*self.weights.one_of(options))
        operator = Add() if self.weights.chance() else Multiply()
        return self.make(operator, scores, constant)

    def activated(self, x: Value) -> Value | None:
        return self.make(Activate(self.weights.one_of(MLP_ACTIVATIONS)), x)

    def combined(self, x: Value) -> Value | None:
        operator = Add() if self.weights.chance() else Multiply()
        pair = (x, self.alike(x)) if self.weights.chance(0.8) else (self.alike(x), x)
        return self.make(operator, *pair)

    def moved(self, x: Value) -> Value | None:
        if not x.shape:
            return None
        if self.weights.chance():
            return self.make(Transpose(tuple(map(int, self.rng.permutation(len(x.shape))))), x)
        size = int(np.prod(x.shape))
        shape: list[int] = []
        while size > 1 and len(shape) < 3:
            factor = self.weights.one_of((2, 3, 4, 6, 8, 12, x.shape[-1]))
            if size % factor == 0:
                shape.insert(0, factor)
                size //= factor
            elif self.weights.chance(0.3):
                break
        return self.make(Reshape((size, *shape) if size > 1 else tuple(shape)), x)

    def taken(self, x: Value) -> Value | None:
        if not x.shape:
            return None
        axis = int(self.rng.integers(max(len(x.shape) - 1, 1)))
        if self.weights.chance(0.2):
            axis = len(x.shape) - 1
        size = x.shape[axis]
        count = int(self.rng.integers(1, size + 1)) if self.weights.chance() else 1
        return self.make(Take(axis, tuple(map(int, self.rng.integers(0, size, count)))), x)

    def image_step(self, x: Value) -> Value | None:
        if len(x.shape) != 3:
            return None
        rows, columns, channels = x.shape
        size, padding = int(self.rng.integers(1, 4)), int(self.rng.integers(2))
        match int(self.rng.integers(4)):
            case 0 if self.weights.chance() or channels % 2:
                return self.make(self.weights.convolution(channels, 8, size, padding=padding), x)
            case 0:
                return self.make(
                    self.weights.convolution(channels, 8, size, padding=padding, groups=2), x
                )
            case 1:
                kind = PoolKind.MAX if self.weights.chance() else PoolKind.AVERAGE
                pads = (min(padding, size - 1),) * 2
                return self.make(Pool(kind, (size, size), (1, 1), (pads, pads)), x)
            case 2:
                way = self.weights.one_of(tuple(ResizeKind))
                return self.make(Resize(max(rows - 1, 1), columns + 1, way), x)
            case _:
                return self.make(Reshape((rows * columns, channels)), x)

    def product(self, x: Value) -> Value | None:
        others = [each for each in self.live if each.shape[:-2] == x.shape[:-2]]
        self.rng.shuffle(others)
        for other in others:
            if len(x.shape) >= 2 and len(other.shape) == len(x.shape):
                scale = self.constant()
                small = self.make(Multiply(), x, scale)
                for transposed in (True, False):
                    made = small and self.make(Product(transposed), small, other)
                    if made is not None:
                        return made
        return None

    def joined(self, x: Value) -> Value | None:
        if not x.shape:
            return None
        axis = int(self.rng.integers(len(x.shape)))
        other = self.alike(x)
        return self.make(Concatenate(axis), *((x, other) if self.weights.chance() else (other, x)))

    def shares(self, x: Value) -> Value | None:
        return self.make(Softmax(), x) if x.shape else None

    def mean(self, x: Value) -> Value | None:
        if len(x.shape) < 2:
            return None
        return self.make(Mean(int(self.rng.integers(len(x.shape)))), x)


def _is_steady(x: Array, norm: Norm) -> bool:
    """Whether no vector is so short that its rounding would be blown up."""
    centred = x - x.mean(axis=-1, keepdims=True) if norm.kind is NormKind.LAYER else x
    return bool(np.sqrt(np.square(centred).mean(axis=-1)).min() > 0.05)


def composed_network(seed: int, steps: int = 30) -> Network:
    """Operators put together at random; one to three outputs."""
    composer = Composer(seed)
    net, weights = composer, composer.weights
    x = net.make(Pixels(SIDE, SIDE, 3))
    assert x is not None
    if weights.chance(0.8):
        x = net.make(Standardize(PREPROCESSING.mean, PREPROCESSING.std), x)
    else:
        x = net.make(Multiply(), x, net.constant_of(1 / 128))
    assert x is not None
    patches = net.make(Reshape((4, 2, 4, 6)), x)
    assert patches is not None
    sorted_patches = net.make(Transpose((0, 2, 1, 3)), patches)
    assert sorted_patches is not None
    flat = net.make(Reshape((16, 12)), sorted_patches)
    assert flat is not None
    net.live.clear()
    if weights.chance(0.7):
        first = net.make(weights.linear(12, 8), flat)
    else:
        padding = int(weights.rng.integers(2))
        first = net.make(weights.convolution(3, 8, 3, stride=2, padding=padding), x)
    assert first is not None
    if weights.chance(0.2):
        net.live.append(flat)
    for _ in range(steps):
        net.step()
    count = int(weights.rng.integers(1, 4))
    ends = net.live[-1:] + [net.pick() for _ in range(count - 1)]
    outputs = {f"output{number}": value for number, value in enumerate(dict.fromkeys(ends))}
    return net.net.network(outputs, PREPROCESSING)
