"""The images that every model of the zoo is compared on."""

from __future__ import annotations

import numpy as np

from reference.zoo.family import MEAN, STD
from vitedge.images.preprocess import Preprocessing
from vitedge.images.synthetic import synthetic_images

SHOWN = 32
_SEED = 99


def shown(size: tuple[int, int], count: int = SHOWN, seed: int = _SEED) -> np.ndarray:
    """Raw pixels, uint8 ``(count, H, W, 3)``, of other pictures than those calibrated on."""
    preprocessing = preprocessing_of(size)
    samples = synthetic_images(preprocessing, count, seed).samples
    return preprocessing.batch([each.image for each in samples])


def preprocessing_of(size: tuple[int, int]) -> Preprocessing:
    """Of every model of this size."""
    return Preprocessing(size=size, resize=None, mean=MEAN, std=STD)


def normalized(pixels: np.ndarray) -> np.ndarray:
    """The same as the models take them, float32 ``(N, H, W, 3)``."""
    mean, std = np.asarray(MEAN, np.float32), np.asarray(STD, np.float32)
    return ((pixels / np.float32(255) - mean) / std).astype(np.float32)
