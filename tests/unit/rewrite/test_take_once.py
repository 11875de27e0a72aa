"""Numbers that several steps take here and there are taken once, in runs."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.models import random_images
from tests.support.networks import DIM, HEADS, SIDE, WIDTH, Random
from vitedge.network.evaluate import evaluate
from vitedge.network.network import Network, Value
from vitedge.network.operators import (
    Concatenate,
    Constant,
    Operator,
    Product,
    Reshape,
    Softmax,
    Take,
    Transpose,
)
from vitedge.rewrite.take_once import PLUGIN

GRID = SIDE // 4
WINDOW, STEP = 3, 2
COUNT = GRID // STEP
PLACES = tuple(STEP * at + tap for tap in range(WINDOW) for at in range(COUNT))


def taken(network: Network) -> list[Value]:
    return [value for value in network.values if isinstance(value.operator, Take)]


def same(network: Network, rewritten: Network) -> bool:
    """Whether both compute the very same numbers: nothing is rounded by a move."""
    pixels = random_images(network, 2)
    before, after = evaluate(network, pixels), evaluate(rewritten, pixels)
    return all(np.array_equal(before[name], after[name]) for name in network.outputs)


def outlook(*, transposed: bool, shown: bool = False) -> Network:
    """As VOLO's attention: each window, padded and overlapping, is mixed by scores of its own."""
    made = Random(71)
    net = made.net
    x = made.tokens()
    v = net("grid", Reshape((GRID, GRID, DIM)), made.linear("v", x, DIM))
    x = net("channels_first", Transpose((2, 0, 1)), v)
    for axis in (1, 2):
        shape = tuple(1 if at == axis else size for at, size in enumerate(x.shape))
        border = net(f"border{axis}", Constant(np.zeros(shape, np.float32)))
        x = net(f"padded{axis}", Concatenate(axis), border, x)
    x = net("columns", Take(2, PLACES), rows := net("rows", Take(1, PLACES), x))
    x = net("cut", Reshape((HEADS, WIDTH, WINDOW, COUNT, WINDOW, COUNT)), x)
    windows, places = COUNT * COUNT, WINDOW * WINDOW
    if transposed:
        x = net("sorted", Transpose((0, 3, 5, 1, 2, 4)), x)
        x = net("windows", Reshape((HEADS, windows, WIDTH, places)), x)
    else:
        x = net("sorted", Transpose((0, 3, 5, 2, 4, 1)), x)
        x = net("windows", Reshape((HEADS, windows, places, WIDTH)), x)
    scores = made.constant("scores", HEADS, windows, places, places)
    mixed = net("mixed", Product(transposed), net("shares", Softmax(), scores), x)
    outputs = {"rows": rows} if shown else {}
    return made.network(mixed=mixed, **outputs)


@pytest.mark.parametrize("transposed", [False, True])
def test_windows_that_overlap_are_taken_once(transposed: bool) -> None:
    network = outlook(transposed=transposed)
    rewritten = PLUGIN.apply(network)
    (found,) = taken(rewritten)
    # A run for each head and place, and one of zeros for the border.
    assert found.inputs[0].shape == (GRID * GRID * HEADS + 1, WIDTH)
    assert not any(isinstance(value.operator, Transpose) for value in rewritten.values[5:])
    assert same(network, rewritten)
    assert PLUGIN.apply(rewritten) is rewritten


def test_what_somebody_else_reads_stays_and_is_not_counted_as_saved() -> None:
    network = outlook(transposed=True, shown=True)
    rewritten = PLUGIN.apply(network)
    assert any(value.name == "rows" for value in rewritten.values)
    assert same(network, rewritten)


def moved_by(*moves: Operator, constant: float | None = None) -> Network:
    """Tokens that some moves move, behind a row that is the same for every image."""
    made = Random(72)
    x = made.tokens()
    if constant is not None:
        row = made.net("row", Constant(np.full((1, DIM), constant, np.float32)))
        x = made.net("longer", Concatenate(0), row, x)
    for number, move in enumerate(moves):
        x = made.net(f"move{number}", move, x)
    return made.network(logits=made.linear("read", x, 3))


SIDES = (("even", tuple(range(0, GRID * GRID, 2))), ("odd", tuple(range(1, GRID * GRID, 2))))
EVERY_SECOND = tuple(range(0, GRID * GRID, 2))
LEFT_ALONE = {
    "heads": moved_by(Reshape((GRID * GRID, HEADS, WIDTH)), Transpose((1, 0, 2))),
    "rolled": moved_by(
        Take(0, (*range(3, GRID * GRID), *range(3))),
        Reshape((GRID, GRID, DIM)),
        Transpose((1, 0, 2)),
    ),
    "taken once already": moved_by(Take(0, EVERY_SECOND)),
    "one by one": moved_by(Transpose((1, 0)), Take(1, EVERY_SECOND)),
    "behind a row of ones": moved_by(
        Take(0, EVERY_SECOND), Take(0, tuple(range(0, len(EVERY_SECOND), 2))), constant=1.0
    ),
}


@pytest.mark.parametrize("network", LEFT_ALONE.values(), ids=LEFT_ALONE)
def test_what_would_gain_nothing_or_is_not_known_is_left_alone(network: Network) -> None:
    assert PLUGIN.apply(network) is network


def test_two_takes_become_one() -> None:
    fourth = Take(0, tuple(range(0, len(EVERY_SECOND), 2)))
    network = moved_by(Take(0, EVERY_SECOND), fourth, constant=0.0)
    rewritten = PLUGIN.apply(network)
    assert len(taken(rewritten)) == 1
    assert same(network, rewritten)


def test_moves_that_share_what_they_read_are_followed_once() -> None:
    """Each step would double the work, and there are forty."""
    made = Random(74)
    x, turned = made.tokens(), (*range(1, GRID * GRID), 0)
    for number in range(40):
        halves = [made.net(f"half{number}.{side}", Take(0, side_of), x) for side, side_of in SIDES]
        x = made.net(f"both{number}", Concatenate(0), *halves)
    network = made.network(logits=made.linear("read", made.net("last", Take(0, turned), x), 3))
    assert same(network, PLUGIN.apply(network))


@st.composite
def any_moves(draw: st.DrawFn) -> Network:
    """Tokens behind moves of any kind."""
    made = Random(73)
    x = made.tokens()
    for number in range(draw(st.integers(2, 6))):
        axis = draw(st.integers(0, len(x.shape) - 1))
        size = x.shape[axis]
        move: Operator
        match draw(st.sampled_from(["take", "transpose", "cut", "join", "pad"])):
            case "take":
                count = draw(st.integers(1, 12))
                places = draw(st.lists(st.integers(0, size - 1), min_size=count, max_size=count))
                move = Take(axis, tuple(places))
            case "transpose":
                move = Transpose(tuple(draw(st.permutations(range(len(x.shape))))))
            case "cut" if size % 2 == 0 and len(x.shape) < 5:
                move = Reshape((*x.shape[:axis], size // 2, 2, *x.shape[axis + 1 :]))
            case "join" if axis:
                joined = math.prod(x.shape[axis - 1 : axis + 1])
                move = Reshape((*x.shape[: axis - 1], joined, *x.shape[axis + 1 :]))
            case _:
                shape = (*x.shape[:axis], 1, *x.shape[axis + 1 :])
                zeros = made.net(f"zeros{number}", Constant(np.zeros(shape, np.float32)))
                x = made.net(f"padded{number}", Concatenate(axis), x, zeros)
                continue
        x = made.net(f"move{number}", move, x)
    return made.network(logits=made.linear("read", x, 3))


@settings(deadline=None, max_examples=200)
@given(any_moves())
def test_whatever_is_moved_ends_in_the_same_place(network: Network) -> None:
    assert same(network, PLUGIN.apply(network))
