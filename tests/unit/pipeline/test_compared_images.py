"""Artefacts are compared with their model on images that they were not calibrated on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import vitedge
from tests.support.models import random_network
from vitedge.images.image_sets import ImageSet
from vitedge.images.samples import ArraySamples
from vitedge.pipeline.compared_images import COMPARED_IMAGES, divide
from vitedge.pipeline.keras_model import write_keras


def photos(count: int, seed: int = 0) -> ImageSet:
    pixels = np.random.default_rng(seed).integers(0, 256, (count, 32, 32, 3), np.uint8)
    return ImageSet("photos", ArraySamples(pixels, None))


def names(images: ImageSet | None) -> set[str]:
    assert images is not None
    return {sample.name for sample in images.samples}


def test_of_many_images_some_are_kept_out_of_the_calibration() -> None:
    found = divide(photos(64))
    assert len(names(found.compared)) == COMPARED_IMAGES
    assert len(names(found.calibration)) == 64 - COMPARED_IMAGES
    assert not names(found.compared) & names(found.calibration)
    assert {"image 0", "image 63"} <= names(found.compared)  # from the whole of the set


def test_few_images_are_all_calibrated_on_and_the_words_say_so() -> None:
    found = divide(photos(63))
    assert found.compared is None
    assert len(names(found.calibration)) == 63
    assert found.words == "of the images that it was calibrated on"


def test_other_images_leave_the_calibration_whole() -> None:
    others = photos(3, seed=1)
    found = divide(photos(64), others)
    assert found.compared is others
    assert len(names(found.calibration)) == 64


@pytest.mark.parametrize(
    ("calibration", "data", "words"),
    [
        (70, None, "8 images that it was not calibrated on"),
        (20, None, "8 of the images that it was calibrated on"),
        (20, 5, "5 images that it was not calibrated on"),
    ],
)
def test_convert_says_on_what_it_compared(
    calibration: int, data: int | None, words: str, tmp_path: Path
) -> None:
    write_keras(random_network(8), tmp_path / "model.keras")
    made = vitedge.convert(
        tmp_path / "model.keras",
        formats="tflite",
        calibration=photos(calibration),
        data=None if data is None else photos(data, seed=1),
        output=tmp_path,
    )
    assert words in str(made)
