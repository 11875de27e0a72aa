"""Mixed precision: matrix products in a shorter float while everything else stays float32."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from tests.e2e.train.test_runs import (
    QUICK,
    accuracy,
    assert_same_weights,
    halves,
    lost,
    small_network,
)
from tests.support.models import random_images, random_network
from vitedge.errors import UsageError, VitedgeError
from vitedge.in_keras.model import compute_products_in, from_keras, to_keras
from vitedge.train import Epoch, Products, TrainingRecipe, choose, train
from vitedge.train.learner import Learner
from vitedge.train.loss import Loss
from vitedge.train.mixed import LossScale, fastest

pytestmark = pytest.mark.slow

SHORTER = [Products.BFLOAT16, Products.FLOAT16]


def traced_types(network, products: str) -> list[tuple[str, str]]:
    """The operators of a forward pass and what they compute in."""
    model = to_keras(network)
    compute_products_in(model, products)
    shape = (2, *network.image_shape)
    graph = (
        tf.function(model.call, autograph=False)
        .get_concrete_function(tf.TensorSpec(shape, tf.uint8))
        .graph
    )
    return [(one.type, one.outputs[0].dtype.name) for one in graph.get_operations() if one.outputs]


@pytest.mark.parametrize("products", SHORTER)
@pytest.mark.parametrize("qk_norm", [False, True], ids=["plain", "q and k normalised"])
def test_products_are_shorter_and_nothing_else_is(products, qk_norm):
    network = random_network(qk_norm=qk_norm)
    types = traced_types(network, products)
    matrix = [dtype for kind, dtype in types if kind in ("MatMul", "BatchMatMulV2")]
    # Per block six layers and two products of attention, and the patches; the head is float32.
    assert sorted(matrix) == sorted([products] * (8 * 2 + 1) + ["float32"])
    for kind in ("Softmax", "Rsqrt", "Erfc", "Mean"):
        found = {dtype for each, dtype in types if each == kind}
        assert found == {"float32"}, kind


def test_float32_again_is_what_it_was():
    network = random_network()
    model, pixels = to_keras(network), random_images(network, 2)
    before = np.asarray(model(pixels))
    compute_products_in(model, "bfloat16")
    assert (np.asarray(model(pixels)) != before).any()
    compute_products_in(model, "float32")
    np.testing.assert_array_equal(np.asarray(model(pixels)), before)


@pytest.mark.parametrize("products", SHORTER)
def test_a_model_learns_as_well(products):
    recipe = replace(QUICK, epochs=20, products=products, average=0.9)
    result = train(small_network(), halves(), recipe, held_out=halves(30, seed=1))
    assert result.held_out_accuracy > 0.95  # chance would be a third
    # The model is saved in float32, and is what was measured.
    assert {array.dtype for _, array in result.network.named_arrays()} == {np.dtype(np.float32)}
    assert accuracy(result.network, halves(30, seed=1)) == result.held_out_accuracy


@pytest.mark.parametrize("products", SHORTER)
def test_the_gradients_are_those_of_float32_but_for_rounding(products):
    network = random_network()
    pixels = tf.constant(random_images(network, 8))
    targets = tf.one_hot(np.arange(8), 10)

    def after_a_step(products: Products) -> np.ndarray:
        # A plain step along the gradient is hidden in Adam's first moment.
        recipe = TrainingRecipe(warmup_epochs=0, products=products)
        model = to_keras(network)
        learner = Learner(model, recipe, Loss(recipe, np.ones(10, np.float32)), 10)
        learner.step(pixels, targets)
        moments = [one for one in learner._optimizer.state if "momentum" in one.path]
        return np.concatenate([np.asarray(one).ravel() for one in moments])

    plain, mixed = after_a_step(Products.FLOAT32), after_a_step(products)
    cosine = plain @ mixed / np.linalg.norm(plain) / np.linalg.norm(mixed)
    # bfloat16 rounds to 2^-9 at each product.
    assert cosine > 0.999
    assert np.linalg.norm(mixed) == pytest.approx(np.linalg.norm(plain), rel=0.02)


def test_an_interrupted_run_resumes_to_the_same_result(tmp_path):
    recipe = replace(QUICK, products=Products.FLOAT16, average=0.9)  # has the loss's scale, too
    whole = train(small_network(), halves(), recipe)

    def interrupt(epoch: Epoch) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(small_network(), halves(), recipe, folder=tmp_path, on_epoch=interrupt)
    resumed = train(small_network(), halves(), recipe, folder=tmp_path, resume=True)
    assert_same_weights(resumed.network, whole.network)


def test_other_products_are_another_run(tmp_path):
    recipe = replace(QUICK, epochs=1)
    train(small_network(), halves(), recipe, folder=tmp_path)
    other = replace(recipe, products=Products.BFLOAT16)
    with pytest.raises(UsageError, match="mixed precision float32, now bfloat16"):
        train(small_network(), halves(), other, folder=tmp_path, resume=True)


def test_a_float16_loss_that_is_lost_names_the_way_out():
    broken = lost(small_network())
    recipe = replace(QUICK, products=Products.FLOAT16)
    with pytest.raises(VitedgeError, match="or compute in bfloat16 or float32"):
        train(broken, halves(), recipe)


class TestLossScale:
    def test_halves_at_an_overflow_and_never_falls_below_one(self):
        scale = LossScale()
        seen = []
        for _ in range(20):
            seen.append(float(scale.scaled(1.0)))
            scale.learn(tf.constant(False))
        assert seen[:3] == [2.0**15, 2.0**14, 2.0**13]
        assert seen[-1] == 1.0

    def test_doubles_after_two_thousand_good_steps_in_a_row(self):
        scale = LossScale()
        learn = tf.function(scale.learn)
        for _ in range(1999):
            learn(tf.constant(True))
        learn(tf.constant(False))
        for _ in range(1999):
            learn(tf.constant(True))
        assert float(scale.scaled(1.0)) == 2.0**14
        learn(tf.constant(True))
        assert float(scale.scaled(1.0)) == 2.0**15

    def test_cancels_out(self):
        scale = LossScale()
        assert float(scale.unscaled([scale.scaled(tf.constant(0.375))])[0]) == 0.375

    def test_a_step_that_overflows_changes_no_weight(self):
        network = random_network()
        model = to_keras(network)
        recipe = TrainingRecipe(warmup_epochs=0, products=Products.FLOAT16, average=0.9)

        class Overflowing(Loss):
            def __call__(self, pixels, targets, logits, for_teacher=None, outputs=()):
                return tf.reduce_sum(logits) * 1e30  # its gradient is beyond float16, it is not

        learner = Learner(model, recipe, Overflowing(recipe, np.ones(10, np.float32)), 10)
        state = learner.state()
        loss, _ = learner.step(tf.constant(random_images(network, 2)), tf.one_hot([0, 1], 10))
        assert np.isfinite(float(loss))
        assert_same_weights(from_keras(model), network)
        # All state stands still but the count of steps, the scale and its count.
        changed = [
            index
            for index, (old, new) in enumerate(zip(state, learner.state(), strict=True))
            if (old != new).any()
        ]
        assert changed == [len(state) - 3, len(state) - 2]


class TestChoosing:
    @pytest.mark.parametrize(
        ("capabilities", "flags", "products"),
        [
            ([], [], Products.FLOAT32),
            ([], ["avx2", "avx512_bf16"], Products.BFLOAT16),
            ([], ["amx_bf16"], Products.BFLOAT16),
            ([(9, 0)], [], Products.BFLOAT16),
            ([(7, 5)], ["avx512_bf16"], Products.FLOAT16),
            ([(9, 0), (7, 0)], [], Products.FLOAT16),
            ([(6, 1)], ["avx512_bf16"], Products.FLOAT32),
        ],
    )
    def test_takes_what_the_weakest_device_is_fast_at(self, capabilities, flags, products):
        chosen = fastest(capabilities, flags)
        assert chosen.products == products
        assert chosen.reason

    def test_a_wish_is_a_wish(self):
        assert choose("off").products == Products.FLOAT32
        assert choose("float16").products == Products.FLOAT16

    def test_of_nothing_known_is_refused(self):
        with pytest.raises(UsageError, match="not 'int8'"):
            choose("int8")
