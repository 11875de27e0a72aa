"""Ranges that are searched: what they cut off, and what that is worth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from vitedge.vit import forward

from tests.models import random_images, random_vit
from vitedge.quantize import Activations, Range, Recipe
from vitedge.quantize.calibrate import calibrate
from vitedge.quantize.ranges import fake_quantized, least_costly_range
from vitedge.quantize.recipe import Quantized, quantize
from vitedge.quantize.simulate import simulate, with_integer_weights
from vitedge.quantize.trace import trace
from vitedge.rewrite import apply_rewrites
from vitedge.spec import Precision

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
    vit, _ = apply_rewrites(random_vit())
    images = random_images(vit, 32)
    blocks = [replace(block, q=replace(block.q, weight=4 * block.q.weight)) for block in vit.blocks]
    vit = replace(vit, blocks=tuple(blocks))
    return quantize(vit, Precision.INT8_STATIC, calibrate(vit, images), images=lambda: iter(images))


class TestRangesOfAnIntegerGraph:
    def test_are_shorter_than_what_was_seen_where_that_is_better(self, decided):
        whole, found = whole_ranges(decided), decided.recipe.tensors
        shorter = [
            name for name in whole if found[name].high - found[name].low < width(whole[name])
        ]
        kinds = {name.rpartition(".")[2].rpartition("/")[2] for name in shorter}
        assert {"q", "k", "v", "mixed_low"} & kinds
        softened = "scores" if decided.vit.config.attention_scale == 1 else "scaled"
        for index in range(decided.vit.config.depth):
            name = f"blocks.{index}/{softened}"
            # Clipped above, the largest share would change; far below all shares are 0.
            assert found[name].high == pytest.approx(whole[name].high)
            assert found[name].low > 0.9 * whole[name].low

    def test_leave_less_error_than_all_that_was_seen(self, decided):
        images = random_images(decided.vit, 32, seed=2)
        wanted = forward(decided.vit, images)

        def error(recipe: Recipe) -> float:
            found = simulate(decided.vit, recipe, images, activations=Activations.STATIC)
            return float(np.square(found - wanted).sum())

        recipe = decided.recipe
        unsearched = replace(recipe, tensors={**recipe.tensors, **whole_ranges(decided)})
        assert error(recipe) < error(unsearched)


def whole_ranges(quantized: Quantized) -> dict[str, Range]:
    """Of all 8-bit tensors whose range is searched, but for those that activations read."""
    seen: dict[str, Range] = {}

    def made(name: str, x: np.ndarray, narrow: bool) -> np.ndarray:
        if narrow and name.endswith(_SEARCHED):
            seen[name] = Range(min(0.0, float(x.min())), max(0.0, float(x.max())))
        return x

    vit = with_integer_weights(quantized.vit, quantized.recipe)
    trace(vit, random_images(vit, 32), made, lambda _name, x: x)
    return seen


def width(covered: Range) -> float:
    return covered.high - covered.low
