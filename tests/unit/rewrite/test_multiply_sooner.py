"""Layers come before what enlarges, and become one; what gains nothing by that stays."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from tests.contract.test_rewrites import TOLERANCE, relative_difference
from tests.support.networks import DIM, SIDE, Random
from vitedge.network.kinds import Activation
from vitedge.network.network import Network, Value
from vitedge.network.operators import (
    Activate,
    Add,
    Concatenate,
    Linear,
    Reshape,
    Resize,
    ResizeKind,
    Take,
    Transpose,
)
from vitedge.rewrite.multiply_sooner import PLUGIN

GRID = SIDE // 4
LARGE = 2 * GRID


class Maps(Random):
    """Images of tokens."""

    def grid(self, name: str = "image") -> Value:
        return self.net(name, Reshape((GRID, GRID, DIM)), self.tokens())

    def large(self, x: Value, name: str, kind: ResizeKind = ResizeKind.BILINEAR) -> Value:
        return self.net(name, Resize(LARGE, LARGE, kind), x)


def shapes(network: Network) -> dict[str, tuple[int, ...]]:
    """The shape that each layer makes."""
    return {value.name: value.shape for value, _ in network.linears()}


def decoder(kind: ResizeKind) -> Network:
    """As SegFormer's: images of one size and of another, each with its layer, side by side."""
    made = Maps(61)
    x = made.grid()
    small = made.large(made.linear("small", x, 6), "small/large", kind)
    middle = made.linear("middle", made.large(x, "large", ResizeKind.NEAREST), 6)
    both = made.net("both", Concatenate(2), small, middle)
    hidden = made.net("relu", Activate(Activation.RELU), made.linear("fuse", both, 10))
    return made.network(map=made.linear("head", hidden, 3))


@pytest.mark.parametrize("kind", ResizeKind)
def test_each_image_is_multiplied_in_its_own_size(kind: ResizeKind) -> None:
    network = decoder(kind)
    rewritten = PLUGIN.apply(network)
    assert shapes(rewritten) == {
        "patch": (GRID * GRID, DIM),
        "fuse/part0": (GRID, GRID, 10),
        "fuse/part1": (GRID, GRID, 10),
        "head": (LARGE, LARGE, 3),
    }
    assert relative_difference(network, rewritten) < TOLERANCE
    assert rewritten.macs < 0.8 * network.macs
    assert PLUGIN.apply(rewritten) is rewritten


def test_a_layer_comes_before_the_squares_that_pixels_become() -> None:
    made = Maps(62)
    x = made.net("relu", Activate(Activation.RELU), made.linear("grown", made.grid(), 4 * DIM))
    x = made.net("squares", Reshape((GRID, GRID, 2, 2 * DIM)), x)
    x = made.net("rows", Transpose((0, 2, 1, 3)), x)
    x = made.net("enlarged", Reshape((LARGE, LARGE, DIM)), x)
    x = made.large(x, "larger")
    for axis, name in enumerate(("top", "left")):
        x = made.net(name, Take(axis, (*range(LARGE), LARGE - 1)), x)
    network = made.network(map=made.linear("head", x, 1))
    rewritten = PLUGIN.apply(network)
    assert shapes(rewritten)["head"] == (GRID, GRID, 4, 1)
    assert relative_difference(network, rewritten) < TOLERANCE


def shown() -> Network:
    made = Maps(63)
    large = made.large(made.grid(), "large")
    return made.network(map=made.linear("head", large, DIM), large=large)


def read_twice() -> Network:
    made = Maps(64)
    large = made.large(made.grid(), "large")
    return made.network(map=made.net("sum", Add(), made.linear("head", large, DIM), large))


def made_smaller() -> Network:
    made = Maps(65)
    x = made.net("small", Resize(1, 1, ResizeKind.BILINEAR), made.grid())
    return made.network(map=made.linear("head", x, 3))


def of_low_rank() -> Network:
    made = Maps(66)
    return made.network(map=made.linear("head", made.linear("few", made.grid(), 2), DIM))


def beside_one_another() -> Network:
    """Nothing is enlarged, so a sum of layers multiplies as much."""
    made = Maps(67)
    x = made.grid()
    parts = [made.net(f"{kind}", Activate(kind), x) for kind in (Activation.RELU, Activation.GELU)]
    return made.network(map=made.linear("head", made.net("both", Concatenate(2), *parts), 3))


def of_rows_apart() -> Network:
    """The vectors that the layer reads are parts of two rows."""
    made = Maps(68)
    x = made.net("turned", Transpose((0, 2, 1)), made.large(made.grid(), "large"))
    return made.network(map=made.linear("head", x, 3))


@pytest.mark.parametrize(
    "made", [shown, read_twice, made_smaller, of_low_rank, beside_one_another, of_rows_apart]
)
def test_what_gains_nothing_stays(made: Callable[[], Network]) -> None:
    network = made()
    assert PLUGIN.apply(network) is network


def test_a_layer_that_became_one_with_another_is_not_gone_for_those_that_read_it_too() -> None:
    """The second reads what two others read, so it is made, and not a part of either."""
    made = Maps(69)
    first = made.linear("first", made.grid(), DIM)
    second = made.linear("second", first, DIM)
    network = made.network(
        map=made.linear("left", second, DIM), other=made.linear("right", second, DIM)
    )
    rewritten = PLUGIN.apply(network)
    layers = [name for name in shapes(rewritten) if name != "patch"]
    assert layers == ["second", "left", "right"]
    assert relative_difference(network, rewritten) < TOLERANCE


def test_weights_are_multiplied_in_float64() -> None:
    made = Maps(70)
    network = made.network(map=made.linear("b", made.linear("a", made.grid(), DIM), DIM))
    layers = dict(network.named_linears())
    joined = dict(PLUGIN.apply(network).named_linears())["b"]
    first, second = (layers[name].weight.astype(np.float64) for name in "ab")
    assert isinstance(joined, Linear)
    np.testing.assert_array_equal(joined.weight, (first @ second).astype(np.float32))
