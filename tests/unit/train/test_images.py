"""What happens to training images between the disk and the model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tests.support.cifar_files import write_cifar_10
from vitedge.errors import DataError
from vitedge.images.image_sets import ImageSet
from vitedge.images.preprocess import Preprocessing
from vitedge.images.samples import ArraySamples, Sample
from vitedge.train import Augmentation, TrainingRecipe, open_training_images, split
from vitedge.train.augment import OPERATIONS, augmented
from vitedge.train.distort import distort
from vitedge.train.mix import mix
from vitedge.train.pipeline import Loader, evaluation_batches, steps_per_epoch, training_batches

GREY = Preprocessing(size=(8, 8), channels=1, mean=(0.5,), std=(0.5,))
COLOUR = Preprocessing(size=(12, 10))


def numbered(count: int) -> ImageSet:
    """Images of one value each, which is their index."""
    pixels = np.broadcast_to(np.arange(count, dtype=np.uint8)[:, None, None], (count, 8, 8))
    return ImageSet("numbered", ArraySamples(pixels, np.arange(count) % 3))


class TestAugmentation:
    picture = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)

    @pytest.mark.parametrize("operation", OPERATIONS, ids=lambda each: each.__name__.strip("_"))
    @pytest.mark.parametrize("mode", ["L", "RGB"])
    @pytest.mark.parametrize("strength", [-1.0, 0.3, 1.0])
    def test_every_operation_keeps_size_and_mode(self, operation, mode, strength):
        picture = Image.fromarray(self.picture).convert(mode)
        changed = operation(picture, strength)
        assert (changed.size, changed.mode) == (picture.size, mode)

    @pytest.mark.parametrize("preprocessing", [GREY, COLOUR], ids=["grey", "colour"])
    def test_everything_at_once_still_fits_the_model(self, preprocessing):
        augmentation = Augmentation(crop=0.3, flip=True, operations=3)
        pixels = augmented(self.picture, preprocessing, augmentation, np.random.default_rng(0))
        assert pixels.shape == (*preprocessing.size, preprocessing.channels)
        assert pixels.dtype == np.uint8

    def test_none_is_what_the_device_does(self):
        pixels = augmented(self.picture, COLOUR, Augmentation(), np.random.default_rng(0))
        np.testing.assert_array_equal(pixels, COLOUR(self.picture))

    def test_a_flip_happens_every_second_time(self):
        plain = COLOUR(self.picture)
        rng = np.random.default_rng(0)
        flips = 0
        for _ in range(200):
            pixels = augmented(self.picture, COLOUR, Augmentation(flip=True), rng)
            flipped = (pixels != plain).any()
            if flipped:
                np.testing.assert_array_equal(pixels, plain[:, ::-1])
            flips += flipped
        assert 70 <= flips <= 130  # four standard deviations of 200 coins

    def test_crops_vary_and_follow_their_seed(self):
        def crop(seed: int) -> np.ndarray:
            augmentation = Augmentation(crop=0.2)
            return augmented(self.picture, COLOUR, augmentation, np.random.default_rng(seed))

        np.testing.assert_array_equal(crop(1), crop(1))
        assert (crop(1) != crop(2)).any()

    def test_a_broken_image_is_an_error(self):
        with pytest.raises(DataError, match="not an image"):
            augmented(b"x", COLOUR, Augmentation(flip=True), np.random.default_rng(0))


class TestDistortion:
    pixels = tf.constant(np.random.default_rng(0).integers(0, 256, (4, 9, 9, 1), np.uint8))

    def test_of_nothing_changes_nothing(self):
        assert distort(self.pixels, Augmentation(), tf.constant([0, 0])) is self.pixels

    def test_follows_its_seed(self):
        augmentation = Augmentation(shift=0.2, rotation=20, zoom=0.2)
        first, again, other = (
            distort(self.pixels, augmentation, tf.constant([0, step])).numpy() for step in (1, 1, 2)
        )
        np.testing.assert_array_equal(first, again)
        assert (first != other).any()
        assert first.dtype == np.uint8

    def test_turns_about_the_centre(self):
        # A dot in the middle of an odd grid stays there, whatever the rotation and zoom.
        dot = np.zeros((8, 9, 9, 1), np.uint8)
        dot[:, 4, 4] = 200
        turned = distort(
            tf.constant(dot), Augmentation(rotation=180, zoom=0.3), tf.constant([0, 0])
        )
        # Interpolation at the dot itself may round 200 down by one.
        assert (turned.numpy()[:, 4, 4] >= 199).all()


class TestMixing:
    rng = np.random.default_rng(0)
    pixels = tf.constant(rng.integers(0, 256, (16, 8, 8, 3), np.uint8))
    targets = tf.one_hot(np.arange(16) % 5, 5)

    @pytest.mark.parametrize(
        "augmentation",
        [Augmentation(mixup=0.3), Augmentation(cutmix=1.0), Augmentation(mixup=0.3, cutmix=1.0)],
        ids=["mixup", "cutmix", "both"],
    )
    def test_targets_stay_probabilities(self, augmentation):
        _, targets = mix(self.pixels, self.targets, augmentation, tf.constant([0, 1], tf.int64))
        np.testing.assert_allclose(tf.reduce_sum(targets, 1), 1, rtol=1e-6)  # float32 rounding
        assert tf.reduce_min(targets) >= 0

    def test_of_nothing_changes_nothing(self):
        pixels, targets = mix(self.pixels, self.targets, Augmentation(), tf.constant([0, 1]))
        assert pixels is self.pixels
        assert targets is self.targets

    def test_mixup_blends_pixels_as_it_blends_targets(self):
        black_white = tf.constant(
            np.repeat([0, 255], 8)[:, None, None, None] + np.zeros((16, 2, 2, 1)), tf.uint8
        )
        targets = tf.one_hot(np.repeat([0, 1], 8), 2)
        pixels, mixed = mix(
            black_white, targets, Augmentation(mixup=1.0), tf.constant([0, 1], tf.int64)
        )
        # Pixels are rounded to integers: half of 1/255.
        np.testing.assert_allclose(pixels[:, 0, 0, 0] / 255, mixed[:, 1], atol=0.5 / 255 + 1e-6)

    def test_cutmix_counts_the_pixels_it_replaces(self):
        black_white = tf.constant(
            np.repeat([0, 255], 8)[:, None, None, None] + np.zeros((16, 9, 7, 1)), tf.uint8
        )
        targets = tf.one_hot(np.repeat([0, 1], 8), 2)
        pixels, mixed = mix(
            black_white, targets, Augmentation(cutmix=1.0), tf.constant([0, 1], tf.int64)
        )
        white = (pixels.numpy() == 255).mean((1, 2, 3))
        np.testing.assert_allclose(white, mixed[:, 1], atol=1e-6)  # float32 rounding
        assert len(np.unique(white)) > 4


class TestPipeline:
    recipe = TrainingRecipe(epochs=3, batch_size=4, warmup_epochs=0)

    def values(self, first_epoch: int = 0, **changes: object) -> np.ndarray:
        loader = Loader(numbered(10), GREY, 3)
        batches = training_batches(
            loader, 3, TrainingRecipe(**(vars(self.recipe) | changes)), first_epoch
        )
        return np.array([pixels.numpy()[:, 0, 0, 0] for pixels, _ in batches])

    def test_an_epoch_shows_every_image_and_fills_the_last_batch_with_others_each_time(self):
        repeated = []
        for epoch in self.values().reshape(3, 12):
            assert set(epoch) == set(range(10))
            assert len(set(epoch[8:])) == 4
            repeated.append(set(epoch[10:]))
        assert repeated[0] != repeated[1]

    def test_each_epoch_and_each_seed_has_an_order_of_its_own(self):
        epochs = self.values().reshape(3, 12)
        assert (epochs[0] != epochs[1]).any()
        assert (self.values() != self.values(seed=1)).any()

    @pytest.mark.parametrize(
        "augmentation", [Augmentation(), Augmentation(operations=1, shift=0.3)]
    )
    def test_starting_later_continues_as_if_it_had_never_stopped(self, augmentation):
        whole = self.values(augmentation=augmentation)
        np.testing.assert_array_equal(self.values(1, augmentation=augmentation), whole[3:])

    def test_targets_belong_to_their_images(self):
        for pixels, targets in training_batches(Loader(numbered(10), GREY, 3), 3, self.recipe):
            np.testing.assert_array_equal(targets.numpy().argmax(1), pixels.numpy()[:, 0, 0, 0] % 3)

    def test_a_set_smaller_than_a_batch_is_one_batch(self):
        assert steps_per_epoch(3, 4) == 1
        (batch,) = training_batches(
            Loader(numbered(3), GREY, 3), 3, TrainingRecipe(epochs=1, batch_size=4, warmup_epochs=0)
        )
        assert batch[0].shape == (3, 8, 8, 1)

    def test_evaluation_sees_every_image_once_and_in_order(self):
        batches = evaluation_batches(Loader(numbered(200), GREY, 3), 3)
        seen = np.concatenate([pixels.numpy()[:, 0, 0, 0] for pixels, _ in batches])
        np.testing.assert_array_equal(seen, np.arange(200))


class TestSplitting:
    def test_is_by_class_and_complete(self):
        training, held_out = split(numbered(90), share=0.2, seed=0)
        assert np.bincount([sample.label for sample in held_out.samples]).tolist() == [6, 6, 6]
        names = {sample.name for part in (training, held_out) for sample in part.samples}
        assert len(names) == 90

    def test_leaves_something_on_both_sides(self):
        training, held_out = split(numbered(6), share=0.01, seed=0)
        assert (len(training.samples), len(held_out.samples)) == (3, 3)

    def test_follows_its_seed(self):
        def held_out(seed: int) -> list[str]:
            return [sample.name for sample in split(numbered(30), share=0.3, seed=seed)[1].samples]

        assert held_out(1) == held_out(1)
        assert held_out(1) != held_out(2)

    def test_needs_labels(self):
        images = ImageSet("set", (Sample("odd", b"", None),))
        with pytest.raises(DataError, match="'odd' of 'set' has no label"):
            split(images, share=0.5, seed=0)


class TestOpeningTrainingImages:
    def test_the_digits_by_name(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        assert [len(part.samples) for part in open_training_images("digits")] == [1438, 359]

    @pytest.mark.parametrize("name", ["validation", "val", "test"])
    def test_two_folders_are_the_split(self, tmp_path: Path, name: str):
        for part, label in (("train", "a"), ("train", "b"), (name, "b")):
            (tmp_path / part / label).mkdir(parents=True)
            Image.new("RGB", (4, 4)).save(tmp_path / part / label / "1.png")
        training, held_out = open_training_images(tmp_path)
        assert [sample.label for sample in training.samples] == [0, 1]
        assert [sample.label for sample in held_out.samples] == [1]

    def test_an_array_file_with_both_parts(self, tmp_path):
        pixels = np.zeros((4, 5, 5), np.uint8)
        np.savez(
            tmp_path / "mnist.npz",
            x_train=pixels,
            y_train=np.array([[0], [1], [2], [1]]),
            x_test=pixels[:1],
            y_test=np.array([[2]]),
        )
        training, held_out = open_training_images(tmp_path / "mnist.npz")
        assert [sample.label for sample in training.samples] == [0, 1, 2, 1]
        assert [sample.label for sample in held_out.samples] == [2]

    def test_an_array_file_without_parts_is_split(self, tmp_path):
        pixels = np.zeros((20, 5, 5), np.uint8)
        np.savez(tmp_path / "set.npz", images=pixels, labels=np.arange(20) % 2)
        parts = open_training_images(tmp_path / "set.npz", share=0.2)
        assert [len(part.samples) for part in parts] == [16, 4]

    def test_the_shared_cifar_is_read_as_it_is_kept(self, shared_data):
        training, held_out = open_training_images(shared_data / "cifar10" / "cifar10_jpeg.npz")
        assert (len(training.samples), len(held_out.samples)) == (50_000, 10_000)
        assert training.class_names[training.samples[0].label] == "airplane"
        assert Preprocessing(size=(32, 32))(held_out.samples[-1].image).shape == (32, 32, 3)


def test_cifar_is_trained_on_by_its_own_two_parts(tmp_path):
    write_cifar_10(tmp_path / "cifar")
    training, held_out = open_training_images(tmp_path / "cifar")
    assert [sample.label for sample in training.samples] == [1, 0, 2, 0, 3, 0, 4, 0, 5, 0]
    assert [sample.label for sample in held_out.samples] == [9, 3]
