"""Integers of weights: all of the grid is used, and nothing beyond it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitedge.quantize import IntegerWeight
from vitedge.quantize.rounding import feedback, refitted, round_with_feedback
from vitedge.quantize.weights import searched_groups, searched_scale
from vitedge.rewrite.learnt_grid import INTEGER_LIMITS, Groups

FINE = Groups(16, zero_points=True)


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
    rounded = rounded_in_groups(weight, FINE)
    assert rounded.zero is not None
    assert rounded.zero.shape == rounded.scale.shape == (inputs // rounded.group, 8)
    assert (np.abs(rounded.zero.astype(int) + 0.5) <= 7.5).all()
    np.testing.assert_array_equal(rounded.scale.astype(np.float16), rounded.scale)
    # Fifteen steps reach from the lowest weight to the highest and to zero.
    step = (max(weight.max(), 0) - min(weight.min(), 0)) / 15
    assert np.square(rounded.dequantized() - weight).mean() <= 1.01 * (step / 2) ** 2


def squared_error(weight: np.ndarray, groups: Groups) -> float:
    return float(np.square(rounded_in_groups(weight, groups).dequantized() - weight).sum())


@given(seed=st.integers(0, 999), shift=st.sampled_from([0.0, 0.5, 2.0]))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_a_zero_point_rounds_better_the_less_symmetric_weights_are(seed: int, shift: float) -> None:
    weight = random_weight(seed) + np.float32(shift)
    ratio = squared_error(weight, FINE) / squared_error(weight, Groups(16))
    assert ratio < {0.0: 1.0, 0.5: 1.0, 2.0: 0.7}[shift]


@given(seed=st.integers(0, 999))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_a_range_that_clips_beats_one_from_the_lowest_to_the_highest(seed: int) -> None:
    weight = np.random.default_rng(seed).standard_normal((64, 64)).astype(np.float32)
    parts = weight.reshape(4, 16, 64)
    low = np.minimum(parts.min(axis=1, keepdims=True), 0)
    step = (np.maximum(parts.max(axis=1, keepdims=True), 0) - low) / 15
    zero = np.rint(low / step)
    plain = (np.clip(np.rint(parts / step) - zero, 0, 15) + zero) * step
    assert squared_error(weight, FINE) < 0.985 * np.square(plain - parts).sum()


@pytest.mark.parametrize("groups", [Groups(16), FINE], ids=["symmetric", "zero points"])
@pytest.mark.parametrize("size", [0.0, 1e-9, 1e-30, 1e7], ids=str)
def test_weights_that_half_precision_cannot_scale_spoil_no_others(
    groups: Groups, size: float
) -> None:
    weight = random_weight(3)
    odd = np.random.default_rng(0).standard_normal(16).astype(np.float32) * np.float32(size)
    odd[3] = 0
    weight[:16, 2] = odd
    samples = np.random.default_rng(1).standard_normal((64, 32)).astype(np.float32)
    known = feedback(samples.T @ samples + 32 * np.eye(32, dtype=np.float32))
    scale, zero = searched_groups(weight, INTEGER_LIMITS[4], np.ones(32), groups)
    assert (scale > 0).all()
    assert np.isfinite(scale).all()
    integers = round_with_feedback(weight, known, scale, zero, bits=4)
    rounded = IntegerWeight(integers, scale, bits=4, zero=zero).dequantized()
    others = np.delete(np.arange(16), 2)
    assert np.abs(rounded - weight)[:, others].max() < 2
    if size < 1:
        assert np.abs(rounded[:16, 2]).max() < 1e-6
        assert np.abs(rounded - weight)[16:, 2].max() < 2


@given(seed=st.integers(0, 999), size=st.sampled_from([16, 32]), has_zero=st.booleans())
@settings(max_examples=40, deadline=None, derandomize=True)
def test_refitted_scales_leave_less_error_and_keep_the_integers(
    seed: int, size: int, has_zero: bool
) -> None:
    weight = random_weight(seed)
    samples = np.random.default_rng(seed).standard_normal((64, 32)).astype(np.float32)
    known = feedback(samples.T @ samples)
    groups = Groups(size, has_zero)
    scale, zero = searched_groups(weight, INTEGER_LIMITS[4], np.ones(32), groups)
    integers = round_with_feedback(weight, known, scale, zero, bits=4)
    before = IntegerWeight(integers, scale, bits=4, zero=zero)
    after = refitted(before, weight, known)
    np.testing.assert_array_equal(after.values, before.values)
    assert after.zero is before.zero
    np.testing.assert_array_equal(after.scale.astype(np.float16), after.scale)

    def errors(rounded: IntegerWeight) -> np.ndarray:
        off = (rounded.dequantized() - weight).astype(float)
        found: np.ndarray = (off * (known.hessian @ off)).sum(axis=0)
        return found

    # A scale of half precision may be a two-thousandth off the best.
    assert (errors(after) <= errors(before) * 1.001).all()
    assert errors(after).sum() < 0.99 * errors(before).sum()


def test_zero_points_belong_beside_scales_of_4_bit_weights() -> None:
    values, scale = np.zeros((32, 4), np.int8), np.ones((2, 4), np.float32)
    for bits, shape in ((8, scale.shape), (4, (1, 4))):
        with pytest.raises(ValueError, match="zero points"):
            IntegerWeight(values, scale, bits, np.zeros(shape, np.int8))


@pytest.mark.parametrize("bits", INTEGER_LIMITS)
def test_feedback_stays_on_the_grid_and_reaches_its_ends(bits: int) -> None:
    low, high = INTEGER_LIMITS[bits]
    weight = random_weight(0)
    samples = np.random.default_rng(1).standard_normal((64, 32)).astype(np.float32)
    known = feedback(samples.T @ samples)
    scale = np.abs(weight).max(axis=0) / np.float32(2 * high)  # half of the range is clipped
    integers = round_with_feedback(weight, known, scale, bits=bits)
    assert (integers.min(), integers.max()) == (low, high)


def test_without_correlations_feedback_is_plain_rounding() -> None:
    weight = random_weight(2)
    scale = searched_scale(weight, 127)
    known = feedback(np.diag(np.arange(1, 33)).astype(np.float32))
    expected = np.clip(np.rint(weight / scale), -127, 127)
    np.testing.assert_array_equal(round_with_feedback(weight, known, scale), expected)
