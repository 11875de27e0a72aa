"""Convolutions, pools and resizes where no operator computes in float."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.models import random_images
from tests.support.networks import Random, convolutional_stages
from vitedge.network.kinds import Activation, NormKind
from vitedge.network.network import Network
from vitedge.network.numerics import as_root_mean_square, normalize
from vitedge.network.operators import Activate, Convolution, Norm, Reshape, Resize, ResizeKind
from vitedge.quantize.calibrate import calibrate
from vitedge.quantize.convolutions import convolution_weights
from vitedge.quantize.recipe import Quantized, quantize
from vitedge.rewrite import apply_rewrites
from vitedge.targets.precisions import Precision


def quantized(network: Network, precision: Precision = Precision.INT8_STATIC) -> Quantized:
    rewritten, _ = apply_rewrites(network)
    images = random_images(rewritten, 8)
    return quantize(rewritten, precision, calibrate(rewritten, images), images=lambda: iter(images))


def decoder() -> Network:
    """Tokens as a map, a convolution, a linear layer, twice the size and a sigmoid."""
    made = Random(5)
    net, x = made.net, made.tokens()
    rows, width = x.shape
    side = int(rows**0.5)
    assert side * side == rows
    x = net("image", Reshape((side, side, width)), made.norm("norm", x))
    x = made.convolution("conv", x, 8, (3, 3), padding=((1, 1), (1, 1)))
    x = made.linear("depth", net("conv/relu", Activate(Activation.RELU), x), 1)
    x = net("resized", Resize(2 * side, 2 * side, ResizeKind.BILINEAR), x)
    return made.network(map=net("sigmoid", Activate(Activation.SIGMOID), x))


def test_each_output_of_a_convolution_has_a_scale_of_its_own() -> None:
    network = convolutional_stages()
    weights = convolution_weights(network)
    for value in network.values:
        if isinstance(value.operator, Convolution):
            exact = value.operator.weight.reshape(-1, value.shape[-1])
            kept = weights[value.name]
            assert kept.scale.shape == value.shape[-1:]
            assert (np.abs(kept.dequantized() - exact) <= kept.scale * 0.51).all()


def test_what_makes_a_map_is_wide_and_so_is_its_sigmoid() -> None:
    tensors = quantized(decoder()).recipe.tensors
    assert {name: tensors[name].bits for name in ("conv", "depth", "sigmoid")} == {
        "conv": 8,
        "depth": 16,
        "sigmoid": 16,
    }


def test_a_range_before_a_relu_has_no_negative_side() -> None:
    tensors = quantized(decoder()).recipe.tensors
    assert tensors["conv"].low == 0
    assert tensors["conv"].high > 0


@pytest.mark.parametrize("precision", [Precision.INT8_STATIC, Precision.W8A16], ids=str)
def test_pools_and_resizes_keep_the_range_of_what_they_read(precision: Precision) -> None:
    made = quantized(convolutional_stages(), precision)
    names = {value.name for value in made.network.values}
    moved = {"largest", "odd", "mean", "same", "plain", "largest/up", "odd/up", "whole", "less"}
    assert moved <= names
    assert not moved & set(made.recipe.tensors)


def test_an_l2_norm_is_a_norm_by_the_mean_square() -> None:
    rng = np.random.default_rng(0)
    x, gamma, beta = (rng.standard_normal(shape, np.float32) for shape in ((5, 12), 12, 12))
    norm = Norm(gamma, beta, 0.3, NormKind.L2)
    again = as_root_mean_square(norm)
    assert again.kind is NormKind.RMS
    np.testing.assert_allclose(normalize(x, again), normalize(x, norm), atol=1e-6)
