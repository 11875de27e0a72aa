"""Training runs from end to end, on models and sets small enough to be quick."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tests.support.models import random_images, random_network, random_vit
from vitedge.elements.kinds import Pooling
from vitedge.elements.plain_vit import ViTConfig
from vitedge.elements.presets import initialize
from vitedge.elements.vision_transformer import network_of
from vitedge.errors import DataError, UsageError, VitedgeError
from vitedge.images.image_sets import ImageSet
from vitedge.images.preprocess import Preprocessing
from vitedge.images.samples import ArraySamples, Sample
from vitedge.importers.positions import interpolate_positions
from vitedge.in_keras.model import to_keras
from vitedge.network.evaluate import forward
from vitedge.network.network import Network, with_operators
from vitedge.network.operators import Linear, Operator
from vitedge.network.saved import described
from vitedge.targets.precisions import Precision
from vitedge.train import (
    Augmentation,
    Distillation,
    Epoch,
    Step,
    Trained,
    TrainingRecipe,
    adapt,
    train,
)
from vitedge.train.fine_tune import answered, in_classes_of
from vitedge.train.two_tokens import (
    answers_of_each,
    reads_two_tokens,
    with_distillation_token,
)

LABELS = ("left", "right", "top")


def small_network(seed: int = 0, classes: int = 3, pooling: Pooling = Pooling.CLASS) -> Network:
    config = ViTConfig(
        image_size=(8, 8),
        patch_size=(4, 4),
        channels=1,
        dim=16,
        depth=2,
        heads=2,
        head_dim=8,
        mlp_dim=16,
        classes=classes,
        pooling=pooling,
    )
    grey = Preprocessing(size=(8, 8), channels=1, mean=(0.5,), std=(0.25,))
    return initialize(config, grey, LABELS[:classes], seed=seed)


def halves(count: int = 192, seed: int = 0) -> ImageSet:
    """Noise with one bright half: left, right or top."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 40, (count, 8, 8), np.uint8)
    labels = np.arange(count) % 3
    pixels[labels == 0, :, :4] += 150
    pixels[labels == 1, :, 4:] += 150
    pixels[labels == 2, :4] += 150
    return ImageSet("halves", ArraySamples(pixels, labels), LABELS)


QUICK = TrainingRecipe(epochs=3, batch_size=32, learning_rate=5e-3, warmup_epochs=0.5)
EVERYTHING = replace(
    QUICK,
    stochastic_depth=0.2,
    average=0.9,
    balance_classes=True,
    layer_decay=0.7,
    augmentation=Augmentation(
        crop=0.7, flip=False, operations=1, shift=0.1, rotation=5, zoom=0.1, mixup=0.2, cutmix=0.5
    ),
)


def array(network: Network, name: str) -> np.ndarray:
    """One of its arrays."""
    return dict(network.named_arrays())[name]


def with_operator(network: Network, name: str, operator: Operator) -> Network:
    """The same with another operator for a value."""
    (value,) = (each for each in network.values if each.name == name)
    return with_operators(network, {value: operator})


def assert_same_weights(first: Network, second: Network) -> None:
    for (name, array), (_, other) in zip(first.named_arrays(), second.named_arrays(), strict=True):
        np.testing.assert_array_equal(array, other, err_msg=name)


def accuracy(network: Network, images: ImageSet) -> float:
    pixels = network.preprocessing.batch([sample.image for sample in images.samples])
    labels = [sample.label for sample in images.samples]
    return float((forward(network, pixels).argmax(-1) == labels).mean())


@pytest.fixture(scope="module")
def trained() -> Trained:
    return train(small_network(), halves(), replace(QUICK, epochs=20), held_out=halves(30, seed=1))


def test_a_model_learns_what_it_is_shown(trained):
    assert trained.history[-1].loss < trained.history[0].loss
    # Three classes that one look tells apart; chance would be a third.
    assert trained.history[-1].held_out_accuracy > 0.95


def test_the_accuracy_reported_is_that_of_the_model_returned(trained):
    assert accuracy(trained.network, halves(30, seed=1)) == trained.held_out_accuracy


def test_the_best_epoch_is_kept(trained):
    assert trained.held_out_accuracy == max(each.held_out_accuracy for each in trained.history)


def test_the_last_epoch_is_kept_on_request():
    recipe = replace(QUICK, keep_best=False, learning_rate=0.3)
    images = halves(30, seed=1)
    result = train(small_network(), halves(), recipe, held_out=images)
    assert result.held_out_accuracy == result.history[-1].held_out_accuracy
    # Its held-out loss is the cross-entropy of the model that is returned.
    pixels = result.network.preprocessing.batch([sample.image for sample in images.samples])
    logits = forward(result.network, pixels).astype(np.float64)
    shares = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    right = shares[np.arange(30), [sample.label for sample in images.samples]]
    # Float32 sums in another order.
    assert result.history[-1].held_out_loss == pytest.approx(-np.log(right).mean(), rel=1e-4)


def test_the_start_is_left_unchanged():
    start = small_network()
    train(start, halves(), replace(QUICK, epochs=1, warmup_epochs=0))
    assert_same_weights(start, small_network())


def test_progress_is_told_step_by_step_and_epoch_by_epoch():
    steps: list[Step] = []
    epochs: list[Epoch] = []
    result = train(small_network(), halves(), QUICK, on_step=steps.append, on_epoch=epochs.append)
    assert [(step.done, step.of) for step in steps] == [(done, 18) for done in range(1, 19)]
    assert tuple(epochs) == result.history
    assert [epoch.number for epoch in epochs] == [1, 2, 3]
    assert steps[-1].seconds_left == 0
    assert all(epoch.held_out_accuracy is None for epoch in epochs)


def tensorboard_losses(folder: Path) -> list[float]:
    (path,) = folder.glob("*tfevents*")
    events = tf.compat.v1.train.summary_iterator(str(path))
    return [
        value.simple_value
        for event in events
        for value in event.summary.value
        if value.tag == "loss"
    ]


@pytest.mark.slow
def test_an_interrupted_run_resumes_to_the_same_result(tmp_path):
    held_out = halves(30, seed=1)
    whole = train(small_network(), halves(), EVERYTHING, held_out=held_out)

    def interrupt(epoch: Epoch) -> None:
        if epoch.number == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(
            small_network(),
            halves(),
            EVERYTHING,
            held_out=held_out,
            folder=tmp_path,
            on_epoch=interrupt,
        )
    resumed = train(
        small_network(), halves(), EVERYTHING, held_out=held_out, folder=tmp_path, resume=True
    )
    assert_same_weights(resumed.network, whole.network)
    assert [epoch.loss for epoch in resumed.history] == [epoch.loss for epoch in whole.history]
    with (tmp_path / "log.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [float(row["loss"]) for row in rows] == [epoch.loss for epoch in whole.history]
    assert tensorboard_losses(tmp_path) == pytest.approx(
        [epoch.loss for epoch in whole.history],
        rel=1e-6,  # TensorBoard's numbers are float32
    )


ROUNDED = replace(QUICK, quantize_aware=Precision.INT4)

KILLED = """
import sys
from pathlib import Path
from tests.e2e.train.test_runs import ROUNDED, halves, small_network
from vitedge.train import train
folder, how = Path(sys.argv[1]), sys.argv[2]
train(small_network(), halves(), ROUNDED, folder=folder, resume=how == "resume")
"""


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_same_result(tmp_path):
    def start(how: str) -> subprocess.Popen[bytes]:
        environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
        command = [sys.executable, "-c", KILLED, str(tmp_path), how]
        return subprocess.Popen(command, env=environment)

    process = start("anew")
    deadline = time.monotonic() + 120  # a busy machine takes a while to import TensorFlow
    while not (tmp_path / "state.npz").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert start("resume").wait() == 0
    whole = train(small_network(), halves(), ROUNDED)
    resumed = train(small_network(), halves(), ROUNDED, folder=tmp_path, resume=True)
    assert_same_weights(resumed.network, whole.network)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of one epoch."""
    folder = tmp_path_factory.mktemp("run")
    train(small_network(), halves(), replace(QUICK, epochs=1), folder=folder)
    return folder


class TestResuming:
    def test_needs_a_run(self, tmp_path):
        with pytest.raises(UsageError, match="no run to resume"):
            train(small_network(), halves(), QUICK, folder=tmp_path, resume=True)

    def test_needs_a_folder(self):
        with pytest.raises(UsageError, match="name its folder"):
            train(small_network(), halves(), QUICK, resume=True)

    def test_refuses_another_run(self, finished):
        with pytest.raises(UsageError, match="started with something else"):
            train(small_network(), halves(), QUICK, folder=finished, resume=True)

    @pytest.mark.parametrize(
        ("network", "images", "recipe", "words"),
        [
            ({}, {}, {"epochs": 3, "learning_rate": 0.01},
             "else: epochs 1, now 3; learning rate 0.005, now 0.01; resume"),
            ({}, {"count": 180}, {}, "else: images 192 in 3 classes, now 180 in 3 classes; resume"),
            ({"seed": 1}, {}, {}, "else: another model to start from (8 x 8 px, 16 wide, 2 blocks"),
            ({}, {}, {"augmentation": Augmentation(crop=0.5)}, "else: crop 1.0, now 0.5; resume"),
        ],
        ids=["recipe", "images", "model", "augmentation"],
    )  # fmt: skip
    def test_says_what_differs(self, finished, network, images, recipe, words):
        recipe = replace(replace(QUICK, epochs=1), **recipe)
        with pytest.raises(UsageError) as raised:
            train(small_network(**network), halves(**images), recipe, folder=finished, resume=True)
        assert words in str(raised.value)

    def test_what_follows_from_a_choice_is_not_said_to_differ(self, tmp_path):
        recipe = replace(QUICK, epochs=1)
        train(small_network(), halves(), recipe, folder=tmp_path, named=frozenset(["epochs"]))
        others = replace(recipe, batch_size=24, learning_rate=0.0012)
        for named, words in (
            ({"epochs", "batch_size"}, "else: batch size 32, now 24; resume"),
            ({"epochs"}, "else: batch size 32, now 24; learning rate 0.005, now 0.0012; resume"),
        ):
            with pytest.raises(UsageError) as raised:
                train(
                    small_network(), halves(), others,
                    folder=tmp_path, resume=True, named=frozenset(named),
                )  # fmt: skip
            assert words in str(raised.value)

    def test_refuses_a_damaged_state(self, finished, tmp_path):
        whole = (finished / "state.npz").read_bytes()
        (tmp_path / "state.npz").write_bytes(whole[: len(whole) // 2])
        with pytest.raises(DataError, match="is damaged"):
            train(small_network(), halves(), replace(QUICK, epochs=1), folder=tmp_path, resume=True)

    def test_a_finished_run_gives_its_result_again(self, finished):
        recipe = replace(QUICK, epochs=1)
        again = train(small_network(), halves(), recipe, folder=finished, resume=True)
        assert_same_weights(again.network, train(small_network(), halves(), recipe).network)


class TestFreezing:
    def test_the_head_alone_learns_on_features_computed_once(self, trained):
        start = adapt(trained.network, LABELS[:2])
        images = halves(60)
        pair = ImageSet("pair", [s for s in images.samples if s.label < 2], LABELS[:2])
        recipe = replace(QUICK, epochs=10, trainable_blocks=0, learning_rate=0.02)
        result = train(start, pair, recipe, held_out=pair)
        assert result.held_out_accuracy > 0.95  # the features already tell the two apart
        assert (array(result.network, "head.weight") != array(start, "head.weight")).all()
        unchanged = with_operator(result.network, "head", start.logits.operator)
        assert_same_weights(unchanged, start)

    def test_the_last_blocks_learn_and_the_first_do_not(self):
        start = small_network()
        network = train(start, halves(), replace(QUICK, epochs=1, trainable_blocks=1)).network
        after = dict(network.named_arrays())
        changed = {name for name, array in start.named_arrays() if (array != after[name]).any()}
        assert {name.split(".")[0] for name in changed} == {"blocks", "norm", "head"}
        assert not any(name.startswith("blocks.0") for name in changed)

    def test_more_blocks_than_there_are_is_an_error(self):
        with pytest.raises(UsageError, match="3 trainable blocks of a model that has 2"):
            train(small_network(), halves(), replace(QUICK, trainable_blocks=3))


class TestTeacher:
    @pytest.mark.parametrize("hard", [True, False], ids=["hard", "soft"])
    def test_a_student_learns_from_its_teacher_alone(self, trained, hard):
        # Labels that are all the same teach nothing; with share 1 only the teacher counts.
        images = halves()
        unlabelled = ImageSet("one class", [replace(s, label=0) for s in images.samples])
        recipe = replace(
            QUICK, epochs=20, distillation=Distillation(hard=hard, share=1.0, temperature=2.0)
        )
        result = train(small_network(seed=1), unlabelled, recipe, teacher=trained.network)
        assert accuracy(result.network, images) > 0.9  # chance, or label 0, would be a third

    def test_of_other_classes_is_refused(self, trained):
        with pytest.raises(UsageError, match=r"teacher has 3 classes .* student 2"):
            train(small_network(classes=2), halves(), QUICK, teacher=trained.network)

    def test_is_asked_for_the_labels_of_images_without(self, trained):
        images = halves()
        unlabelled = ImageSet("unlabelled", [replace(s, label=None) for s in images.samples])
        labelled = answered(unlabelled, trained.network)
        found = [sample.label for sample in labelled.samples]
        assert np.mean([a == s.label for a, s in zip(found, images.samples, strict=True)]) > 0.95
        assert labelled.class_names == LABELS
        assert labelled.samples[:3][1].name == images.samples[1].name

    def test_cannot_help_the_head_alone(self, trained):
        with pytest.raises(UsageError, match="only the head learns"):
            train(
                small_network(),
                halves(),
                replace(QUICK, trainable_blocks=0),
                teacher=trained.network,
            )


class TestDistillationToken:
    def test_beside_a_class_token_hardly_changes_the_answers(self, trained):
        network = with_distillation_token(trained.network)
        assert array(network, "prefix").shape[0] == 2
        assert reads_two_tokens(network)
        assert with_distillation_token(network) is network
        assert accuracy(network, halves()) > 0.9  # one token more in attention, and no training

    @pytest.mark.parametrize("pooled_norm", [False, True])
    def test_answers_the_mean_of_two_heads_that_agree(self, pooled_norm):
        start = random_network(pooled_norm=pooled_norm)
        network = with_distillation_token(start)
        model, images = to_keras(network), random_images(network, 4)
        # The second token is a copy, so it becomes what the first becomes.
        (features,) = model.compute([model.form.logits.inputs[0]], images)
        first, second = np.split(np.asarray(features), 2, axis=-1)
        np.testing.assert_allclose(first, second, rtol=1e-5, atol=1e-5)
        of_class, of_teacher = answers_of_each(model, features)
        np.testing.assert_allclose(of_class, of_teacher, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(of_class, forward(network, images), rtol=1e-4, atol=1e-4)

    @pytest.mark.parametrize("pooling", [Pooling.MEAN, Pooling.FLATTEN, Pooling.CLASS_AND_MEAN])
    def test_needs_a_plain_class_token(self, pooling):
        with pytest.raises(UsageError, match="beside a class token"):
            with_distillation_token(small_network(pooling=pooling))

    def test_learns_from_the_teacher_and_the_class_token_from_the_labels(self, trained):
        # The labels say all is left; the teacher knows better.
        images = halves()
        left = ImageSet("left", [replace(s, label=0) for s in images.samples], LABELS)
        recipe = replace(QUICK, epochs=20, distillation=Distillation(hard=True, share=0.5))
        start = with_distillation_token(small_network(seed=1))
        network = train(start, left, recipe, teacher=trained.network).network
        pixels = network.preprocessing.batch([sample.image for sample in images.samples])
        model = to_keras(network)
        (features,) = model.compute([model.form.logits.inputs[0]], pixels)
        of_class, of_teacher = answers_of_each(model, features)
        labels = [sample.label for sample in images.samples]
        assert (np.argmax(of_class, -1) == 0).mean() > 0.95
        assert (np.argmax(of_teacher, -1) == labels).mean() > 0.9
        mean = (np.asarray(of_class) + np.asarray(of_teacher)) / 2
        np.testing.assert_allclose(
            mean, forward(network, pixels), atol=1e-4
        )  # float32, logits of 10


def lost(network: Network) -> Network:
    """The same with a head whose answers are infinite."""
    head = network.logits.operator
    assert isinstance(head, Linear)
    bias = np.full(head.bias.shape, np.inf, np.float32)
    return with_operators(network, {network.logits: replace(head, bias=bias)})


class TestBadInput:
    def test_a_lost_loss_stops_the_run_and_says_what_to_change(self):
        recipe = replace(QUICK, learning_rate=1e3, warmup_epochs=0, gradient_clip=1e12, epochs=30)
        broken = lost(small_network())
        with pytest.raises(VitedgeError, match=r"epoch 1: lower the learning rate \(now 1000\)"):
            train(broken, halves(), recipe)

    def test_an_image_that_cannot_be_decoded_is_named(self):
        images = halves()
        samples = [*images.samples[:-1], Sample("broken", b"no image", 0)]
        with pytest.raises(DataError, match="8 bytes is not an image"):
            train(small_network(), ImageSet("broken", samples), QUICK)

    @pytest.mark.parametrize(
        ("label", "message"),
        [(None, "'odd' of 'set' has no label"), (3, "has a label 3, the model has 3 classes")],
    )
    def test_a_label_that_does_not_fit_is_refused(self, label, message):
        samples = [Sample("odd", np.zeros((8, 8), np.uint8), label)]
        with pytest.raises(DataError, match=message):
            train(small_network(), ImageSet("set", samples), QUICK)

    def test_an_empty_set_is_refused(self):
        with pytest.raises(DataError, match="holds no images"):
            train(small_network(), ImageSet("set", ()), QUICK)


class TestAdapting:
    def test_other_classes_get_a_fresh_head(self):
        adapted = adapt(small_network(), ("a", "b", "c", "d"))
        assert adapted.labels == ("a", "b", "c", "d")
        assert array(adapted, "head.weight").shape == (16, 4)
        assert adapted.classes == 4
        before = dict(small_network().named_arrays())
        for name, found in adapted.named_arrays():
            if not name.startswith("head."):
                np.testing.assert_array_equal(found, before[name], err_msg=name)

    def test_hidden_layers_of_a_head_go_with_it(self):
        adapted = adapt(random_network(head_hidden=(6, 5)), ("a", "b"))
        assert [value.name for value, _ in adapted.linears()][-2:] == ["blocks.1.fc2", "head"]
        assert array(adapted, "head.weight").shape == (24, 2)
        assert to_keras(adapted)(random_images(adapted)).shape == (2, 2)

    def test_the_same_classes_keep_the_head(self):
        assert_same_weights(adapt(small_network(), LABELS), small_network())

    def test_classes_without_names_keep_the_head(self):
        assert_same_weights(adapt(small_network(), ()), small_network())

    def test_names_are_matched_with_the_models_in_any_order(self):
        images = halves(6)
        other = ImageSet("other order", images.samples, ("Top", "left", "right"))
        matched = in_classes_of(small_network(), other)
        assert [sample.label for sample in matched.samples] == [2, 0, 1, 2, 0, 1]
        assert matched.class_names == LABELS
        nameless = in_classes_of(
            replace(small_network(), labels=()), replace(other, class_names=("2", "0", "1"))
        )
        assert [sample.label for sample in nameless.samples] == [2, 0, 1, 2, 0, 1]
        with pytest.raises(DataError, match="'bottom' of 'wrong' is not one of the model's 3"):
            in_classes_of(
                small_network(), ImageSet("wrong", images.samples, ("bottom", "left", "top"))
            )

    def test_another_size_interpolates_the_positions(self):
        network = small_network()
        adapted = adapt(network, LABELS, image_size=(16, 16))
        positions = array(adapted, "positions")
        assert positions.shape == (16, 16)
        assert adapted.preprocessing.size == (16, 16)
        # Interpolation keeps the mean over the grid, up to the borders' weights.
        before = array(network, "positions")
        np.testing.assert_allclose(positions.mean(0), before.mean(0), atol=0.02)
        assert forward(adapted, random_images(adapted)).shape == (2, 3)

    @pytest.mark.parametrize("pooling", [Pooling.MEAN, Pooling.CLASS_AND_MEAN, Pooling.DISTILLED])
    def test_another_size_is_as_the_plain_form_has_it(self, pooling):
        vit = random_vit(pooling=pooling, prefix_tokens=3, pooled_norm=True, qk_norm=True)
        config = replace(vit.config, image_size=(48, 16))
        resized = replace(
            vit,
            config=config,
            positions=interpolate_positions(vit.positions, vit.config.grid, config.grid),
            preprocessing=replace(vit.preprocessing, size=(48, 16)),
        )
        wanted = network_of(resized)
        adapted = adapt(network_of(vit), (), image_size=(48, 16))
        assert described(adapted)[0] == described(wanted)[0]
        assert_same_weights(adapted, wanted)
