"""Integers of weights: all of the grid is used, and nothing beyond it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitedge.quantize.rounding import feedback_factor, round_with_feedback
from vitedge.quantize.weights import searched_scale
from vitedge.rewrite.learnt_grid import INTEGER_LIMITS


def random_weight(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_t(4, (32, 16)).astype(np.float32)


@given(seed=st.integers(0, 999))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_a_sixteenth_integer_never_rounds_worse(seed: int) -> None:
    weight = random_weight(seed)

    def error(lowest: int) -> np.ndarray:
        scale = searched_scale(weight, 7, lowest=lowest)
        integers = np.clip(np.rint(weight / scale), lowest, 7)
        error: np.ndarray = np.square(integers * scale - weight).sum(axis=0)
        return error

    assert (error(-8) <= error(-7) * (1 + 1e-5)).all()


@pytest.mark.parametrize("bits", INTEGER_LIMITS)
def test_feedback_stays_on_the_grid_and_reaches_its_ends(bits: int) -> None:
    low, high = INTEGER_LIMITS[bits]
    weight = random_weight(0)
    samples = np.random.default_rng(1).standard_normal((64, 32)).astype(np.float32)
    factor = feedback_factor(samples.T @ samples)
    scale = np.abs(weight).max(axis=0) / np.float32(2 * high)  # half of the range is clipped
    integers = round_with_feedback(weight, factor, scale, bits=bits)
    assert (integers.min(), integers.max()) == (low, high)


def test_without_correlations_feedback_is_plain_rounding() -> None:
    weight = random_weight(2)
    scale = searched_scale(weight, 127)
    factor = feedback_factor(np.diag(np.arange(1, 33)).astype(np.float32))
    expected = np.clip(np.rint(weight / scale), -127, 127)
    np.testing.assert_array_equal(round_with_feedback(weight, factor, scale), expected)
