"""Hugging Face's ``preprocessor_config.json`` as a ``Preprocessing``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vitedge.errors import ModelError
from vitedge.files.json_values import number, numbers, whole
from vitedge.images.interpolation import Interpolation
from vitedge.images.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocessing, demand_channels

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
_OPENAI = {
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}
_CLIP = {**_CROPPED, **_OPENAI, "size": {"shortest_edge": 224}}
_SIGLIP = {"size": 224, "resample": 3, "image_mean": _HALF, "image_std": _HALF}
_BEIT = {**_SIGLIP, "resample": 2}
DEFAULT_PROCESSORS: Mapping[str, Mapping[str, Any]] = {
    "vit": {"size": 224, "resample": 2, "image_mean": _HALF, "image_std": _HALF},
    "deit": _CROPPED,
    "dinov2": _CROPPED,
    "dinov2_with_registers": _CROPPED,
    "dinov3_vit": {**_CROPPED, "do_center_crop": False, "size": 224, "resample": 2},
    "vit_mae": {**_CROPPED, "do_center_crop": False, "size": 224},
    "depth_anything": {**_CROPPED, "do_center_crop": False, "size": 518},
    "segformer": {**_CROPPED, "do_center_crop": False, "size": 512, "resample": 2},
    "yolos": {**_CROPPED, "do_center_crop": False, "size": 512, "resample": 2},
    "swin": {**_CROPPED, "do_center_crop": False, "size": 224},
    "swinv2": {**_CROPPED, "do_center_crop": False, "size": 256},
    "clip": _CLIP,
    "clip_vision_model": _CLIP,
    "siglip": _SIGLIP,
    "siglip_vision_model": _SIGLIP,
    "siglip2": {**_SIGLIP, "resample": 2},
    "siglip2_vision_model": {**_SIGLIP, "resample": 2},
    "beit": _BEIT,
    "data2vec-vision": _BEIT,
}
"""What the published checkpoints of each ``model_type`` say; fields of a file go before these."""


def read_processor(values: Mapping[str, Any], channels: int) -> Preprocessing:
    """Reads an image processor's config.

    Raises:
        ModelError: A field is missing, garbled or means something that ``Preprocessing`` has not.
    """
    try:
        demand_channels(channels)
        size, resize = _sizes(values)
        mean, std = _statistics(values, channels)
        return Preprocessing(
            size=size,
            channels=channels,
            resize=resize,
            interpolation=_FILTERS[whole(values, "resample")],
            mean=mean,
            std=std,
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelError(f"preprocessor_config.json is incomplete or malformed: {error}") from error


def _sizes(values: Mapping[str, Any]) -> tuple[tuple[int, int], int | None]:
    """The crop, and the shorter side before it; None where the image is stretched instead."""
    size = values["size"]
    if not values.get("do_center_crop"):
        return _rectangle(size), None
    crop = _rectangle(values["crop_size"])
    if isinstance(size, int) or size.get("shortest_edge") is not None:
        return crop, _rectangle(size)[0]
    return crop, min(_rectangle(size))


def _rectangle(size: Any) -> tuple[int, int]:
    sides = {"height": size, "width": size} if isinstance(size, int) else size
    if "shortest_edge" in sides:
        shortest = whole(sides, "shortest_edge", least=1)
        return shortest, shortest
    return whole(sides, "height", least=1), whole(sides, "width", least=1)


def _statistics(
    values: Mapping[str, Any], channels: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of pixels scaled to 0..1, whatever scale the processor uses."""
    unit = 255 * number({"rescale_factor": 1 / 255, **values}, "rescale_factor")
    if not values.get("do_rescale", True):
        unit = 255.0
    if unit <= 0:
        raise ValueError(f"'rescale_factor' is {unit / 255:g}, not positive")
    if not values.get("do_normalize", True):
        return (0.0,) * channels, (1 / unit,) * channels
    mean = tuple(_rounded(value / unit) for value in numbers(values, "image_mean"))
    return mean, tuple(_rounded(value / unit) for value in numbers(values, "image_std"))


def _rounded(value: float) -> float:
    """Takes back the rounding of 255 * (1 / 255)."""
    return round(value, 12)
