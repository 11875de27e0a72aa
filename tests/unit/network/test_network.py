"""What each operator computes, by NumPy's own formulas, and what a network does not take."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest

from tests.support.models import random_network
from tests.support.random_networks import assembled_network
from tests.support.random_weights import PREPROCESSING, SIDE, Weights, random_pixels
from vitedge.network.evaluate import computed, evaluate
from vitedge.network.kinds import Activation, NormKind
from vitedge.network.network import Builder, Value
from vitedge.network.operators import (
    Activate,
    Add,
    Array,
    Concatenate,
    Constant,
    Convolution,
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

MAKE = Weights(np.random.default_rng(0))
LINEAR = MAKE.linear(6, 4)
GROUPED = replace(MAKE.convolution(4, 6, 3, groups=2, stride=2), padding=((1, 0), (2, 1)))
NORMS = {kind: MAKE.norm(6, kind) for kind in NormKind}


@dataclass(frozen=True)
class Case:
    """An operator, the shapes that it reads, and what it computes of one image in float64."""

    id: str
    operator: Operator
    shapes: tuple[tuple[int, ...], ...]
    formula: Callable[..., np.ndarray]


def normed(norm: Norm) -> Callable[[np.ndarray], np.ndarray]:
    def formula(x: np.ndarray) -> np.ndarray:
        if norm.kind is NormKind.LAYER:
            deviation = np.sqrt(x.var(-1, keepdims=True) + norm.eps)
            return (x - x.mean(-1, keepdims=True)) / deviation * norm.gamma + norm.beta
        squares = np.square(x)
        size = squares.mean(-1) if norm.kind is NormKind.RMS else squares.sum(-1)
        return x / np.sqrt(size + norm.eps)[..., None] * norm.gamma + norm.beta

    return formula


def slid(x: np.ndarray, layer: Convolution | Pool, size: tuple[int, int], fill: float):
    """Each place of a sliding window, and what it sees."""
    padded = np.pad(x, (*layer.padding, (0, 0)), constant_values=fill)
    down, across = layer.strides
    for row in range((padded.shape[0] - size[0]) // down + 1):
        for column in range((padded.shape[1] - size[1]) // across + 1):
            top, left = row * down, column * across
            yield (row, column), padded[top : top + size[0], left : left + size[1]]


def convolved(x: np.ndarray) -> np.ndarray:
    made: dict[tuple[int, int], np.ndarray] = {}
    for place, seen in slid(x, GROUPED, (3, 3), 0.0):
        outputs = []
        for output in range(6):
            channels = slice(0, 2) if output < 3 else slice(2, 4)
            outputs.append((seen[..., channels] * GROUPED.weight[..., output]).sum())
        made[place] = np.array(outputs) + GROUPED.bias
    return stacked(made)


def stacked(made: dict[tuple[int, int], np.ndarray]) -> np.ndarray:
    rows, columns = (max(place[axis] for place in made) + 1 for axis in (0, 1))
    return np.array([[made[row, column] for column in range(columns)] for row in range(rows)])


def pooled(pool: Pool) -> Callable[[np.ndarray], np.ndarray]:
    def formula(x: np.ndarray) -> np.ndarray:
        take = np.nanmax if pool.kind is PoolKind.MAX else np.nanmean
        return stacked(
            {place: take(seen, axis=(0, 1)) for place, seen in slid(x, pool, (3, 2), np.nan)}
        )

    return formula


def resized(kind: ResizeKind) -> Callable[[np.ndarray], np.ndarray]:
    """Five rows to four, three columns to seven, place by place."""

    def along(size: int, new: int, place: int) -> list[tuple[int, float]]:
        if kind is ResizeKind.BILINEAR_CORNERS:
            where = place * (size - 1) / (new - 1)
        else:
            where = (place + 0.5) * size / new - 0.5
        if kind is ResizeKind.NEAREST:
            return [(math.floor((place + 0.5) * size / new), 1.0)]
        where = min(max(where, 0.0), size - 1.0)
        low = math.floor(where)
        return [(low, 1 - where + low), (min(low + 1, size - 1), where - low)]

    def formula(x: np.ndarray) -> np.ndarray:
        made = np.zeros((4, 7, x.shape[2]))
        for row, column in np.ndindex(4, 7):
            for old_row, share in along(5, 4, row):
                for old_column, other in along(3, 7, column):
                    made[row, column] += share * other * x[old_row, old_column]
        return made

    return formula


ACTIVATIONS: dict[Activation, Callable[[float], float]] = {
    Activation.GELU: lambda x: x * (1 + math.erf(x / math.sqrt(2))) / 2,
    Activation.GELU_TANH: lambda x: (
        x / 2 * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    ),
    Activation.QUICK_GELU: lambda x: x / (1 + math.exp(-1.702 * x)),
    Activation.RELU: lambda x: max(x, 0.0),
    Activation.RELU6: lambda x: min(max(x, 0.0), 6.0),
    Activation.HARD_SWISH: lambda x: x * min(max(x + 3, 0), 6) / 6,
    Activation.SIGMOID: lambda x: 1 / (1 + math.exp(-x)),
    Activation.SILU: lambda x: x / (1 + math.exp(-x)),
    Activation.TANH: math.tanh,
}

AVERAGE, LARGEST = (
    Pool(kind, (3, 2), (2, 1), ((1, 2), (1, 0))) for kind in (PoolKind.AVERAGE, PoolKind.MAX)
)

CASES = [
    Case("linear", LINEAR, ((2, 3, 6),),
         lambda x: np.einsum("abi,io->abo", x, LINEAR.weight) + LINEAR.bias),
    Case("linear of a vector", LINEAR, ((6,),), lambda x: LINEAR.weight.T @ x + LINEAR.bias),
    Case("convolution", GROUPED, ((5, 6, 4),), convolved),
    *(Case(f"{kind} norm", norm, ((3, 6),), normed(norm)) for kind, norm in NORMS.items()),
    *(Case(str(kind), Activate(kind), ((4, 5),), np.vectorize(formula))
      for kind, formula in ACTIVATIONS.items()),
    Case("sum", Add(), ((3, 1, 4), (1, 2, 4)), lambda a, b: a + b),
    Case("product of elements", Multiply(), ((3, 2, 1), (3, 2, 4)), lambda a, b: a * b),
    Case("product", Product(), ((2, 3, 4), (2, 4, 5)),
         lambda a, b: np.einsum("hij,hjk->hik", a, b)),
    Case("transposed product", Product(transposed=True), ((2, 3, 4), (2, 5, 4)),
         lambda a, b: np.einsum("hij,hkj->hik", a, b)),
    Case("softmax", Softmax(), ((3, 5),), lambda x: np.exp(x) / np.exp(x).sum(-1, keepdims=True)),
    Case("reshape", Reshape((2, 6)), ((3, 4),), lambda x: x.ravel().reshape(2, 6)),
    Case("transpose", Transpose((2, 0, 1)), ((2, 3, 4),), lambda x: np.einsum("abc->cab", x)),
    Case("take", Take(1, (3, 0, 0)), ((2, 4, 3),),
         lambda x: np.stack([x[:, 3], x[:, 0], x[:, 0]], 1)),
    Case("take of neighbours", Take(0, (1, 2)), ((4, 3),), lambda x: x[1:3]),
    Case("concatenate", Concatenate(1), ((2, 3), (2, 1), (2, 2)), lambda *x: np.hstack(x)),
    Case("mean", Mean(1), ((2, 3, 4),), lambda x: x.sum(1) / 3),
    Case("average pool", AVERAGE, ((5, 6, 3),), pooled(AVERAGE)),
    Case("max pool", LARGEST, ((5, 6, 3),), pooled(LARGEST)),
    *(Case(str(kind), Resize(4, 7, kind), ((5, 3, 2),), resized(kind)) for kind in ResizeKind),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_an_operator_computes_its_formula(case: Case) -> None:
    inputs = [MAKE.array(2, *shape) for shape in case.shapes]
    sources = [Value(f"input{number}", Constant(each[0])) for number, each in enumerate(inputs)]
    value = Value("made", case.operator, tuple(sources))
    made = computed(value, inputs, random_pixels())
    assert made.shape == (2, *value.shape)
    assert made.dtype == np.float32
    for image in range(2):
        expected = case.formula(*(each[image].astype(np.float64) for each in inputs))
        np.testing.assert_allclose(made[image], expected, atol=3e-6, rtol=1e-5)


def test_pixels_are_standardized_channel_by_channel() -> None:
    net = Builder()
    x = net("pixels", Pixels(SIDE, SIDE, 3))
    x = net("shifted", Standardize(PREPROCESSING.mean, PREPROCESSING.std), x)
    pixels = random_pixels()
    made = evaluate(net.network({"shifted": x}, PREPROCESSING), pixels)["shifted"]
    for channel, (mean, std) in enumerate(zip(PREPROCESSING.mean, PREPROCESSING.std, strict=True)):
        expected = (pixels[..., channel] / 255.0 - mean) / std
        np.testing.assert_allclose(made[..., channel], expected, atol=1e-6)


def test_constants_are_the_same_for_every_image_and_may_have_fewer_axes() -> None:
    net = Builder()
    x = net("rows", Reshape((SIDE * SIDE, 3)), net("pixels", Pixels(SIDE, SIDE, 3)))
    bias: Array = np.array([1.0, -2.0, 3.0], np.float32)
    y = net("sum", Add(), net("bias", Constant(bias)), x)
    y = net("half", Multiply(), y, net("factor", Constant(np.asarray(0.5))))
    pixels = random_pixels(n=3)
    made = evaluate(net.network({"y": y}, PREPROCESSING), pixels)["y"]
    np.testing.assert_array_equal(made, (pixels.reshape(3, -1, 3) + bias) / 2)


def test_an_observer_sees_each_layer_in_order_and_may_replace_its_input() -> None:
    network = assembled_network(0)
    pixels, seen = random_pixels(), []

    def observe(name: str, x: Array) -> Array | None:
        seen.append(name)
        return np.zeros_like(x) if name == "head" else None

    logits = evaluate(network, pixels, observe)["logits"]
    assert seen == [name for name, _ in network.named_linears()]
    head = dict(network.named_linears())["head"]
    np.testing.assert_array_equal(logits, np.tile(head.bias, (2, 1)))


def test_a_network_prints_as_what_it_takes_and_gives() -> None:
    network = random_network(image_size=(16, 16), patch_size=(4, 4), channels=3, classes=5)
    shown = repr(network)
    assert shown.startswith("<network: pixels (16, 16, 3) to logits (5,), ")
    assert f"{network.parameters:,} parameters" in shown
    assert len(shown) < 100
