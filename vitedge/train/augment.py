"""Random changes of one picture before it becomes the model's input, in Pillow.

Crops are cut from the picture as it is on disk, before it loses resolution.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageEnhance, ImageOps

from vitedge.images.preprocess import ImageLike, Preprocessing, open_image

if TYPE_CHECKING:
    from vitedge.train.recipe import Augmentation

Operation: TypeAlias = Callable[[Image.Image, float], Image.Image]
"""Changes a picture by a strength from -1 to 1; the sign is a direction."""

_ASPECT = math.log(4 / 3)
_CROP_ATTEMPTS = 10
_GREY = 128


def augmented(
    image: ImageLike,
    preprocessing: Preprocessing,
    augmentation: Augmentation,
    rng: np.random.Generator,
) -> npt.NDArray[np.uint8]:
    """One training image, ``(H, W, C)`` uint8 of the model's input size.

    Raises:
        DataError: The image cannot be decoded.
    """
    if augmentation.crop == 1 and not augmentation.flip and not augmentation.operations:
        return preprocessing(image)
    picture = open_image(image).convert("L" if preprocessing.channels == 1 else "RGB")
    if augmentation.crop < 1:
        height, width = preprocessing.size
        resample = Image.Resampling[preprocessing.interpolation.name]
        box = _random_box(picture.width, picture.height, augmentation.crop, rng)
        picture = picture.resize((width, height), resample, box=box)
    else:
        picture = Image.fromarray(preprocessing(picture).squeeze())
    if augmentation.flip and rng.random() < 0.5:
        picture = ImageOps.mirror(picture)
    for choice in rng.integers(len(OPERATIONS), size=augmentation.operations):
        sign = 1 if rng.random() < 0.5 else -1
        picture = OPERATIONS[choice](picture, sign * augmentation.magnitude / 10)
    return np.asarray(picture, np.uint8).reshape(*preprocessing.size, preprocessing.channels)


def _random_box(
    width: int, height: int, least: float, rng: np.random.Generator
) -> tuple[int, int, int, int]:
    """A box of a random share of the area and a random aspect; the whole picture if none fits."""
    for _ in range(_CROP_ATTEMPTS):
        area = width * height * rng.uniform(least, 1)
        aspect = math.exp(rng.uniform(-_ASPECT, _ASPECT))
        across, down = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < across <= width and 0 < down <= height:
            left = int(rng.integers(width - across + 1))
            top = int(rng.integers(height - down + 1))
            return left, top, left + across, top + down
    return 0, 0, width, height


# --- RandAugment (arXiv:1909.13719); the ranges are those of its table 6 -------------------------


def _affine(picture: Image.Image, matrix: tuple[float, ...]) -> Image.Image:
    grey = _GREY if picture.mode == "L" else (_GREY,) * 3
    return picture.transform(
        picture.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR, fillcolor=grey
    )


def _shear_x(picture: Image.Image, strength: float) -> Image.Image:
    slope = 0.3 * strength
    return _affine(picture, (1, slope, -slope * picture.height / 2, 0, 1, 0))


def _shear_y(picture: Image.Image, strength: float) -> Image.Image:
    slope = 0.3 * strength
    return _affine(picture, (1, 0, 0, slope, 1, -slope * picture.width / 2))


def _translate_x(picture: Image.Image, strength: float) -> Image.Image:
    return _affine(picture, (1, 0, 0.45 * strength * picture.width, 0, 1, 0))


def _translate_y(picture: Image.Image, strength: float) -> Image.Image:
    return _affine(picture, (1, 0, 0, 0, 1, 0.45 * strength * picture.height))


def _rotate(picture: Image.Image, strength: float) -> Image.Image:
    grey = _GREY if picture.mode == "L" else (_GREY,) * 3
    return picture.rotate(30 * strength, Image.Resampling.BILINEAR, fillcolor=grey)


def _brightness(picture: Image.Image, strength: float) -> Image.Image:
    return ImageEnhance.Brightness(picture).enhance(1 + 0.9 * strength)


def _contrast(picture: Image.Image, strength: float) -> Image.Image:
    return ImageEnhance.Contrast(picture).enhance(1 + 0.9 * strength)


def _color(picture: Image.Image, strength: float) -> Image.Image:
    return ImageEnhance.Color(picture).enhance(1 + 0.9 * strength)


def _sharpness(picture: Image.Image, strength: float) -> Image.Image:
    return ImageEnhance.Sharpness(picture).enhance(1 + 0.9 * strength)


def _posterize(picture: Image.Image, strength: float) -> Image.Image:
    return ImageOps.posterize(picture, 8 - round(4 * abs(strength)))


def _solarize(picture: Image.Image, strength: float) -> Image.Image:
    return ImageOps.solarize(picture, round(256 * (1 - abs(strength))))


def _autocontrast(picture: Image.Image, strength: float) -> Image.Image:
    return ImageOps.autocontrast(picture)


def _equalize(picture: Image.Image, strength: float) -> Image.Image:
    return ImageOps.equalize(picture)


def _identity(picture: Image.Image, strength: float) -> Image.Image:
    return picture


OPERATIONS: tuple[Operation, ...] = (
    _identity,
    _autocontrast,
    _equalize,
    _rotate,
    _solarize,
    _color,
    _posterize,
    _contrast,
    _brightness,
    _sharpness,
    _shear_x,
    _shear_y,
    _translate_x,
    _translate_y,
)
