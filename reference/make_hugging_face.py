"""transformers' ViT, DeiT and DINOv2 classifiers, as folders that it saves itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import (
    BitImageProcessor,
    DeiTImageProcessor,
    PretrainedConfig,
    PreTrainedModel,
    ViTImageProcessor,
)

from reference.golden import HALVES, IMAGENET, Size, images_of, normalized, write_case
from reference.torch_models import logits_of, randomize

_PACKAGES = ("transformers", "torch")


def make(output: Path, size: Size) -> None:
    """Writes every case below ``output``."""
    _make_vit(output, size)
    _make_deit(output, size)
    _make_dinov2(output, size)


def _make_vit(output: Path, size: Size) -> None:
    square = {"height": size.image, "width": size.image}
    stretching = ViTImageProcessor(size=square)
    stretched = {**HALVES, "resize": None, "interpolation": "bilinear"}
    vit, config = transformers.ViTForImageClassification, transformers.ViTConfig
    model = vit(config(**_sizes(size)))
    _write(output / "hugging_face_vit", model, size, stretching, stretched)
    _write(output / "hugging_face_sharded", model, size, stretching, stretched, shard="9KB")

    names = [f"kind {index}" for index in range(size.classes)]
    options: dict[str, Any] = {
        "id2label": dict(enumerate(names)),
        "hidden_act": "gelu_pytorch_tanh",
        "qkv_bias": False,
        "layer_norm_eps": 1e-5,
    }
    cropping = BitImageProcessor(
        size={"shortest_edge": size.image + 4},
        crop_size=square,
        image_mean=IMAGENET["mean"],
        image_std=IMAGENET["std"],
    )
    cropped = {**IMAGENET, "resize": size.image + 4, "interpolation": "bicubic"}
    model = vit(config(**_sizes(size), **options))
    _write(output / "hugging_face_labels", model, size, cropping, cropped, labels=names)


def _make_deit(output: Path, size: Size) -> None:
    processor = DeiTImageProcessor(
        size={"height": size.image + 2, "width": size.image + 2},
        crop_size={"height": size.image, "width": size.image},
    )
    expected = {**HALVES, "resize": size.image + 2, "interpolation": "bicubic"}
    config = transformers.DeiTConfig(**_sizes(size))
    model = transformers.DeiTForImageClassification(config)
    _write(output / "hugging_face_deit", model, size, processor, expected)
    teacher = transformers.DeiTForImageClassificationWithTeacher(config)
    _write(output / "hugging_face_deit_teacher", teacher, size, processor, expected)


def _make_dinov2(output: Path, size: Size) -> None:
    # Published ones learned positions for 518 pixels and take 224: the model interpolates.
    smaller = size.image - size.patch
    processor = BitImageProcessor(
        size={"shortest_edge": size.image},
        crop_size={"height": smaller, "width": smaller},
        image_mean=IMAGENET["mean"],
        image_std=IMAGENET["std"],
    )
    expected = {**IMAGENET, "size": [smaller, smaller], "resize": size.image}
    arguments = {**_sizes(size), "mlp_ratio": 2, "layerscale_value": 0.1}
    for name, config, model in (
        ("", transformers.Dinov2Config, transformers.Dinov2ForImageClassification),
        (
            "_registers",
            transformers.Dinov2WithRegistersConfig,
            transformers.Dinov2WithRegistersForImageClassification,
        ),
    ):
        folder = output / f"hugging_face_dinov2{name}"
        _write(folder, model(config(**arguments)), size, processor, expected, pixels=smaller)


def _sizes(size: Size) -> dict[str, Any]:
    return {
        "hidden_size": size.dim,
        "num_hidden_layers": size.depth,
        "num_attention_heads": size.heads,
        "intermediate_size": size.mlp_dim,
        "image_size": size.image,
        "patch_size": size.patch,
        "num_labels": size.classes,
    }


def _write(
    folder: Path,
    model: PreTrainedModel,
    size: Size,
    processor: Any,
    preprocessing: dict[str, Any],
    *,
    labels: list[str] | None = None,
    shard: str = "5GB",
    pixels: int | None = None,
) -> None:
    randomize(model)
    images = images_of(size)[:, :pixels, :pixels]
    config: PretrainedConfig = model.config

    def write(target: Path) -> None:
        model.save_pretrained(target, max_shard_size=shard)
        processor.save_pretrained(target)

    with torch.no_grad():
        logits = logits_of(model, normalized(images, preprocessing))
    write_case(
        folder,
        write,
        importer="hugging-face",
        model=".",
        images=images,
        logits=logits,
        packages=_PACKAGES,
        eps=config.layer_norm_eps,
        preprocessing=preprocessing,
        labels=labels or [],
    )
