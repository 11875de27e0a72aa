"""Integers of weights: all of the grid is used, and nothing beyond it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitedge.quantize import Groups, IntegerWeight
from vitedge.quantize.rounding import feedback_factor, round_with_feedback
from vitedge.quantize.weights import searched_groups, searched_scale
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


def rounded_in_groups(weight: np.ndarray, groups: Groups) -> IntegerWeight:
    """Plain rounding on the grid that is found when all inputs count alike."""
    low, high = INTEGER_LIMITS[4]
    scale, zero = searched_groups(weight, (low, high), np.ones(len(weight)), groups)
    size = groups.size_of(len(weight))
    zeros = np.zeros_like(scale, np.int8) if zero is None else zero
    steps = np.rint(weight / np.repeat(scale, size, axis=0)) + np.repeat(zeros, size, axis=0)
    return IntegerWeight(np.clip(steps, low, high).astype(np.int8), scale, bits=4, zero=zero)


@given(seed=st.integers(0, 999), inputs=st.sampled_from([16, 24, 64]), shift=st.floats(-9, 9))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_zero_points_and_scales_are_what_files_hold_and_leave_half_a_step(
    seed: int, inputs: int, shift: float
) -> None:
    weight = np.random.default_rng(seed).uniform(shift - 1, shift + 1, (inputs, 8))
    weight = weight.astype(np.float32)
    rounded = rounded_in_groups(weight, Groups(16, zero_points=True))
    assert rounded.zero is not None
    assert rounded.zero.shape == rounded.scale.shape == (inputs // rounded.group, 8)
    assert (np.abs(rounded.zero.astype(int) + 0.5) <= 7.5).all()
    np.testing.assert_array_equal(rounded.scale.astype(np.float16), rounded.scale)
    # Fifteen steps reach from the lowest weight to the highest and to zero.
    step = (max(weight.max(), 0) - min(weight.min(), 0)) / 15
    assert np.square(rounded.dequantized() - weight).mean() <= 1.01 * (step / 2) ** 2


@given(seed=st.integers(0, 999), shift=st.sampled_from([0.0, 0.5, 2.0]))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_a_zero_point_rounds_better_the_less_symmetric_weights_are(seed: int, shift: float) -> None:
    weight = random_weight(seed) + np.float32(shift)

    def error(groups: Groups) -> float:
        return float(np.square(rounded_in_groups(weight, groups).dequantized() - weight).sum())

    ratio = error(Groups(16, zero_points=True)) / error(Groups(16))
    assert ratio < {0.0: 1.0, 0.5: 1.0, 2.0: 0.7}[shift]


def test_a_group_of_zeros_stays_zero() -> None:
    weight = random_weight(3)
    weight[:16, 2] = 0
    for groups in (Groups(16), Groups(16, zero_points=True)):
        assert not rounded_in_groups(weight, groups).dequantized()[:16, 2].any()


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
