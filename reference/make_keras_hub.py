"""KerasHub's classifiers, saved as ``.keras`` files and as preset folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from keras_hub.layers import DeiTImageConverter, ViTImageConverter
from keras_hub.models import (
    DeiTBackbone,
    DeiTImageClassifier,
    DeiTImageClassifierPreprocessor,
    ViTBackbone,
    ViTImageClassifier,
    ViTImageClassifierPreprocessor,
)

from reference.golden import HALVES, IMAGENET, Size, images_of, normalized, write_case
from reference.keras_models import randomize


def make(output: Path, size: Size) -> None:
    """Writes every case below ``output``."""
    _make(output / "keras_hub_vit", _vit(size), size, HALVES)
    _make(output / "keras_hub_vit_preset", _vit(size, intermediate_dim=size.dim), size, HALVES)
    converter = ViTImageConverter(
        image_size=(size.image, size.image),
        scale=[1 / (255 * std) for std in IMAGENET["std"]],
        offset=[-mean / std for mean, std in zip(IMAGENET["mean"], IMAGENET["std"], strict=True)],
        crop_to_aspect_ratio=False,
        interpolation="bicubic",
    )
    expected = {**IMAGENET, "resize": None, "interpolation": "bicubic"}
    for name in ("keras_hub_converter", "keras_hub_converter_preset"):
        model = _vit(size, preprocessor=ViTImageClassifierPreprocessor(converter))
        _make(output / name, model, size, expected)
    averaged = _vit(size, pooling="gap", backbone={"use_class_token": False})
    _make(output / "keras_hub_averaged", averaged, size, HALVES)
    with_token = _vit(size, pooling="gap", intermediate_dim=size.dim)
    _make(output / "keras_hub_averaged_with_class_token", with_token, size, HALVES)
    unbiased = _vit(size, backbone={"use_mha_bias": False, "use_patch_bias": False})
    _make(output / "keras_hub_unbiased", unbiased, size, HALVES)
    _make(output / "keras_hub_deit", _deit(size), size, IMAGENET)
    _make(output / "keras_hub_deit_preset", _deit(size, preset=True), size, HALVES)


def _vit(size: Size, backbone: dict[str, Any] | None = None, **arguments: Any) -> Any:
    sizes = {**_sizes(size), "mlp_dim": size.mlp_dim, **(backbone or {})}
    return ViTImageClassifier(ViTBackbone(**sizes), num_classes=size.classes, **arguments)


def _deit(size: Size, *, preset: bool = False) -> Any:
    backbone = DeiTBackbone(**_sizes(size), intermediate_dim=size.mlp_dim)
    preprocessor = None
    if preset:
        image_size = (size.image, size.image)
        converter = DeiTImageConverter(image_size=image_size, scale=1 / 127.5, offset=-1.0)
        preprocessor = DeiTImageClassifierPreprocessor(converter)
    return DeiTImageClassifier(backbone, num_classes=size.classes, preprocessor=preprocessor)


def _sizes(size: Size) -> dict[str, Any]:
    return {
        "image_shape": (size.image, size.image, 3),
        "patch_size": (size.patch, size.patch),
        "num_layers": size.depth,
        "num_heads": size.heads,
        "hidden_dim": size.dim,
    }


def _make(folder: Path, model: Any, size: Size, preprocessing: dict[str, Any]) -> None:
    randomize(model)
    images = images_of(size)
    preset = folder.name.endswith("_preset")

    def write(target: Path) -> None:
        if preset:
            model.save_to_preset(str(target))
        else:
            model.save(target / "model.keras")

    write_case(
        folder,
        write,
        importer="keras-hub",
        model="." if preset else "model.keras",
        images=images,
        logits=np.asarray(model(normalized(images, preprocessing))),
        packages=("keras-hub", "keras", "tensorflow"),
        eps=1e-6,
        preprocessing=preprocessing,
    )
