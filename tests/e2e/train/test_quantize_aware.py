"""Quantization-aware training: the rounding, its gradient, and what converts afterwards."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

import vitedge
from tests.e2e.train.test_runs import QUICK, accuracy, assert_same_weights, halves, small_network
from tests.support.models import random_images, random_network
from vitedge.demo.digits import digits_vit
from vitedge.errors import UsageError
from vitedge.images.image_sets import digits
from vitedge.in_keras.model import to_keras
from vitedge.network.blocks import blocks
from vitedge.network.evaluate import forward
from vitedge.network.network import Network
from vitedge.network.operators import Array, Norm
from vitedge.network.structure import attentions, is_inner
from vitedge.pipeline.convert import ConvertOptions, convert
from vitedge.pipeline.keras_model import write_keras
from vitedge.quantize import Activations
from vitedge.quantize.calibrate import calibrate
from vitedge.quantize.ranges import dynamically_quantized
from vitedge.quantize.recipe import quantize
from vitedge.quantize.simulate import with_integer_weights
from vitedge.rewrite import apply_rewrites
from vitedge.rewrite.learnt_grid import INTEGER_LIMITS, group_size, learnt_bits, learnt_integers
from vitedge.targets.formats import all_formats
from vitedge.targets.precisions import Precision
from vitedge.train import Distillation, Epoch, Trained, TrainingRecipe, train
from vitedge.train.grid_start import grid_start
from vitedge.train.integer_grid import rounded, rounded_tokens

PRECISIONS = (Precision.INT8, Precision.INT4)
AWARE = replace(QUICK, learning_rate=1e-3)


def bits_of(precision: Precision) -> int:
    return 4 if precision is Precision.INT4 else 8


@pytest.mark.parametrize("bits", [4, 8])
class TestRounding:
    @settings(max_examples=40, deadline=None)
    @given(
        inputs=st.sampled_from([8, 32, 96, 100]),
        outputs=st.integers(1, 9),
        # Half precision has normal numbers from 2**-14, and no numbers below 2**-24.
        exponent=st.integers(-26, 4),
        seed=st.integers(0, 2**16),
    )
    def test_gives_the_integers_that_conversion_finds(self, bits, inputs, outputs, exponent, seed):
        rng = np.random.default_rng(seed)
        groups = inputs // group_size(inputs, bits)
        step = 2.0**exponent
        weight = (step * 40 * rng.standard_normal((inputs, outputs))).astype(np.float32)
        log_scale = np.log(step * rng.uniform(0.5, 2, (groups, outputs))).astype(np.float32)
        kept = rounded(tf.constant(weight), tf.constant(log_scale), bits).numpy()
        found = learnt_integers(kept, bits)
        assert found is not None
        integers, scales = found
        each = np.repeat(scales, inputs // groups, axis=0)
        np.testing.assert_array_equal(integers * each, kept)
        half = np.maximum(np.exp(log_scale), np.float32(2**-24)).astype(np.float16)
        steps = np.repeat(half.astype(np.float32), inputs // groups, axis=0)
        integers = np.clip(np.rint(weight / steps), *INTEGER_LIMITS[bits])
        np.testing.assert_array_equal(kept, integers * steps)

    def test_passes_the_gradient_straight_through_where_nothing_is_clipped(self, bits):
        _, limit = INTEGER_LIMITS[bits]
        weight = tf.constant([[0.3], [-1.2], [10.0 * limit], [0.0]])
        log_scale = tf.zeros((1, 1))
        with tf.GradientTape() as tape:
            tape.watch([weight, log_scale])
            kept = rounded(weight, log_scale, bits)
        by_weight, by_scale = tape.gradient(kept, [weight, log_scale])
        np.testing.assert_array_equal(by_weight[:, 0], [1, 1, 0, 1])
        # LSQ, equation 3: the rounding error within the range, the limit beyond it.
        np.testing.assert_allclose(by_scale[0, 0], (0 - 0.3) + (-1 + 1.2) + limit, rtol=1e-6)


def test_tokens_are_rounded_as_the_quantizer_simulates_them():
    tokens = np.random.default_rng(0).standard_normal((2, 5, 16)).astype(np.float32)
    tokens[0, 0] = 0
    tokens[0, 1] = np.abs(tokens[0, 1])
    with tf.GradientTape() as tape:
        x = tf.constant(tokens)
        tape.watch(x)
        kept = rounded_tokens(x)
    np.testing.assert_array_equal(kept, dynamically_quantized(tokens, (-1,)))
    np.testing.assert_array_equal(tape.gradient(kept, x), np.ones_like(tokens))


@pytest.mark.parametrize("precision", PRECISIONS)
class TestStart:
    def test_rounds_to_the_quantizers_integers(self, precision):
        network = random_network(dim=32, mlp_dim=64, head_dim=16)
        images = random_images(network, 8)
        start = grid_start(network, images, precision)
        rewritten, _ = apply_rewrites(
            network, without=("fold-input-normalization", "fold-attention-scale")
        )
        statistics = calibrate(rewritten, images)
        per_token = Activations.PER_TOKEN
        recipe = quantize(rewritten, precision, statistics, activations=per_token).recipe
        latent = dict(start.network.named_linears())
        assert start.scales.keys() == inner_layers(network)
        for name, weight in recipe.weights.items():
            if name not in start.scales:
                continue
            kept = rounded(tf.constant(latent[name].weight), np.log(start.scales[name]), start.bits)
            # Scales of 8 bits are rounded to half precision, by up to 2**-11 of themselves.
            np.testing.assert_allclose(kept, weight.dequantized(), rtol=2**-10, err_msg=name)

    def test_computes_what_the_model_computes_but_for_the_rounding(self, precision):
        network = random_network(head_dim=6)  # whose attention scale is no power of two
        images = random_images(network, 8)
        start = grid_start(network, images, precision)
        for attention in attentions(start.network):
            (scaled,) = attention.between
            assert np.log2(scaled.inputs[1].operator.values) % 1 == 0
        wanted, found = forward(network, images), forward(start.network, images)
        # Latent weights are within half a step of 4 bits of the exact ones.
        assert np.abs(wanted - found).max() < 0.5 * np.abs(wanted).max()

    def test_has_the_float_model_beside_it_block_by_block(self, precision):
        network = random_network(head_dim=6)
        images = random_images(network, 8)
        start = grid_start(network, images, precision)
        wanted = forward(network, images)
        np.testing.assert_allclose(forward(start.exact, images), wanted, atol=2e-4)
        noise = noise_over_signal(start.network, start.exact, images)
        # In another basis the noise would be as large as the signal.
        assert max(noise) < 0.1


def inner_layers(network: Network) -> set[str]:
    return {value.name for value in network.values if is_inner(value)}


def noise_over_signal(network: Network, exact: Network, images: np.ndarray) -> list[float]:
    """Of each block's output."""
    found, wanted = (
        model.compute([block.end for block in blocks(model.form)], images)
        for model in map(to_keras, (network, exact))
    )
    return [
        float(tf.reduce_mean((one - other) ** 2) / tf.math.reduce_variance(other))
        for one, other in zip(found, wanted, strict=True)
    ]


@pytest.fixture(scope="module")
def float_network() -> Network:
    return train(small_network(), halves(), replace(QUICK, epochs=20)).network


@pytest.fixture(scope="module", params=PRECISIONS, ids=str)
def aware(request: pytest.FixtureRequest, float_network: Network) -> tuple[Precision, Trained]:
    recipe = replace(AWARE, quantize_aware=request.param)
    return request.param, train(float_network, halves(), recipe, held_out=halves(30, seed=1))


@pytest.mark.slow
class TestTraining:
    def test_leaves_weights_that_conversion_keeps(self, aware):
        precision, trained = aware
        assert learnt_bits(trained.network) == bits_of(precision)
        network, _ = apply_rewrites(trained.network)
        statistics = calibrate(network, random_images(network, 8))
        recipe = quantize(network, precision, statistics).recipe
        kept, inner = dict(network.named_linears()), inner_layers(network)
        assert inner & recipe.weights.keys()
        for name, weight in recipe.weights.items():
            if name in inner:
                np.testing.assert_array_equal(weight.dequantized(), kept[name].weight, name)

    def test_moves_integers(self, aware, float_network):
        precision, trained = aware
        pixels = [sample.image for sample in halves().samples]
        start = grid_start(float_network, float_network.preprocessing.batch(pixels), precision)
        first = {
            name: rounded(tf.constant(layer.weight), np.log(start.scales[name]), start.bits)
            for name, layer in start.network.named_linears()
            if name in start.scales
        }
        last = dict(trained.network.named_linears())
        assert any((last[name].weight != weight.numpy()).any() for name, weight in first.items())

    def test_adds_no_operator_to_the_norms(self, aware):
        _, trained = aware
        norms = [each for each in trained.network.values if isinstance(each.operator, Norm)]
        assert norms
        for value in norms:
            assert value.operator.is_plain, value.name

    def test_reports_the_accuracy_of_the_rounded_model(self, aware):
        _, trained = aware
        assert accuracy(trained.network, halves(30, seed=1)) == trained.held_out_accuracy

    def test_imitating_blocks_brings_them_nearer(self, float_network):
        pixels = float_network.preprocessing.batch([sample.image for sample in halves().samples])
        exact = grid_start(float_network, pixels, Precision.INT4).exact
        last = []
        for weight in (0.0, 100.0):
            teaching = Distillation(hard=False, share=1.0, blocks=weight)
            recipe = replace(AWARE, quantize_aware=Precision.INT4, distillation=teaching)
            network = train(float_network, halves(), recipe, teacher=float_network).network
            last.append(noise_over_signal(network, exact, pixels)[-1])
        assert last[1] < last[0]

    def test_interrupted_resumes_to_the_same_result(self, aware, float_network, tmp_path):
        precision, _ = aware
        recipe = replace(AWARE, quantize_aware=precision, average=0.9)
        whole = train(float_network, halves(), recipe)

        def interrupt(epoch: Epoch) -> None:
            if epoch.number == 2:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            train(float_network, halves(), recipe, folder=tmp_path, on_epoch=interrupt)
        resumed = train(float_network, halves(), recipe, folder=tmp_path, resume=True)
        assert_same_weights(resumed.network, whole.network)

    def test_of_the_last_block_leaves_the_first_as_the_quantizer_had_it(self, aware, float_network):
        precision, _ = aware
        recipe = replace(AWARE, quantize_aware=precision, trainable_blocks=1)
        network = train(float_network, halves(), recipe).network
        assert learnt_bits(network) == bits_of(precision)


def sqnr_db(wanted: Array, found: Array) -> float:
    return float(10 * np.log10((wanted**2).sum() / ((wanted - found) ** 2).sum()))


@pytest.mark.slow
@pytest.mark.parametrize("target", list(all_formats()), ids=str)
def test_an_artefact_answers_as_training_measured(aware, target, tmp_path):
    precision, trained = aware
    write_keras(trained.network, tmp_path / "trained.keras")
    options = ConvertOptions(formats=(target,), precisions=(precision,), output=tmp_path)
    images = halves(30, seed=1)
    (made,) = convert(tmp_path / "trained.keras", options, calibration=halves(60, seed=2))
    with vitedge.load(made.path) as model:
        answers = model.logits([sample.image for sample in images.samples])
    pixels = trained.network.preprocessing.batch([sample.image for sample in images.samples])
    # The weights are the same to the bit; 8-bit inputs of so narrow a model cost 30 to 40 dB.
    assert sqnr_db(forward(trained.network, pixels), answers) > 25
    labels = [sample.label for sample in images.samples]
    assert abs((answers.argmax(-1) == labels).mean() - trained.held_out_accuracy) <= 1.01 / 30


@pytest.mark.slow
def test_training_on_digits_loses_less_at_int4_than_rounding_alone():
    training, held_out = digits()
    quick = TrainingRecipe(epochs=6, batch_size=64, learning_rate=2e-3, warmup_epochs=1)
    float_network = train(digits_vit(), training, quick).network
    pixels = float_network.preprocessing.batch([sample.image for sample in training.samples[:256]])
    unseen = float_network.preprocessing.batch([sample.image for sample in held_out.samples])
    wanted = forward(float_network, unseen)
    rewritten, _ = apply_rewrites(float_network)
    made = quantize(rewritten, Precision.INT4, calibrate(rewritten, pixels))
    rounded_alone = forward(with_integer_weights(made.network, made.recipe), unseen)
    recipe = replace(
        quick,
        learning_rate=2e-4,
        weight_decay=0.0,
        label_smoothing=0.0,
        quantize_aware=Precision.INT4,
        distillation=Distillation(hard=False, share=1.0),
    )
    trained = train(float_network, training, recipe, teacher=float_network).network
    # Measured: 25.5 dB by rounding alone, 29.6 dB trained.
    assert sqnr_db(wanted, forward(trained, unseen)) > sqnr_db(wanted, rounded_alone)


class TestRefusals:
    def test_the_head_alone(self):
        with pytest.raises(UsageError, match="train some blocks, too"):
            TrainingRecipe(quantize_aware=Precision.INT4, trainable_blocks=0)

    def test_other_precisions(self):
        with pytest.raises(UsageError, match="not of w8a16"):
            TrainingRecipe(quantize_aware=Precision.W8A16)
