"""Recipes made by ``quantize``, judged by what they do to the logits."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.models import random_images, random_network
from vitedge.errors import DataError, UsageError
from vitedge.network.evaluate import forward
from vitedge.quantize import Activations, Range
from vitedge.quantize.calibrate import calibrate
from vitedge.quantize.ranges import token_scaled_quantized
from vitedge.quantize.recipe import quantize
from vitedge.quantize.simulate import simulate
from vitedge.rewrite import apply_rewrites
from vitedge.targets.precisions import Precision


def sqnr_db(reference: np.ndarray, quantized: np.ndarray) -> float:
    return float(10 * np.log10((reference**2).sum() / ((quantized - reference) ** 2).sum()))


@pytest.mark.parametrize("activations", list(Activations))
def test_int8_keeps_the_logits_of_a_random_vit(activations: Activations) -> None:
    network, _ = apply_rewrites(random_network())
    statistics = calibrate(network, random_images(network, 32, seed=1))
    quantized = quantize(network, Precision.INT8, statistics, activations=activations)
    images = random_images(network, 16, seed=2)
    logits = simulate(quantized.network, quantized.recipe, images, activations=activations)
    # Rounding to 8 bits leaves about 40 dB per layer, and a dozen layers add up.
    assert sqnr_db(forward(network, images), logits) > 25


@pytest.mark.parametrize(
    "activations", [Activations.PER_TENSOR, Activations.STATIC_OR_TOKEN_SCALED]
)
def test_recipes_that_are_finer_where_it_matters_keep_the_logits(activations: Activations) -> None:
    network, _ = apply_rewrites(random_network())
    statistics = calibrate(network, random_images(network, 32, seed=1))
    quantized = quantize(
        network, Precision.INT8, statistics, activations=activations, costly_below_db=90.0
    )
    images = random_images(network, 16, seed=2)
    logits = simulate(quantized.network, quantized.recipe, images, activations=activations)
    # As without scaling: rounding to 8 bits leaves about 40 dB per layer.
    assert sqnr_db(forward(network, images), logits) > 25


def test_a_token_scaled_input_is_as_fine_for_small_tokens_as_for_large_ones() -> None:
    tokens = np.random.default_rng(0).standard_normal((64, 192)).astype(np.float32)
    sizes = np.geomspace(0.01, 100, 64, dtype=np.float32)[:, None]
    kept = token_scaled_quantized(tokens * sizes, Range(-1.0, 1.0), 1e-6) / sizes
    # 255 levels over twice the largest of 192 Gaussian numbers, about 3: a step of 0.024.
    assert np.abs(kept - tokens).max() < 0.02


def test_the_same_images_make_the_same_recipe() -> None:
    network, _ = apply_rewrites(random_network())

    def recipe():
        return quantize(
            network, Precision.INT8, calibrate(network, random_images(network, 9))
        ).recipe

    one, other = recipe(), recipe()
    assert one.inputs == other.inputs
    for name, weight in one.weights.items():
        np.testing.assert_array_equal(weight.values, other.weights[name].values)


def test_layers_kept_in_float_have_no_integers() -> None:
    network, _ = apply_rewrites(random_network())
    statistics = calibrate(network, random_images(network, 4))
    recipe = quantize(network, Precision.INT8, statistics, keep_float=["head"]).recipe
    assert "head" not in recipe.weights
    assert "head" not in recipe.inputs


def test_a_layer_that_is_not_there_cannot_be_kept_in_float() -> None:
    network = random_network()
    statistics = calibrate(network, random_images(network, 2))
    with pytest.raises(UsageError, match=r"no linear layer 'blocks\.9\.q'"):
        quantize(network, Precision.INT8, statistics, keep_float=["blocks.9.q"])


def test_calibration_without_images_is_refused() -> None:
    with pytest.raises(DataError, match="no images"):
        calibrate(random_network(), [])


def test_calibration_images_of_another_size_are_refused() -> None:
    with pytest.raises(DataError, match="calibration image 0 is uint8"):
        calibrate(random_network(), [np.zeros((8, 8, 3), np.uint8)])
