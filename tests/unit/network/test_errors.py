"""What a network does not take, and what rebuilding one leaves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.support.random_networks import Plan, assembled_network
from tests.support.random_weights import PREPROCESSING, SIDE, Weights
from vitedge.network.network import Builder, Network, Value, map_linears, rebuilt, with_operators
from vitedge.network.operators import (
    Add,
    Concatenate,
    Constant,
    Linear,
    Mean,
    Multiply,
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
GROUPED = MAKE.convolution(4, 6, 3, groups=2)
NORM = MAKE.norm(6)
POOL = Pool(PoolKind.AVERAGE, (3, 2))


def constant(*shape: int) -> Value:
    return Value("x", Constant(np.zeros(shape, np.float32)))


@pytest.mark.parametrize(
    ("operator", "shapes", "words"),
    [
        (LINEAR, ((3, 5),), "6 inputs cannot read"),
        (Linear(LINEAR.weight, LINEAR.bias[:-1]), ((3, 6),), "bias"),
        (GROUPED, ((5, 6, 3),), "cannot read"),
        (GROUPED, ((6, 4),), "cannot read"),
        (NORM, ((3, 5),), "norms"),
        (Add(), ((3, 4), (2, 4)), "broadcast"),
        (Multiply(), ((3, 4), (3,)), "broadcast"),
        (Product(), ((3, 4), (3, 4)), "times"),
        (Product(transposed=True), ((2, 3, 4), (3, 3, 4)), "times"),
        (Reshape((5,)), ((2, 3),), "is no"),
        (Transpose((0, 1)), ((2, 3, 4),), "axes"),
        (Take(0, (3,)), ((3, 2),), "places"),
        (Take(2, (0,)), ((3, 2),), "no axis 2"),
        (Concatenate(0), ((3, 2), (3, 3)), "behind"),
        (Mean(2), ((3, 2),), "no axis 2"),
        (POOL, ((3, 2),), "pool cannot read"),
        (Pool(PoolKind.MAX, (9, 9)), ((5, 5, 2),), "does not fit into"),
        (Pool(PoolKind.MAX, (2, 2), (1, 1), ((2, 0), (0, 0))), ((5, 5, 2),), "padding"),
        (Resize(0, 3, ResizeKind.NEAREST), ((5, 5, 2),), "resized"),
        (Standardize((0.5,), (0.5,)), ((4, 4, 3),), "mean a channel"),
        (Softmax(), (), "shape_of"),
    ],
    ids=lambda each: str(each) if isinstance(each, str) else "",
)  # fmt: skip
def test_an_operator_that_cannot_read_its_inputs_is_refused_by_name(
    operator: Operator, shapes: tuple[tuple[int, ...], ...], words: str
) -> None:
    with pytest.raises(ValueError, match=f"'made' .*{words}"):
        Value("made", operator, tuple(constant(*shape) for shape in shapes))


def test_live_values_of_fewer_axes_are_not_added() -> None:
    """The batch axis would come to stand in the wrong place."""
    net = Builder()
    rows = net("rows", Reshape((SIDE * SIDE, 3)), net("pixels", Pixels(SIDE, SIDE, 3)))
    with pytest.raises(ValueError, match="same number of axes"):
        net("sum", Add(), rows, net("mean", Mean(0), rows))


def pixel_values() -> tuple[Value, Value]:
    pixels = Value("pixels", Pixels(SIDE, SIDE, 3))
    return pixels, Value("rows", Reshape((SIDE * SIDE, 3)), (pixels,))


def test_a_network_is_in_order_and_its_names_differ() -> None:
    pixels, rows = pixel_values()
    with pytest.raises(ValueError, match="'rows' stands before"):
        Network((rows, pixels), {"rows": rows}, PREPROCESSING)
    twin = Value("rows", Reshape((3, SIDE * SIDE)), (pixels,))
    with pytest.raises(ValueError, match="two values are named 'rows'"):
        Network((pixels, rows, twin), {"rows": rows}, PREPROCESSING)


def test_a_network_has_outputs_and_the_pixels_of_one_image() -> None:
    pixels, rows = pixel_values()
    for outputs in ({}, {"other": constant(2)}):
        with pytest.raises(ValueError, match="output is not a value"):
            Network((pixels, rows), outputs, PREPROCESSING)
    x = constant(2)
    with pytest.raises(ValueError, match="one image"):
        Network((x,), {"x": x}, PREPROCESSING)
    with pytest.raises(ValueError, match="preprocessing makes"):
        Network((pixels, rows), {"rows": rows}, replace(PREPROCESSING, size=(4, 4)))


def test_there_is_a_label_for_each_of_the_logits() -> None:
    pixels, rows = pixel_values()
    net = replace(assembled_network(0), labels=("a", "b", "c", "d", "e"))
    assert net.classes == 5
    with pytest.raises(ValueError, match="2 labels for 5 classes"):
        replace(net, labels=("a", "b"))
    with pytest.raises(ValueError, match="1 labels for 3 classes"):
        Network((pixels, rows), {"rows": rows}, PREPROCESSING, ("a",))


# --- rebuilding


def test_a_network_that_nothing_changed_in_is_the_same_network() -> None:
    network = assembled_network(0)
    assert rebuilt(network, lambda value, inputs: None) is network
    assert with_operators(network, {}) is network
    assert map_linears(network, lambda name, layer: layer) is network


def test_what_no_output_needs_any_more_is_left_out() -> None:
    network = assembled_network(0, Plan())
    fixed = Value("fixed", Constant(np.zeros(5, np.float32)))
    changed = rebuilt(network, lambda value, inputs: fixed if value is network.logits else None)
    assert changed.values == (network.pixels, fixed)
    assert changed.logits is fixed


def test_counts_are_those_of_the_operators() -> None:
    net = Builder()
    x = net("pixels", Pixels(SIDE, SIDE, 3))
    x = net("convolution", MAKE.convolution(3, 4, 3, stride=2, padding=1), x)
    x = net("rows", Reshape((16, 4)), x)
    y = net("layer", MAKE.linear(4, 6), x)
    y = net("scores", Product(transposed=True), y, y)
    scaled = net("scaled", Multiply(), y, net("by", Constant(np.asarray(0.5))))
    network = net.network({"scaled": scaled}, PREPROCESSING)
    assert network.parameters == 3 * 3 * 3 * 4 + 4 + 4 * 6 + 6
    assert network.macs == 16 * (3 * 3 * 3 * 4) + 16 * 4 * 6 + 16 * 16 * 6
