"""The facts in a hub folder of timm beside the weights."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vitedge.errors import ModelError
from vitedge.files.json_values import mapping, shown, text
from vitedge.images.interpolation import Interpolation
from vitedge.images.preprocess import Preprocessing
from vitedge.importers import ImportOptions
from vitedge.importers.layers import usual_statistics
from vitedge.importers.reading.json_file import read_json

_DEIT_CROP = 0.9  # 224 of 248 pixels
_USUAL_CROP = 0.875  # timm's DEFAULT_CROP_PCT
_WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")


def weights_of(path: Path) -> Path:
    """The file of weights in a folder; a file is itself."""
    if path.is_dir():
        for name in _WEIGHT_FILES:
            if (path / name).is_file():
                return path / name
    return path


def published_beside(weights: Path) -> Mapping[str, Any]:
    """The ``config.json`` of timm beside the weights, flattened; empty when there is none.

    Raises:
        ModelError: The file is damaged.
    """
    path = weights.parent / "config.json"
    if not path.exists():
        return {}
    config = read_json(path)
    try:
        return {**config, **_part(config, "pretrained_cfg")}
    except ValueError as error:
        raise ModelError(f"'{path}' is malformed: {error}") from error


def _part(config: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """An object inside of the config; transformers writes null for one that nobody gave."""
    return {} if config.get(key) is None else mapping(config, key)


def arguments_of(published: Mapping[str, Any]) -> Mapping[str, Any]:
    """The arguments that the model was made with, besides those of its architecture.

    Raises:
        ValueError: ``model_args`` is not an object.
    """
    return _part(published, "model_args")


def pooling_of(published: Mapping[str, Any]) -> str | None:
    """``global_pool`` as timm takes it: of the arguments, else of the file; None if not said.

    Raises:
        ValueError: The value is not a text.
    """
    said = arguments_of(published).get("global_pool")
    said = published.get("global_pool") if said is None else said
    return None if said is None else text({"global_pool": said}, "global_pool")


def model_size_of(published: Mapping[str, Any]) -> tuple[int, int] | None:
    """Height and width that the arguments of the model say; None if they do not."""
    return _height_and_width(arguments_of(published).get("img_size"))


def image_size_of(published: Mapping[str, Any]) -> tuple[int, int] | None:
    """Height and width: the arguments of the model say it, else the size of its images."""
    said = model_size_of(published)
    return said or _height_and_width((published.get("input_size") or ())[1:])


def _height_and_width(size: Any) -> tuple[int, int] | None:
    if isinstance(size, int):
        return size, size
    if isinstance(size, list) and len(size) == 2 and all(isinstance(each, int) for each in size):
        return size[0], size[1]
    return None


def preprocessing_of(
    published: Mapping[str, Any], size: tuple[int, int], channels: int, options: ImportOptions
) -> Preprocessing:
    """The preprocessing that it names, else DeiT's, at a size.

    Raises:
        ModelError: ``Preprocessing`` cannot do as it says, and no option says what else.
    """
    usual_mean, usual_std = usual_statistics(channels)
    return Preprocessing(
        size=size,
        channels=channels,
        resize=_resize(published, size, options),
        interpolation=_interpolation(published, options),
        mean=tuple(published.get("mean") or usual_mean),
        std=tuple(published.get("std") or usual_std),
    )


def _interpolation(published: Mapping[str, Any], options: ImportOptions) -> Interpolation:
    said = options.interpolation or published.get("interpolation") or Interpolation.BICUBIC
    if said not in set(Interpolation):
        raise ModelError(
            f"the config.json of the model says interpolation {shown(said)}, and vitedge has "
            f"{', '.join(Interpolation)}: say with --interpolation which it shall be"
        )
    return Interpolation(said)


def _resize(
    published: Mapping[str, Any], size: tuple[int, int], options: ImportOptions
) -> int | tuple[int, int] | None:
    """The resize before the crop, as timm's ``transforms_imagenet_eval`` has it."""
    if options.resize is not None:
        return None  # the user's word comes later, at the size that the user wants
    crop = float(published.get("crop_pct") or (_USUAL_CROP if published else _DEIT_CROP))
    if not 0 < crop <= 1:
        raise ModelError(
            f"the config.json of the model says crop_pct {crop:g}, and a crop is not above 1: say "
            "with --resize how images are resized before the crop (0 stretches them)"
        )
    high, wide = (math.floor(side / crop) for side in size)
    mode = published.get("crop_mode")
    if mode == "squash":
        return None if (high, wide) == size else (high, wide)
    # At another size than the model's own, it is the user who wants a rectangle.
    is_oblong = high != wide and size == image_size_of(published)
    if mode == "border" or is_oblong:
        does = (
            "fits images with borders into"
            if mode == "border"
            else "scales images until they cover"
        )
        raise ModelError(
            f"the config.json of the model {does} {high}x{wide} and crops {size[0]}x{size[1]} from "
            "there, which vitedge does not do: give --resize 0 to stretch them to "
            f"{size[0]}x{size[1]}, or --resize {max(high, wide)} for their shorter side before "
            "the crop"
        )
    return max(high, wide)


def labels_of(published: Mapping[str, Any], classes: int) -> tuple[str, ...]:
    """Its names of the classes; empty where they are not of these."""
    names = published.get("label_names", ())
    if not isinstance(names, list) or len(names) != classes:
        return ()
    descriptions = published.get("label_descriptions") or {}
    return tuple(str(descriptions.get(name, name)) for name in names)
