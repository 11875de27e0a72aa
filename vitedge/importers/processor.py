"""Hugging Face's ``preprocessor_config.json`` as a ``Preprocessing``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vitedge.errors import ModelError
from vitedge.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from vitedge.spec import Interpolation

# Pillow's numbers of its filters.
_FILTERS = {
    0: Interpolation.NEAREST,
    1: Interpolation.LANCZOS,
    2: Interpolation.BILINEAR,
    3: Interpolation.BICUBIC,
}

_HALF = [0.5, 0.5, 0.5]
_CROPPED = {
    "do_center_crop": True,
    "size": {"shortest_edge": 256},
    "crop_size": 224,
    "resample": 3,
    "image_mean": list(IMAGENET_MEAN),
    "image_std": list(IMAGENET_STD),
}
DEFAULT_PROCESSORS: Mapping[str, Mapping[str, Any]] = {
    "vit": {"size": 224, "resample": 2, "image_mean": _HALF, "image_std": _HALF},
    "deit": _CROPPED,
    "dinov2": _CROPPED,
    "dinov2_with_registers": _CROPPED,
}
"""What the published checkpoints of each ``model_type`` say; fields of a file go before these."""


def read_processor(values: Mapping[str, Any], channels: int) -> Preprocessing:
    """Reads an image processor's config.

    Raises:
        ModelError: A field is missing, garbled or means something that ``Preprocessing`` has not.
    """
    try:
        size, resize = _sizes(values)
        mean, std = _statistics(values, channels)
        return Preprocessing(
            size=size,
            channels=channels,
            resize=resize,
            interpolation=_FILTERS[int(values["resample"])],
            mean=mean,
            std=std,
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelError(f"preprocessor_config.json lacks or garbles {error}") from error


def _sizes(values: Mapping[str, Any]) -> tuple[tuple[int, int], int | None]:
    """The crop, and the shorter side before it; None where the image is stretched instead."""
    size = values["size"]
    if not values.get("do_center_crop"):
        return _rectangle(size), None
    crop = _rectangle(values["crop_size"])
    shorter = size if isinstance(size, int) else size.get("shortest_edge")
    return crop, int(shorter) if shorter is not None else min(_rectangle(size))


def _rectangle(size: Any) -> tuple[int, int]:
    if isinstance(size, int):
        return size, size
    if "shortest_edge" in size:
        return int(size["shortest_edge"]), int(size["shortest_edge"])
    return int(size["height"]), int(size["width"])


def _statistics(
    values: Mapping[str, Any], channels: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of pixels scaled to 0..1, whatever scale the processor uses."""
    unit = 255 * float(values.get("rescale_factor", 1 / 255))
    if not values.get("do_rescale", True):
        unit = 255.0
    if not values.get("do_normalize", True):
        return (0.0,) * channels, (1 / unit,) * channels
    mean = tuple(_rounded(float(value) / unit) for value in values["image_mean"])
    return mean, tuple(_rounded(float(value) / unit) for value in values["image_std"])


def _rounded(value: float) -> float:
    """Takes back the rounding of 255 * (1 / 255)."""
    return round(value, 12)
