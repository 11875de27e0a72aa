"""Finds augmentation layers of a Keras model, which leave pictures unchanged at inference."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vitedge.importers.lift.keras_files import keras_config

# Keras's own layers that change nothing at inference; RandomCrop, which crops there, is not one.
_LAYERS = frozenset(
    [
        *("RandomFlip", "RandomRotation", "RandomZoom", "RandomTranslation", "RandomShear"),
        *("RandomPerspective", "RandomElasticTransform", "RandomBrightness", "RandomContrast"),
        *("RandomHue", "RandomSaturation", "RandomColorJitter", "RandomColorDegeneration"),
        *("RandomGrayscale", "RandomInvert", "RandomPosterization", "RandomSharpness"),
        *("RandomGaussianBlur", "RandomErasing", "RandAugment", "AugMix", "CutMix", "MixUp"),
    ]
)


def augmentation_words(path: Path) -> str:
    """The augmentation layers of a Keras file that are left out, in words; empty without any."""
    config = keras_config(path)
    found = dict.fromkeys(() if config is None else _classes(config.model))
    named = ", ".join(name for name in found if name in _LAYERS)
    return f"augmentation left out ({named})" if named else ""


def _classes(value: Any) -> Iterator[str]:
    """The classes of Keras's own objects in a config, in their order."""
    if isinstance(value, dict):
        name, module = value.get("class_name"), value.get("module")
        is_own = module is None or str(module).partition(".")[0] == "keras"
        if isinstance(name, str) and is_own:
            yield name
        for each in value.values():
            yield from _classes(each)
    elif isinstance(value, list):
        for each in value:
            yield from _classes(each)
