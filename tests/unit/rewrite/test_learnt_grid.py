"""Weights that learnt on an integer grid stay on it, whatever is done for other weights."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.support.models import random_images, random_network
from vitedge.network.network import Network, map_linears
from vitedge.network.operators import Array, Linear
from vitedge.network.structure import is_inner
from vitedge.quantize.calibrate import calibrate
from vitedge.quantize.recipe import quantize
from vitedge.rewrite import apply_rewrites
from vitedge.rewrite.learnt_grid import (
    INTEGER_LIMITS,
    Groups,
    group_size,
    learnt_bits,
    learnt_integers,
)
from vitedge.targets.precisions import Precision


def on_grid(weight: Array, bits: int) -> Array:
    """The weight rounded to the nearest of its grid."""
    limit, outputs = 2 ** (bits - 1) - 1, weight.shape[1]
    parts = weight.reshape(-1, group_size(len(weight), bits), outputs)
    scale = (np.abs(parts).max(axis=1, keepdims=True) / limit).astype(np.float16)
    steps = scale.astype(np.float32)
    rounded: Array = np.clip(np.rint(parts / steps), -limit, limit) * steps
    return rounded.reshape(weight.shape)


def learnt_network(bits: int) -> Network:
    def learn(name: str, layer: Linear) -> Linear:
        return replace(layer, weight=on_grid(layer.weight, bits))

    return map_linears(random_network(dim=64, heads=2, mlp_dim=128), learn)


@pytest.mark.parametrize("bits", [4, 8])
class TestLearntIntegers:
    def test_stand_for_the_weight_to_the_last_bit(self, bits):
        weight = on_grid(
            np.random.default_rng(0).standard_normal((64, 12)).astype(np.float32), bits
        )
        found = learnt_integers(weight, bits)
        assert found is not None
        integers, scales = found
        assert np.abs(integers).max() <= 2 ** (bits - 1) - 1
        each = np.repeat(scales, group_size(64, bits), axis=0)
        np.testing.assert_array_equal(integers * each, weight)

    def test_are_not_found_when_one_weight_is_off(self, bits):
        weight = on_grid(
            np.random.default_rng(0).standard_normal((64, 12)).astype(np.float32), bits
        )
        weight[3, 5] *= 1.25
        assert learnt_integers(weight, bits) is None

    def test_survive_rewrites_and_quantization(self, bits):
        network = learnt_network(bits)
        assert learnt_bits(network) == bits
        rewritten, applied = apply_rewrites(network)
        # These leave inner weights alone, or multiply them by a power of two.
        assert "pooled-queries-only" in applied
        assert not {"rotate-residual", "balance-values"} & set(applied)
        precision = Precision.INT4 if bits == 4 else Precision.INT8
        statistics = calibrate(rewritten, random_images(network, 8))
        others = Groups(16, zero_points=True)  # which these weights did not learn in
        made = quantize(rewritten, precision, statistics, groups=others)
        kept = 0
        for value, layer in rewritten.linears():
            name, weight = value.name, made.recipe.weights.get(value.name)
            if is_inner(value) and weight is not None:
                np.testing.assert_array_equal(weight.dequantized(), layer.weight, err_msg=name)
                assert weight.zero is None
                assert weight.group == group_size(len(layer.weight), bits)
                kept += 1
        assert kept


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("seed", range(20))
def test_every_integer_that_a_weight_may_have_is_found(bits, seed):
    rng = np.random.default_rng(seed)
    low, high = INTEGER_LIMITS[bits]
    values = rng.integers(low, high + 1, (64, 5)).astype(np.float32)
    groups = 64 // group_size(64, bits)
    scale = (2.0**-6 * rng.uniform(0.5, 2, (groups, 5))).astype(np.float16).astype(np.float32)
    weight = values * np.repeat(scale, 64 // groups, axis=0)
    found = learnt_integers(weight, bits)
    assert found is not None
    integers, scales = found
    assert integers.min() >= low
    assert integers.max() <= high
    np.testing.assert_array_equal(integers * np.repeat(scales, 64 // groups, axis=0), weight)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e9])
def test_weights_that_half_precision_cannot_scale_are_on_no_grid(value):
    assert learnt_integers(np.full((4, 4), value, np.float32), 8) is None


def test_other_models_are_on_no_grid():
    assert learnt_bits(random_network()) is None


def test_a_half_precision_checkpoint_is_on_no_grid():
    def halve(name: str, layer: Linear) -> Linear:
        return replace(layer, weight=layer.weight.astype(np.float16).astype(np.float32))

    assert learnt_bits(map_linears(random_network(), halve)) is None
