"""Hugging Face's ``preprocessor_config.json`` as a ``Preprocessing``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from vitedge.errors import ModelError
from vitedge.files.json_values import number, numbers, shown, whole
from vitedge.images.interpolation import Interpolation
from vitedge.images.preprocess import Preprocessing, demand_channels
from vitedge.importers.processor_classes import HALVES, IMAGENET, OPENAI

# Pillow's numbers of its filters.
_FILTERS = {
    0: Interpolation.NEAREST,
    1: Interpolation.LANCZOS,
    2: Interpolation.BILINEAR,
    3: Interpolation.BICUBIC,
}

_LEVIT_RESIZE = 256 / 224
_CONVNEXT_STRETCHES = 384
"""The least side that ConvNextImageProcessor stretches images to, without a crop."""

_CROPPED = {
    "do_center_crop": True,
    "size": {"shortest_edge": 256},
    "crop_size": 224,
    "resample": 3,
    **IMAGENET,
}
_CLIP = {**_CROPPED, **OPENAI, "size": {"shortest_edge": 224}}
_SIGLIP = {"size": 224, "resample": 3, **HALVES}
_BEIT = {**_SIGLIP, "resample": 2}
DEFAULT_PROCESSORS: Mapping[str, Mapping[str, Any]] = {
    "vit": {"size": 224, "resample": 2, **HALVES},
    "deit": {**_CROPPED, "size": 256},
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
"""What the published checkpoints of each ``model_type`` say, where no file lies beside one."""


def read_processor(
    values: Mapping[str, Any],
    channels: int,
    *,
    class_name: str = "",
    resize: int | None = None,
    warn: Callable[[str], None] = lambda _: None,
) -> Preprocessing:
    """Reads an image processor's config.

    Args:
        values: Its fields, those of its class among them.
        channels: The number of the images' channels.
        class_name: The name of its class, whose steps may be particular.
        resize: The user's word on the resize, if there is one.
        warn: Told where images are stretched whose shape transformers keeps.

    Raises:
        ModelError: A field is missing, garbled or means something that ``Preprocessing`` has not.
    """
    try:
        demand_channels(channels)
        size, resized = _sizes(values, class_name)
        mean, std = _statistics(values, channels)
        made = Preprocessing(
            size=size,
            channels=channels,
            resize=resized,
            interpolation=_filter(values),
            mean=mean,
            std=std,
        )
    except KeyError as error:
        raise ModelError(
            f"preprocessor_config.json is incomplete or malformed: it lacks {error}"
        ) from error
    except (TypeError, ValueError, AttributeError) as error:
        raise ModelError(f"preprocessor_config.json is incomplete or malformed: {error}") from error
    if resize is None:
        _check_resize(values, made, class_name, warn)
    return made


def _check_resize(
    values: Mapping[str, Any],
    made: Preprocessing,
    class_name: str,
    warn: Callable[[str], None],
) -> None:
    """Says or refuses what one size of images cannot do."""
    if not values.get("do_resize", True):
        raise ModelError(
            "preprocessor_config.json says do_resize false, and vitedge resizes images to one "
            "size before they are cropped: say with --resize how (0 stretches them)"
        )
    size = values.get("size")
    free = isinstance(size, Mapping) and "shortest_edge" in size and class_name != "ConvNext"
    keeps = free and not values.get("do_center_crop")
    if keeps or values.get("keep_aspect_ratio") or class_name == "Siglip2":
        warn(
            "preprocessor_config.json keeps the shape of images, and a converted model takes one "
            f"size: they are stretched to {made.size[0]}x{made.size[1]}; --resize N crops them"
        )


def _filter(values: Mapping[str, Any]) -> Interpolation:
    number_of_filter = whole(values, "resample")
    if number_of_filter not in _FILTERS:
        known = ", ".join(f"{key} ({name})" for key, name in _FILTERS.items())
        raise ValueError(f"'resample' is {number_of_filter}, not one of {known}")
    return _FILTERS[number_of_filter]


def _sizes(
    values: Mapping[str, Any], class_name: str
) -> tuple[tuple[int, int], int | tuple[int, int] | None]:
    """The crop, and the resize before it; None where the image is stretched to its size."""
    size = values["size"]
    if class_name == "ConvNext":
        side = _rectangle(values, "size")[0]
        return (side, side), (int(side / _share(values)) if side < _CONVNEXT_STRETCHES else None)
    if not values.get("do_center_crop"):
        return _rectangle(values, "size"), None
    crop, sides = _rectangle(values, "crop_size"), _rectangle(values, "size")
    if any(kept > side for kept, side in zip(crop, sides, strict=True)):
        raise ValueError(
            f"its crop of {crop[0]}x{crop[1]} is larger than its size, and vitedge does not pad "
            "images: make 'crop_size' smaller, or 'size' larger"
        )
    if not isinstance(size, Mapping) or "shortest_edge" not in size:
        return crop, None if sides == crop else sides
    return crop, int(_LEVIT_RESIZE * sides[0]) if class_name == "Levit" else sides[0]


def _share(values: Mapping[str, Any]) -> float:
    """The share of the resized image that is cropped."""
    share = number(values, "crop_pct")
    if not 0 < share <= 1:
        raise ValueError(f"'crop_pct' is {share:g}, not above 0 and at most 1")
    return share


def _rectangle(values: Mapping[str, Any], field: str) -> tuple[int, int]:
    size = values[field]
    sides = {"height": size, "width": size} if isinstance(size, int) else size
    if isinstance(size, list) and len(size) == 2:
        sides = {"height": size[0], "width": size[1]}
    if not isinstance(sides, Mapping) or not (
        "shortest_edge" in sides or {"height", "width"} <= sides.keys()
    ):
        raise ValueError(
            f"'{field}' is {shown(size)}, not a number, two numbers, a shortest_edge, or a height "
            "and a width"
        )
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
    mean, std = (
        tuple(_rounded(value / unit) for value in _by_channel(values, field, channels))
        for field in ("image_mean", "image_std")
    )
    return mean, std


def _by_channel(values: Mapping[str, Any], field: str, channels: int) -> Sequence[float]:
    """A number for each channel; one number is that of all."""
    if isinstance(values[field], list):
        return numbers(values, field)
    return (number(values, field),) * channels


def _rounded(value: float) -> float:
    """Takes back the rounding of 255 * (1 / 255)."""
    return round(value, 12)
