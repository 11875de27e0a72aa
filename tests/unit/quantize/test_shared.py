"""What recipes of several runtimes share is what each of them would have found alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.support.models import random_images, random_network
from vitedge.converters.tools import converter_for
from vitedge.images.image_sets import ImageSet
from vitedge.images.samples import ArraySamples
from vitedge.network.network import Network
from vitedge.pipeline.quantizations import Quantizations
from vitedge.quantize import Activations, shared
from vitedge.quantize.calibrate import Statistics, calibrate
from vitedge.quantize.recipe import quantize
from vitedge.quantize.shared import Shared
from vitedge.rewrite import apply_more, apply_rewrites
from vitedge.targets.formats import Format, all_formats
from vitedge.targets.precisions import Precision
from vitedge.terminal.progress import silent


def test_shared_integers_are_those_that_are_found_alone() -> None:
    network, _ = apply_rewrites(random_network())
    centred, _ = apply_more(network, ["centre-residual"])
    statistics = calibrate(network, random_images(network, 8))
    shared = Shared()
    for model in (network, centred):
        for activations in Activations:
            for precision in (Precision.INT8, Precision.INT4):
                words = {"activations": activations}
                together = quantize(model, precision, statistics, shared=shared, **words)
                alone = quantize(model, precision, statistics, **words)
                assert together.recipe.weights.keys() == alone.recipe.weights.keys()
                for name, weight in alone.recipe.weights.items():
                    known = together.recipe.weights[name]
                    np.testing.assert_array_equal(known.values, weight.values, err_msg=name)
                    np.testing.assert_array_equal(known.scale, weight.scale, err_msg=name)


def test_formats_differ_in_their_groups_of_4_bit_weights_alone() -> None:
    network, _ = apply_rewrites(random_network(dim=64, heads=2, mlp_dim=128))
    images = ImageSet("noise", ArraySamples(np.stack(list(random_images(network, 8))), None))
    made = Quantizations(network, network.preprocessing, images, silent)
    for target in all_formats():
        groups = converter_for(target, Precision.INT4).groups
        for weight in made.make(target, Precision.INT4).recipe.weights.values():
            assert weight.group == groups.size_of(len(weight.values))
            assert (weight.zero is not None) == groups.zero_points
    of_tflite, of_onnx = (
        made.make(target, Precision.INT8_STATIC) for target in (Format.TFLITE, Format.ONNX)
    )
    assert of_tflite is of_onnx


def test_what_no_scale_was_moved_into_is_rounded_once_for_all_runtimes() -> None:
    network, _ = apply_rewrites(random_network())
    statistics = calibrate(network, random_images(network, 8))
    shared = Shared()
    first, second = (
        quantize(network, Precision.INT8, statistics, activations=activations, shared=shared)
        for activations in (Activations.PER_TOKEN, Activations.STATIC)
    )
    name = "blocks.0.fc2"  # what it reads comes from an activation, through which no scale moves
    assert second.recipe.weights[name] is first.recipe.weights[name]


def test_centring_the_stream_changes_no_input_of_a_linear_layer() -> None:
    network, _ = apply_rewrites(random_network())
    centred, names = apply_more(network, ["centre-residual"])
    assert names == ("centre-residual",)
    images = random_images(network, 8)
    before, after = calibrate(network, images), calibrate(centred, images)
    for name, known in before.inputs.items():
        fresh = after.inputs[name]
        np.testing.assert_allclose(known.mean, fresh.mean, atol=1e-4, err_msg=name)
        np.testing.assert_allclose(known.rows, fresh.rows, atol=1e-3, err_msg=name)
        scale = np.abs(known.gradients).max(initial=1e-6)
        np.testing.assert_allclose(
            known.gradients / scale, fresh.gradients / scale, atol=1e-3, err_msg=name
        )


def test_what_values_mix_to_in_their_new_basis_has_the_extremes_of_all_images() -> None:
    network, _ = apply_rewrites(random_network())
    pixels = list(random_images(network, 16))
    statistics, shared = calibrate(network, pixels), Shared()
    moved, exact = shared.centred_and_balanced(network, statistics, images=lambda: iter(pixels))
    measured = calibrate(moved, pixels)
    sampled = shared.centred_and_balanced(network, statistics)[1]
    again = {name for name, known in exact.inputs.items() if known is not sampled.inputs[name]}
    assert again == {name for name in exact.inputs if name.endswith(".out")}
    for name in again:
        np.testing.assert_array_equal(exact.inputs[name].low, measured.inputs[name].low)
        np.testing.assert_array_equal(exact.inputs[name].high, measured.inputs[name].high)


@pytest.mark.parametrize(
    ("precision", "activations", "are_exact"),
    [
        (Precision.INT8, Activations.STATIC_OR_TOKEN_SCALED, True),
        (Precision.INT8, Activations.PER_TENSOR, False),
        (Precision.INT8_STATIC, Activations.STATIC, True),
        (Precision.W8A16, Activations.STATIC, False),
    ],
)
def test_extremes_are_exact_where_ranges_are_static_and_have_no_room(
    precision: Precision,
    activations: Activations,
    are_exact: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[Network] = []

    def watched(network: Network, *statistics: Any) -> Statistics:
        asked.append(network)
        return remeasured(network, *statistics)

    remeasured = shared._remeasured
    monkeypatch.setattr(shared, "_remeasured", watched)
    network, _ = apply_rewrites(random_network())
    pixels = list(random_images(network, 4))
    statistics = calibrate(network, pixels)
    quantize(
        network,
        precision,
        statistics,
        activations=activations,
        images=lambda: iter(pixels),
    )
    assert bool(asked) is are_exact
