"""The page of a training run lists the options that had an effect."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from tests.support.models import random_images, random_network
from vitedge.images.image_sets import ImageSet
from vitedge.images.samples import ArraySamples
from vitedge.train.fit import _facts
from vitedge.train.recipe import Augmentation, TrainingRecipe


def facts(recipe: TrainingRecipe, *, is_taught: bool = False) -> dict[str, str]:
    network = random_network()
    pixels = random_images(network, 4)
    images = ImageSet("noise", ArraySamples(pixels, np.arange(4)), network.labels)
    alone: Any = SimpleNamespace(count=1)
    return _facts(network, images, images, recipe, alone, is_taught=is_taught)


def test_options_that_are_off_are_not_listed() -> None:
    listed = facts(TrainingRecipe())
    assert not {"Average", "Layer decay", "Balance classes", "Quantize aware"} & set(listed)
    assert not {"Stochastic depth", "Distillation", "Replicas"} & set(listed)
    assert listed["Augmentation"] == "none"
    assert listed["Epoch kept"] == "the best on held-out images"


def test_options_that_are_on_are_listed() -> None:
    changes = Augmentation(crop=0.6, operations=2)
    recipe = TrainingRecipe(average=0.9, balance_classes=True, augmentation=changes)
    listed = facts(recipe, is_taught=True)
    assert listed["Average"] == "0.9"
    assert listed["Balance classes"] == "yes"
    assert listed["Augmentation"] == "crop 0.6, operations 2, magnitude 9"
    assert "Distillation" in listed
