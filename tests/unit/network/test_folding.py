"""Moves that bring numbers back to where they were leave no step, and all others stay."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.networks import Random
from vitedge.network.evaluate import evaluate
from vitedge.network.folding import without_undone_moves
from vitedge.network.operators import Operator, Reshape, Transpose

BACK_AND_FORTH = [
    [Reshape((64, 12)), Transpose((1, 0)), Reshape((12, 8, 8)), Transpose((1, 2, 0))],
    [Transpose((2, 0, 1)), Transpose((1, 2, 0))],
    [Transpose((1, 0, 2)), Transpose((1, 0, 2))],
    [Reshape((4, 2, 96)), Reshape((8, 8, 12))],
    [Reshape((8, 8, 12))],
]

ELSEWHERE = [
    # Rows and columns have changed places, which the shape does not tell.
    [Transpose((1, 0, 2))],
    [Transpose((2, 1, 0)), Reshape((8, 8, 12))],
    [Reshape((64, 12)), Transpose((1, 0)), Reshape((8, 8, 12))],
]


@pytest.mark.parametrize(
    ("moves", "are_undone"),
    [*((each, True) for each in BACK_AND_FORTH), *((each, False) for each in ELSEWHERE)],
)
def test_moves_that_undo_one_another_are_left_out(moves: list[Operator], are_undone: bool) -> None:
    made = Random(31)
    source = x = made.convolution("made", made.image(16), 12, (2, 2), strides=(2, 2))
    for number, move in enumerate(moves):
        x = made.net(f"move{number}", move, x)
    behind = made.convolution("behind", x, 4, (3, 3))
    network = made.network(map=behind, moved=x, made=source)
    found = without_undone_moves(network)
    left = [each for each in found.values if isinstance(each.operator, Reshape | Transpose)]
    assert len(left) == (0 if are_undone else len(moves))
    assert (found.outputs["moved"] is found.outputs["made"]) == are_undone
    pixels = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3)).astype(np.uint8)
    wanted = evaluate(network, pixels)
    for name, each in evaluate(found, pixels).items():
        np.testing.assert_array_equal(each, wanted[name])


def test_what_others_read_on_the_way_stays() -> None:
    made = Random(32)
    source = made.convolution("made", made.image(16), 12, (2, 2), strides=(2, 2))
    turned = made.net("turned", Transpose((2, 0, 1)), source)
    back = made.net("back", Transpose((1, 2, 0)), turned)
    network = made.network(map=made.convolution("behind", back, 4, (3, 3)), turned=turned)
    found = without_undone_moves(network)
    assert "back" not in {each.name for each in found.values}
    assert found.outputs["turned"].shape == (12, 8, 8)
    assert without_undone_moves(found) is found
