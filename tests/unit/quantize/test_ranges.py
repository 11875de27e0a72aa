"""Ranges that are searched: what they cut off, and what that is worth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.support.models import random_images, random_network
from vitedge.network.evaluate import forward
from vitedge.network.network import map_linears
from vitedge.network.operators import Linear
from vitedge.quantize import Activations, Range, Recipe
from vitedge.quantize.calibrate import calibrate
from vitedge.quantize.ranges import fake_quantized, least_costly_range
from vitedge.quantize.recipe import Quantized, quantize
from vitedge.quantize.simulate import simulate, with_integer_weights
from vitedge.quantize.trace import Tensor, trace
from vitedge.rewrite import apply_rewrites
from vitedge.targets.precisions import Precision

_SEARCHED = (".q", ".k", ".v", "/scores", "/scaled", "/mixed_high", "/mixed_low")


def squared_error(x: np.ndarray, covered: Range) -> float:
    return float(np.square(fake_quantized(x, covered) - x).sum())


class TestLeastCostlyRange:
    @pytest.mark.parametrize("sign", [1, -1])
    def test_cuts_off_what_is_hardly_ever_seen(self, sign):
        seen, other = np.random.default_rng(0).standard_normal((2, 4000, 64)).astype(np.float32)
        seen[7, 7] = sign * 10
        whole = Range(float(seen.min()), float(seen.max()))
        found = least_costly_range(whole, seen, np.float32(1.0))
        assert max(-found.low, found.high) < 10
        assert squared_error(other, found) < squared_error(other, whole)

    def test_keeps_what_its_reader_looks_at(self):
        x = np.random.default_rng(0).standard_normal((400, 64)).astype(np.float32)
        x[:, 5] *= 20
        whole = Range(float(x.min()), float(x.max()))
        weights = np.ones(64, np.float32)
        weights[5] = 0
        blind = least_costly_range(whole, x, weights)
        assert blind.high == pytest.approx(0.4 * whole.high)
        weights[5] = 1000
        looking = least_costly_range(whole, x, weights)
        assert looking.high > 0.6 * whole.high

    def test_takes_the_whole_range_of_evenly_spread_numbers(self):
        x = np.linspace(-1, 1, 6400, dtype=np.float32).reshape(100, 64)
        found = least_costly_range(Range(-1.0, 1.0), x, np.float32(1.0))
        assert (found.low, found.high) == (-1.0, 1.0)


@pytest.fixture(scope="module")
def decided() -> Quantized:
    """A model with large queries: its lowest scores are far below the others."""
    network, _ = apply_rewrites(random_network())
    images = random_images(network, 32)

    def larger(name: str, layer: Linear) -> Linear:
        return replace(layer, weight=4 * layer.weight) if name.endswith(".q") else layer

    network = map_linears(network, larger)
    statistics = calibrate(network, images)
    return quantize(network, Precision.INT8_STATIC, statistics, images=lambda: iter(images))


class TestRangesOfAnIntegerGraph:
    def test_are_shorter_than_what_was_seen_where_that_is_better(self, decided):
        whole, found = whole_ranges(decided), decided.recipe.tensors
        shorter = [
            name for name in whole if found[name].high - found[name].low < width(whole[name])
        ]
        kinds = {name.rpartition(".")[2].rpartition("/")[2] for name in shorter}
        assert {"q", "k", "v", "mixed_low"} & kinds
        for index in range(2):
            name = f"blocks.{index}/scores"
            # Clipped above, the largest share would change; far below all shares are 0.
            assert found[name].high == pytest.approx(whole[name].high)
            assert found[name].low > 0.9 * whole[name].low

    def test_leave_less_error_than_all_that_was_seen(self, decided):
        images = random_images(decided.network, 32, seed=2)
        wanted = forward(decided.network, images)

        def error(recipe: Recipe) -> float:
            found = simulate(decided.network, recipe, images, activations=Activations.STATIC)
            return float(np.square(found - wanted).sum())

        recipe = decided.recipe
        unsearched = replace(recipe, tensors={**recipe.tensors, **whole_ranges(decided)})
        assert error(recipe) < error(unsearched)


def whole_ranges(quantized: Quantized) -> dict[str, Range]:
    """Of all 8-bit tensors whose range is searched, but for those that activations read."""
    seen: dict[str, Range] = {}

    def made(tensor: Tensor, x: np.ndarray) -> np.ndarray:
        if tensor.narrow and tensor.name.endswith(_SEARCHED):
            seen[tensor.name] = Range(min(0.0, float(x.min())), max(0.0, float(x.max())))
        return x

    network = with_integer_weights(quantized.network, quantized.recipe)
    trace(network, random_images(network, 32), made, lambda _name, x: x)
    return seen


def width(covered: Range) -> float:
    return covered.high - covered.low
