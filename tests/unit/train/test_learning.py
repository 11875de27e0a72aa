"""The parts of a training step: the loss, the optimizer, and the learner that joins them."""

from __future__ import annotations

from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.support.models import random_images, random_network
from vitedge.errors import UsageError
from vitedge.in_keras.model import NetworkModel, from_keras, to_keras
from vitedge.network.blocks import blocks
from vitedge.train import Augmentation, Distillation, TrainingRecipe, usual_rates
from vitedge.train.imitation import Imitation
from vitedge.train.learner import Learner
from vitedge.train.loss import Loss, balanced_weights
from vitedge.train.optimizer import Group, LayerwiseAdamW, groups

RNG = np.random.default_rng(0)
LOGITS = RNG.standard_normal((6, 4)).astype(np.float32)
TARGETS = np.eye(4, dtype=np.float32)[[0, 1, 2, 3, 0, 0]]
PIXELS = np.zeros((6, 1), np.float32)
EQUAL = np.ones(4, np.float32)


class TestLoss:
    def test_is_keras_smoothed_cross_entropy(self):
        ours = Loss(TrainingRecipe(label_smoothing=0.2), EQUAL)(
            PIXELS, tf.constant(TARGETS), LOGITS
        )
        theirs = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.2)
        assert float(ours) == pytest.approx(float(theirs(TARGETS, LOGITS)), rel=1e-5)  # float32

    def test_weighs_each_class(self):
        recipe = TrainingRecipe(label_smoothing=0.0)
        only_first = np.array([6 / 3, 0, 0, 0], np.float32)
        weighted = Loss(recipe, only_first)(PIXELS, tf.constant(TARGETS), LOGITS)
        first = np.array([0, 4, 5])
        alone = Loss(recipe, EQUAL)(PIXELS[first], tf.constant(TARGETS[first]), LOGITS[first])
        assert float(weighted) == pytest.approx(float(alone), rel=1e-5)  # float32

    def test_balanced_weights_average_to_one(self):
        labels = np.array([0] * 8 + [2] * 2)
        weights = balanced_weights(labels, 3)
        np.testing.assert_allclose(weights, [10 / 16, 0, 10 / 4])
        assert weights[labels].mean() == pytest.approx(1)

    @pytest.mark.parametrize("hard", [True, False], ids=["hard", "soft"])
    def test_a_student_that_answers_like_a_sure_teacher_has_nothing_to_learn(self, hard):
        sure = 100 * TARGETS
        recipe = TrainingRecipe(distillation=Distillation(hard=hard, share=1.0, temperature=2.0))
        loss = Loss(recipe, EQUAL, lambda pixels: tf.constant(sure))
        assert float(loss(PIXELS, tf.constant(TARGETS[::-1]), sure)) == pytest.approx(0, abs=1e-6)

    def test_a_student_that_answers_like_an_unsure_teacher_has_nothing_to_learn(self):
        recipe = TrainingRecipe(distillation=Distillation(hard=False, share=1.0))
        loss = Loss(recipe, EQUAL, lambda pixels: tf.constant(LOGITS))
        assert float(loss(PIXELS, tf.constant(TARGETS), LOGITS)) == pytest.approx(0, abs=1e-6)

    def test_blocks_are_compared_image_by_image(self):
        exact = to_keras(random_network())
        images = random_images(random_network(), 6).astype(np.float32)
        outputs = exact.compute([block.end for block in blocks(exact.form)], images)
        noise = [0.1 * np.std(each, axis=(1, 2), keepdims=True) for each in outputs]
        recipe = TrainingRecipe(distillation=Distillation(share=0.0, blocks=3.0))
        targets, logits = np.eye(10, dtype=np.float32)[:6], exact(images)

        def value(outputs: list[object]) -> float:
            return float(
                Loss(recipe, np.ones(10, np.float32), imitation=Imitation(exact.form, exact))(
                    images, tf.constant(targets), logits, outputs=outputs
                )
            )

        off = [each + more for each, more in zip(outputs, noise, strict=True)]
        # A tenth of the signal off is a hundredth of its energy.
        assert value(off) - value(outputs) == pytest.approx(3.0 * 0.01, rel=1e-3)

    def test_the_share_weighs_teacher_and_labels(self):
        def value(share: float) -> float:
            recipe = TrainingRecipe(distillation=Distillation(share=share))
            loss = Loss(recipe, EQUAL, lambda pixels: tf.constant(LOGITS[::-1].copy()))
            return float(loss(PIXELS, tf.constant(TARGETS), LOGITS))

        expected = 0.75 * value(0.0) + 0.25 * value(1.0)
        assert value(0.25) == pytest.approx(expected, rel=1e-5)  # float32


class TestGroups:
    model = to_keras(random_network(depth=3, input_norm=True, pooled_norm=True, head_hidden=(5,)))

    def test_hold_every_variable_once(self):
        found = [
            one.name for group in groups(self.model, TrainingRecipe()) for one in group.variables
        ]
        assert sorted(found) == sorted(one.name for one in self.model.trainable_variables)

    def test_hold_what_belongs_to_each_block(self):
        first, *parts, rest = groups(self.model, TrainingRecipe())
        stems = [{one.name.rpartition(".")[0] for one in group.variables} for group in parts]
        for index, names in enumerate(stems):
            assert {name.rpartition(".")[0] for name in names} == {f"blocks.{index}"}
        assert {one.name for one in first.variables} == {
            *("patch.weight", "patch.bias", "positions.values", "prefix.values"),
            *("input_norm.gamma", "input_norm.beta"),
        }
        assert "pooled_norm.gamma" in {one.name for one in rest.variables}

    def test_decay_matrices_alone(self):
        for group in groups(self.model, TrainingRecipe()):
            wanted = [one for one in group.variables if one.name.endswith(".weight")]
            assert [id(one) for one in group.decayed] == [id(one) for one in wanted]

    def test_slow_down_towards_the_input(self):
        rates = [group.rate for group in groups(self.model, TrainingRecipe(layer_decay=0.5))]
        assert rates == [0.0625, 0.125, 0.25, 0.5, 1.0]

    @pytest.mark.parametrize(("blocks", "count"), [(0, 1), (1, 2), (3, 4)])
    def test_leave_out_what_is_frozen(self, blocks, count):
        assert len(groups(self.model, TrainingRecipe(trainable_blocks=blocks))) == count

    def test_refuse_more_blocks_than_there_are(self):
        with pytest.raises(UsageError, match="4 trainable blocks of a model that has 3"):
            groups(self.model, TrainingRecipe(trainable_blocks=4))


class TestOptimizer:
    def make(
        self, recipe: TrainingRecipe, rate: float = 1.0
    ) -> tuple[LayerwiseAdamW, list[keras.Variable]]:
        variables = [
            keras.Variable(np.ones(3, np.float32), name=name) for name in ("kernel", "bias")
        ]
        group = Group(tuple(variables), rate, decayed=(variables[0],))
        return LayerwiseAdamW([group], recipe, 10), variables

    def test_decays_what_it_is_told_and_nothing_else(self):
        recipe = TrainingRecipe(warmup_epochs=0, learning_rate=0.1, weight_decay=0.5)
        optimizer, (kernel, bias) = self.make(recipe)
        optimizer.apply([tf.zeros(3), tf.zeros(3)])
        np.testing.assert_allclose(kernel, 0.95, rtol=1e-6)  # 1 - 0.1 * 0.5 in float32
        np.testing.assert_array_equal(bias, 1)

    @pytest.mark.parametrize("rate", [1.0, 0.25])
    def test_takes_steps_in_proportion_to_the_rate(self, rate):
        recipe = TrainingRecipe(warmup_epochs=0, learning_rate=0.1, weight_decay=0.0)
        optimizer, (kernel, _) = self.make(recipe, rate)
        optimizer.apply([tf.ones(3), tf.zeros(3)])
        # Adam's first step is the learning rate itself, up to its epsilon of 1e-7.
        np.testing.assert_allclose(kernel, 1 - 0.1 * rate, rtol=1e-5)

    def test_starts_from_zero_with_a_warm_up(self):
        optimizer, (kernel, _) = self.make(TrainingRecipe(warmup_epochs=1))
        optimizer.apply([tf.ones(3), tf.zeros(3)])
        np.testing.assert_array_equal(kernel, 1)


def head_of(model: NetworkModel) -> np.ndarray:
    return dict(from_keras(model).named_arrays())["head.weight"]


class TestLearner:
    network = random_network(depth=3)
    images = tf.constant(random_images(network, 8))
    targets = tf.one_hot(np.arange(8), 10)

    def learner(self, **choices: object) -> tuple[Learner, object]:
        model = to_keras(self.network)
        recipe = TrainingRecipe(**({"warmup_epochs": 0} | choices))
        return Learner(model, recipe, Loss(recipe, np.ones(10, np.float32)), 10), model

    def test_a_step_lowers_the_loss(self):
        learner, _ = self.learner()
        losses = [float(learner.step(self.images, self.targets)[0]) for _ in range(5)]
        assert losses[-1] < losses[0]

    def test_the_average_is_the_plain_mean_at_first(self):
        learner, model = self.learner(average=0.999)
        seen = []
        for _ in range(3):
            learner.step(self.images, self.targets)
            seen.append(head_of(model))
        with learner.averaged():
            averaged = head_of(model)
        np.testing.assert_allclose(averaged, np.mean(seen, 0), rtol=1e-4, atol=1e-6)  # float32
        np.testing.assert_array_equal(head_of(model), seen[-1])

    def test_stochastic_depth_is_drawn_anew_in_each_step_but_not_in_evaluation(self):
        learner, _ = self.learner(stochastic_depth=0.9, learning_rate=1e-12, weight_decay=0.0)
        losses = {float(learner.step(self.images, self.targets)[0]) for _ in range(4)}
        assert len(losses) == 4
        measured = {learner.measured([(self.images, self.targets)]) for _ in range(3)}
        assert len(measured) == 1

    def test_restoring_needs_the_same_state(self):
        learner, _ = self.learner()
        with pytest.raises(ValueError, match="zip"):
            learner.restore(learner.state()[:-1])


@pytest.mark.parametrize("blocks", [None, 3])
def test_what_has_learnt_already_learns_more_slowly_and_its_first_layers_slowest(blocks):
    fresh = usual_rates(fine_tuning=False, trainable_blocks=blocks)
    tuned = usual_rates(fine_tuning=True, trainable_blocks=blocks)
    assert (fresh.learning_rate, fresh.layer_decay) == (1e-3, 1.0)
    assert tuned.learning_rate < fresh.learning_rate
    assert tuned.layer_decay < 1


def test_a_head_alone_learns_like_fresh_weights():
    assert usual_rates(fine_tuning=True, trainable_blocks=0) == usual_rates(
        fine_tuning=False, trainable_blocks=None
    )


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"epochs": 0}, "epochs must lie between 1"),
        ({"learning_rate": -1.0}, "learning rate must lie"),
        ({"label_smoothing": 1.0}, "label smoothing must lie"),
        ({"warmup_epochs": 200}, "warm-up epochs must lie between 0 and 100, not 200"),
        ({"seed": -1}, "seed must lie"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_recipe_out_of_range_is_refused(choices, message):
    with pytest.raises(UsageError, match=message):
        replace(TrainingRecipe(), **choices)


def test_an_augmentation_out_of_range_is_refused():
    with pytest.raises(UsageError, match=r"crop must lie between 0\.01 and 1, not 0"):
        Augmentation(crop=0)
