"""What `vitedge train` chooses for a set of images, and what it says of the set."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitedge.errors import DataError
from vitedge.images.image_sets import ImageSet
from vitedge.images.samples import ArraySamples
from vitedge.targets.precisions import Precision
from vitedge.train import Augmentation, Distillation, TrainingRecipe, split
from vitedge.train.pipeline import steps_per_epoch
from vitedge.train.splits import Parts, folds, open_parts
from vitedge.train.told import what_is_missing, what_was_read
from vitedge.train.usual import in_words, settled


@pytest.mark.parametrize(
    ("images", "batch_size"), [(1, 8), (40, 8), (218, 16), (1000, 64), (1438, 128), (10**6, 128)]
)
def test_few_images_get_small_batches(images: int, batch_size: int):
    assert settled(TrainingRecipe(), (), images, fine_tuning=True).batch_size == batch_size


@pytest.mark.parametrize("fine_tuning", [False, True])
@pytest.mark.parametrize("images", [16, 218, 1438, 50_000])
def test_a_run_has_enough_steps_and_a_warm_up_of_some(images: int, fine_tuning: bool):
    recipe = settled(TrainingRecipe(), (), images, fine_tuning=fine_tuning)
    steps = steps_per_epoch(images, recipe.batch_size)
    assert recipe.epochs * steps >= 200
    assert 10 <= recipe.epochs <= 300
    assert recipe.warmup_epochs * steps >= 40
    assert recipe.warmup_epochs <= recipe.epochs / 5


def test_a_small_batch_has_a_low_rate_and_fine_tuning_a_lower_one():
    small, large = (
        settled(TrainingRecipe(), (), images, fine_tuning=False) for images in (218, 50_000)
    )
    assert large.learning_rate == 1e-3
    assert small.learning_rate == pytest.approx(1e-3 * (16 / 128) ** 0.5, rel=0.05)
    tuned = settled(TrainingRecipe(), (), 218, fine_tuning=True)
    assert tuned.learning_rate < small.learning_rate
    assert tuned.layer_decay < 1


def test_what_was_named_is_kept_and_the_rest_follows_from_it():
    asked = TrainingRecipe(
        epochs=7,
        batch_size=109,
        warmup_epochs=0,
        learning_rate=0.1,
        augmentation=Augmentation(crop=0.9),
    )
    recipe = settled(asked, {"epochs", "batch_size", "crop"}, 218, fine_tuning=False)
    assert (recipe.epochs, recipe.batch_size, recipe.augmentation.crop) == (7, 109, 0.9)
    assert recipe.augmentation.flip  # usual from scratch
    assert recipe.warmup_epochs == pytest.approx(1.4)
    assert recipe.learning_rate == pytest.approx(1e-3 * (109 / 128) ** 0.5, rel=0.05)


def test_repair_has_values_of_its_own_and_keeps_what_was_named():
    asked = TrainingRecipe(quantize_aware=Precision.INT4, weight_decay=0.3, warmup_epochs=0)
    recipe = settled(asked, {"weight_decay"}, 200, fine_tuning=True)
    assert (recipe.epochs, recipe.batch_size, recipe.weight_decay) == (80, 16, 0.3)
    assert (recipe.distillation.share, recipe.distillation.hard) == (1.0, False)
    assert not recipe.keep_best


def test_blocks_of_smaller_images_are_imitated_only_where_that_is_named():
    asked = TrainingRecipe(repair=True, warmup_epochs=0, distillation=Distillation(blocks=3.0))

    def weight(names: set[str], smaller_images: bool) -> float:
        recipe = settled(asked, names, 200, fine_tuning=True, smaller_images=smaller_images)
        return recipe.distillation.blocks

    assert (weight(set(), True), weight({"blocks"}, True), weight(set(), False)) == (0, 3, 3)


def test_the_choice_is_said_in_one_line():
    recipe = settled(TrainingRecipe(epochs=9, warmup_epochs=0), {"epochs"}, 218, fine_tuning=True)
    assert in_words(recipe, {"epochs"}, 218) == (
        "for 218 images: batches of 16, 14 steps an epoch, 9 epochs (as given), a warm-up of 1.8 "
        "epochs, a learning rate of 0.00011"
    )


def of_labels(*labels: int, names: tuple[str, ...] = ("cats", "dogs", "eels")) -> ImageSet:
    pixels = np.zeros((len(labels), 4, 4), np.uint8)
    return ImageSet("photos", ArraySamples(pixels, np.array(labels)), names)


def divided(images: ImageSet) -> Parts:
    return Parts(*split(images, share=0.2, seed=0), images)


def test_what_was_read_has_the_smallest_and_the_largest_class():
    parts = divided(of_labels(*[0] * 10, *[1] * 5, 2))
    assert what_was_read(parts, ("cats", "dogs", "eels"), "photos") == (
        "read 16 images of 'photos' in 3 classes (the smallest, 'eels', has 1, the largest, "
        "'cats', 10): 13 to learn from, 3 held out, to measure on"
    )


def test_a_class_of_one_image_is_said_to_be_measured_by_none():
    (words,) = what_is_missing(divided(of_labels(0, 0, 0, 1, 1, 2)), ("cats", "dogs", "eels"))
    assert words == "nothing is measured of 'eels': a class of one image is never held out"


def test_a_class_without_images_is_named():
    (words,) = what_is_missing(divided(of_labels(0, 0, 1, 1)), ("cats", "dogs", "eels"))
    assert words == "no image of 'eels' to learn from"


def test_folds_hold_out_each_image_once_and_each_class_alike():
    images = of_labels(*[0] * 10, *[1] * 7, 2)
    held_out = []
    for training, fold in folds(images, 3, seed=0):
        assert len(training.samples) + len(fold.samples) == 18
        labels = [sample.label for sample in fold.samples]
        assert labels.count(0) in (3, 4)
        assert labels.count(1) in (2, 3)
        held_out += [sample.name for sample in fold.samples]
    assert sorted(held_out) == sorted(sample.name for sample in images.samples)


def test_more_folds_than_images_are_refused():
    with pytest.raises(DataError, match="3 images of 'photos' make no 4 folds"):
        next(folds(of_labels(0, 1, 2), 4, seed=0))


class TestFolders:
    @pytest.fixture
    def photos(self, tmp_path: Path) -> Path:
        for name in ("cats", "dogs"):
            folder = tmp_path / "photos" / name
            folder.mkdir(parents=True)
            for number in range(3):
                Image.new("RGB", (8, 8), (number, 0, 0)).save(folder / f"{number}.png")
        return tmp_path / "photos"

    def test_a_level_too_deep_is_told_the_folder_above(self, photos: Path):
        with pytest.raises(DataError, match=r"give the folder above, '.*photos' \(2 folders: cats"):
            open_parts(photos / "cats")

    def test_a_level_too_high_is_told_the_folder_below(self, photos: Path):
        with pytest.raises(DataError, match=r"that holds the classes: give '.*photos' \(2 folders"):
            open_parts(photos.parent)

    def test_several_levels_too_high_are_told_the_folder_of_the_classes(self, photos: Path):
        above = photos.parent / "archive" / "data"
        above.mkdir(parents=True)
        photos.rename(above / "photos")
        (above / "__MACOSX").mkdir()
        with pytest.raises(DataError, match=r"'data.photos', and that holds .*give '.*photos' \(2"):
            open_parts(above.parent)

    def test_a_part_by_another_name_is_not_a_class(self, photos: Path):
        photos.rename(photos.parent / "train")
        open_parts(photos.parent / "train")
        (photos.parent / "eval").mkdir()
        Image.new("RGB", (8, 8)).save(photos.parent / "eval" / "a.png")
        with pytest.raises(DataError, match=r"call the part to measure on one of validation, "):
            open_parts(photos.parent)

    def test_a_held_out_part_without_classes_is_refused(self, photos: Path):
        photos.rename(photos.parent / "train")
        (photos.parent / "test").mkdir()
        Image.new("RGB", (8, 8)).save(photos.parent / "test" / "a.png")
        with pytest.raises(DataError, match="its images lie in no class folders: sort them"):
            open_parts(photos.parent)

    def test_what_does_not_decode_is_left_out_with_a_class_that_has_nothing_else(
        self, photos: Path
    ):
        (photos / "cats" / "torn.jpg").write_bytes(b"\xff\xd8\xff")
        (photos / "axes").mkdir()
        (photos / "axes" / "torn.jpg").write_bytes(b"\xff\xd8\xff")
        parts = open_parts(photos)
        assert parts.whole is not None
        assert parts.whole.class_names == ("cats", "dogs")
        assert [sample.label for sample in parts.whole.samples] == [0, 0, 0, 1, 1, 1]
        *torn, emptied = parts.whole.left_out
        assert len(torn) == 2
        assert emptied == "the class 'axes' (no photo of it decodes)"
        with pytest.raises(DataError, match=r"torn.jpg' is not an image"):
            open_parts(photos, strict=True)


def test_a_recipe_without_names_stays_as_it_is():
    recipe = replace(TrainingRecipe(), epochs=3, warmup_epochs=0)
    assert settled(recipe, {*vars(recipe), *vars(recipe.augmentation)}, 9, fine_tuning=True) == (
        recipe
    )
