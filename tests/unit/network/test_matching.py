"""Which tokens become one, found by the definition, token by token."""

from __future__ import annotations

import numpy as np
import pytest

from vitedge.network.evaluate import computed
from vitedge.network.network import Value
from vitedge.network.numerics import softmax
from vitedge.network.operators import Constant, Count, Match, Merge, Softmax

RNG = np.random.default_rng(0)


def unit_vectors(tokens: int, width: int = 5) -> np.ndarray:
    x = RNG.standard_normal((2, tokens, width))
    return (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(np.float32)


def of(operator: Match | Merge | Count | Softmax, *inputs: np.ndarray) -> np.ndarray:
    sources = tuple(Value(f"x{at}", Constant(each[0])) for at, each in enumerate(inputs))
    made = computed(Value("made", operator, sources), list(inputs), np.zeros((2, 1, 1, 3)))
    assert made.dtype == np.float32
    return made


def groups(matrix: np.ndarray) -> list[set[int]]:
    return [set(np.flatnonzero(row).tolist()) for row in matrix]


@pytest.mark.parametrize(("tokens", "merged", "fixed"), [(12, 3, 0), (13, 4, 1), (9, 3, 2)])
def test_the_most_similar_pairs_are_merged(tokens: int, merged: int, fixed: int) -> None:
    x = unit_vectors(tokens)
    matrix = of(Match(merged, fixed), x)
    assert matrix.shape == (2, tokens - merged, tokens)
    for image, found in zip(x, matrix, strict=True):
        best = {}
        for one in range(fixed, tokens, 2):
            scores = {other: image[one] @ image[other] for other in range(fixed + 1, tokens, 2)}
            partner = max(scores, key=scores.__getitem__)
            best[one] = partner, scores[partner]
        order = sorted(best, key=lambda one: -best[one][1])
        into = {other: {other} for other in range(fixed + 1, tokens, 2)}
        for one in order[:merged]:
            into[best[one][0]].add(one)
        expected = [{each} for each in [*range(fixed), *order[merged:]]] + list(into.values())
        assert groups(found) == expected


def test_tokens_that_are_all_alike_are_merged_all_the_same() -> None:
    matrix = of(Match(3, 1), np.ones((2, 9, 4), np.float32) / 2)
    np.testing.assert_array_equal(matrix.sum(axis=1), 1)
    assert (matrix.sum(axis=2) >= 1).all()


def test_means_and_counts_are_those_of_the_tokens_there_were() -> None:
    """Merging twice counts each of the first tokens once."""
    first = RNG.standard_normal((2, 14, 6)).astype(np.float32)
    one, two = of(Match(4, 1), unit_vectors(14)), of(Match(3, 1), unit_vectors(10))
    ones = np.ones((2, 14, 1), np.float32)
    counts = of(Count(), one, ones)
    made = of(Merge(), two, of(Merge(), one, first, ones), counts)
    together = two @ one
    expected = together @ first / together.sum(axis=2, keepdims=True)
    np.testing.assert_allclose(made, expected, atol=1e-6)
    np.testing.assert_array_equal(of(Count(), two, counts)[..., 0], together.sum(axis=2))


def test_a_place_that_counts_twice_is_as_good_as_two() -> None:
    scores = RNG.standard_normal((2, 3, 4, 5)).astype(np.float32)
    counts = np.asarray([1, 2, 1, 3, 1], np.float32)
    found = of(Softmax(), scores, np.tile(counts[:, None], (2, 1, 1)))
    many = softmax(np.repeat(scores, counts.astype(int), axis=-1))
    starts = np.cumsum([0, *counts[:-1]]).astype(int)
    np.testing.assert_allclose(found, np.add.reduceat(many, starts, axis=-1), atol=1e-6)


@pytest.mark.parametrize(
    ("operator", "shapes"),
    [
        (Match(5), [(8, 4)]),
        (Match(0), [(8, 4)]),
        (Match(-1), [(8, 4)]),
        (Match(1, -1), [(8, 4)]),
        (Match(1, 7), [(8, 4)]),
        (Match(1), [(2, 8, 4)]),
        (Merge(), [(6, 8), (7, 4), (8, 1)]),
        (Merge(), [(6, 8), (8, 4), (8,)]),
        (Merge(), [(6, 8), (8, 4)]),
        (Count(), [(6, 8), (8, 2)]),
        (Softmax(), [(3, 8), (7, 1)]),
        (Softmax(), [(3, 8), (1, 8)]),
    ],
)
def test_what_does_not_fit_is_refused(
    operator: Match | Merge | Count | Softmax, shapes: list[tuple[int, ...]]
) -> None:
    inputs = tuple(Value(f"x{at}", Constant(np.ones(each))) for at, each in enumerate(shapes))
    with pytest.raises(ValueError, match="does not fit"):
        Value("made", operator, inputs)
