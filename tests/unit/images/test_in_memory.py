"""Images in memory become the set that a folder of them would."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitedge.errors import DataError
from vitedge.images.image_sets import ImageSet, open_images
from vitedge.images.in_memory import images_in_memory

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), np.uint8)
LABELS = np.array([0, 1, 2, 0, 1, 2])


def labels_of(images: ImageSet) -> list[int | None]:
    return [sample.label for sample in images.samples]


def assert_same_pixels(images: ImageSet) -> None:
    for sample, expected in zip(images.samples, PIXELS, strict=True):
        np.testing.assert_array_equal(np.asarray(sample.image), expected)


def test_an_array_is_a_set_without_labels() -> None:
    images = images_in_memory(PIXELS)
    assert_same_pixels(images)
    assert labels_of(images) == [None] * 6


@pytest.mark.parametrize("labels", [LABELS, LABELS.tolist(), LABELS[:, None], np.eye(3)[LABELS]])
def test_a_tuple_is_images_and_labels_as_indices_or_one_hot(labels: object) -> None:
    images = images_in_memory((PIXELS, labels))
    assert_same_pixels(images)
    assert labels_of(images) == LABELS.tolist()


def test_floats_that_are_proved_to_run_to_255_are_taken() -> None:
    assert_same_pixels(images_in_memory(PIXELS.astype(np.float32)))


@pytest.mark.parametrize(
    ("pixels", "words"),
    [
        (PIXELS / 255, "multiply them by 255"),
        (PIXELS.astype(np.float32) - 128, "must be 0..255"),
        (PIXELS.astype(np.float32) * np.nan, "must be 0..255"),
        (PIXELS.astype(np.int32) + 1, "must be 0..255"),
        (PIXELS[0, 0], "must be (N, H, W)"),
        (PIXELS[:0], "no images"),
        (PIXELS.astype(str), "pixels are uint8"),
    ],
)
def test_pixels_that_may_mean_something_else_are_refused(pixels: object, words: str) -> None:
    with pytest.raises(DataError) as error:
        images_in_memory(pixels)
    assert words in str(error.value)


@pytest.mark.parametrize("labels", [LABELS[:5], LABELS - 1, np.eye(3)[LABELS] * 0.5])
def test_labels_that_fit_no_image_or_class_are_refused(labels: object) -> None:
    with pytest.raises(DataError, match="labels"):
        images_in_memory((PIXELS, labels))


@pytest.mark.parametrize("is_batched", [True, False])
def test_a_tf_data_set_is_read_with_its_labels(is_batched: bool) -> None:
    import tensorflow as tf

    dataset = tf.data.Dataset.from_tensor_slices((PIXELS.astype(np.float32), np.eye(3)[LABELS]))
    images = images_in_memory(dataset.batch(4) if is_batched else dataset)
    assert_same_pixels(images)
    assert labels_of(images) == LABELS.tolist()


def test_a_tf_data_set_of_a_folder_brings_its_class_names(tmp_path: Path) -> None:
    import keras

    for name, pixels in (("cat", PIXELS[0]), ("dog", PIXELS[1])):
        (tmp_path / name).mkdir()
        Image.fromarray(pixels).save(tmp_path / name / "a.png")
    dataset = keras.utils.image_dataset_from_directory(
        tmp_path, image_size=(8, 8), shuffle=False, verbose=False
    )
    images = images_in_memory(dataset)
    assert images.class_names == ("cat", "dog")
    assert labels_of(images) == [0, 1]
    assert labels_of(open_images(images, ("dog", "cat"))) == [1, 0]


def test_any_sequence_of_images_is_a_set_without_labels(tmp_path: Path) -> None:
    Image.fromarray(PIXELS[0]).save(tmp_path / "a.png")
    images = images_in_memory([tmp_path / "a.png", PIXELS[1], Image.fromarray(PIXELS[2])])
    assert labels_of(images) == [None] * 3
    assert images.samples[0].name == str(tmp_path / "a.png")


@pytest.mark.parametrize(("images", "words"), [([], "no images"), (7, "not int")])
def test_what_holds_no_images_is_refused(images: object, words: str) -> None:
    with pytest.raises(DataError, match=words):
        images_in_memory(images)


def test_a_label_beyond_the_models_classes_is_refused() -> None:
    with pytest.raises(DataError, match="2 classes"):
        open_images(images_in_memory((PIXELS, LABELS)), ("one", "two"))
