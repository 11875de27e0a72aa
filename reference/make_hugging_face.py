"""transformers' models over patches, as folders that it saves itself."""

from __future__ import annotations

from collections.abc import Callable
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
    make_families(output, size)


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
    stretched = [size.image + 2, size.image + 2]
    expected = {**HALVES, "resize": stretched, "interpolation": "bicubic"}
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


def make_families(output: Path, size: Size) -> None:
    """Writes a case of each other family, with and without classifiers."""
    processor = ViTImageProcessor(size={"height": size.image, "width": size.image})
    expected = {**HALVES, "resize": None, "interpolation": "bilinear"}
    for name, (make_model, output_of) in _families(size).items():
        model = make_model()
        config = getattr(model.config, "backbone_config", None) or model.config
        eps = getattr(config, "vision_config", config).layer_norm_eps
        if config.model_type == "segformer":
            eps = 1e-5  # torch's own: the config's is not used
        _write(
            output / f"hugging_face_{name}",
            model,
            size,
            processor,
            expected,
            output_of=output_of,
            eps=eps,
        )


def _families(size: Size) -> dict[str, tuple[Any, Any]]:
    sizes = _sizes(size)
    tower = {name: value for name, value in sizes.items() if name != "num_labels"}
    dino = {**sizes, "mlp_ratio": 2, "layerscale_value": 0.1}
    text = {
        **{"hidden_size": size.dim, "num_hidden_layers": 1, "num_attention_heads": size.heads},
        **{"intermediate_size": size.dim, "vocab_size": 8, "max_position_embeddings": 4},
        **{"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1},
    }
    both = {"vision_config": tower, "text_config": text, "num_labels": size.classes}
    biased = {**sizes, "use_mean_pooling": True, "layer_scale_init_value": 0.1}
    lib = transformers
    squares = size.image // size.patch

    def class_token(model: Any, pixels: Any) -> Any:
        return model(pixels).last_hidden_state[:, 0]

    def pooler_output(model: Any, pixels: Any) -> Any:
        return model(pixels).pooler_output

    def predicted_depth(model: Any, pixels: Any) -> Any:
        return model(pixels).predicted_depth

    def patches(model: Any, pixels: Any) -> Any:
        """SigLIP 2 reads patches that its processor cuts, whatever the shape of the image."""
        n, channels, side = len(pixels), pixels.shape[1], size.patch
        cut = pixels.reshape(n, channels, squares, side, squares, side).permute(0, 2, 4, 3, 5, 1)
        flat = cut.reshape(n, squares**2, side * side * channels)
        mask = torch.ones(n, squares**2, dtype=torch.int32)
        shapes = torch.full((n, 2), squares)
        return model(flat, pixel_attention_mask=mask, spatial_shapes=shapes).pooler_output

    swin = {
        **{"image_size": size.image, "patch_size": 2, "embed_dim": 8, "depths": [2, 2]},
        **{"num_heads": [2, 2], "window_size": 4, "num_labels": size.classes, "mlp_ratio": 2.0},
    }
    segformer = {
        **{"num_encoder_blocks": 2, "depths": [1, 2], "sr_ratios": [2, 1], "strides": [4, 2]},
        **{"hidden_sizes": [8, 16], "patch_sizes": [7, 3], "num_attention_heads": [1, 2]},
        **{"mlp_ratios": [2, 2], "decoder_hidden_size": 8, "num_labels": size.classes},
    }
    naflex = {name: value for name, value in tower.items() if name != "image_size"}
    return {
        "vit_model": (lambda: lib.ViTModel(lib.ViTConfig(**tower)), class_token),
        "dinov2_model": (lambda: lib.Dinov2Model(lib.Dinov2Config(**dino)), pooler_output),
        "dinov2_swiglu": (
            lambda: lib.Dinov2ForImageClassification(lib.Dinov2Config(**dino, use_swiglu_ffn=True)),
            None,
        ),
        "dinov3": (
            lambda: lib.DINOv3ViTModel(
                lib.DINOv3ViTConfig(**tower, num_register_tokens=2, layerscale_value=0.1)
            ),
            pooler_output,
        ),
        "dinov3_gated": (
            lambda: lib.DINOv3ViTModel(
                lib.DINOv3ViTConfig(
                    **tower, num_register_tokens=2, use_gated_mlp=True, hidden_act="silu"
                )
            ),
            pooler_output,
        ),
        "clip": (
            lambda: lib.CLIPModel(lib.CLIPConfig(**both, projection_dim=8)),
            lambda model, pixels: model.get_image_features(pixels).pooler_output,
        ),
        "clip_vision": (lambda: lib.CLIPVisionModel(lib.CLIPVisionConfig(**tower)), pooler_output),
        "clip_classifier": (
            lambda: lib.CLIPForImageClassification(lib.CLIPConfig(**both)),
            None,
        ),
        "siglip": (
            lambda: lib.SiglipModel(lib.SiglipConfig(**both)),
            lambda model, pixels: model.get_image_features(pixels).pooler_output,
        ),
        "siglip_classifier": (
            lambda: lib.SiglipForImageClassification(lib.SiglipConfig(**both)),
            None,
        ),
        "siglip2_vision": (
            lambda: lib.Siglip2VisionModel(
                lib.Siglip2VisionConfig(**naflex, num_patches=squares**2)
            ),
            patches,
        ),
        "beit": (
            lambda: lib.BeitForImageClassification(
                lib.BeitConfig(**biased, use_relative_position_bias=True)
            ),
            None,
        ),
        "beit_shared": (
            lambda: lib.BeitForImageClassification(
                lib.BeitConfig(
                    **{**biased, "use_mean_pooling": False, "layer_scale_init_value": 0.0},
                    use_shared_relative_position_bias=True,
                    use_absolute_position_embeddings=True,
                )
            ),
            None,
        ),
        "yolos": (
            lambda: lib.YolosForObjectDetection(
                lib.YolosConfig(
                    **{**sizes, "image_size": [size.image, size.image]}, num_detection_tokens=3
                )
            ),
            lambda model, pixels: model(pixels).logits,
        ),
        "data2vec": (
            lambda: lib.Data2VecVisionForImageClassification(
                lib.Data2VecVisionConfig(**biased, use_relative_position_bias=True)
            ),
            None,
        ),
        "mae": (
            lambda: lib.ViTMAEForPreTraining(
                lib.ViTMAEConfig(
                    **tower,
                    mask_ratio=0.0,
                    decoder_hidden_size=8,
                    decoder_num_hidden_layers=1,
                    decoder_num_attention_heads=1,
                    decoder_intermediate_size=8,
                )
            ),
            lambda model, pixels: class_token(model.vit, pixels),
        ),
        "depth_anything": (lambda: _depth_anything(dino, "relative", 1), predicted_depth),
        "depth_anything_metric": (lambda: _depth_anything(dino, "metric", 20), predicted_depth),
        "segformer": (
            lambda: lib.SegformerForSemanticSegmentation(lib.SegformerConfig(**segformer)),
            lambda model, pixels: model(pixels).logits.permute(0, 2, 3, 1),
        ),
        "segformer_classifier": (
            lambda: lib.SegformerForImageClassification(lib.SegformerConfig(**segformer)),
            None,
        ),
        "swin": (lambda: lib.SwinForImageClassification(lib.SwinConfig(**swin)), None),
        "swin_model": (lambda: lib.SwinModel(lib.SwinConfig(**swin)), pooler_output),
        "swinv2": (
            lambda: lib.Swinv2ForImageClassification(
                lib.Swinv2Config(**swin, pretrained_window_sizes=[3, 2])
            ),
            None,
        ),
        "msn": (lambda: lib.ViTMSNForImageClassification(lib.ViTMSNConfig(**sizes)), None),
        "ijepa": (lambda: lib.IJepaForImageClassification(lib.IJepaConfig(**sizes)), None),
    }


def _depth_anything(trunk: dict[str, Any], kind: str, longest: int) -> PreTrainedModel:
    backbone = transformers.Dinov2Config(
        **trunk, out_indices=[0, 1, 2], reshape_hidden_states=False
    )
    config = transformers.DepthAnythingConfig(
        backbone_config=backbone,
        patch_size=trunk["patch_size"],
        reassemble_hidden_size=trunk["hidden_size"],
        reassemble_factors=[4, 1, 0.5],
        neck_hidden_sizes=[6, 8, 8],
        fusion_hidden_size=8,
        head_hidden_size=4,
        depth_estimation_type=kind,
        max_depth=longest,
    )
    return transformers.DepthAnythingForDepthEstimation(config)


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
    output_of: Callable[[Any, torch.Tensor], torch.Tensor] | None = None,
    eps: float | None = None,
) -> None:
    randomize(model)
    images = images_of(size)[:, :pixels, :pixels]
    config: PretrainedConfig = model.config

    def write(target: Path) -> None:
        model.save_pretrained(target, max_shard_size=shard)
        processor.save_pretrained(target)

    batch = normalized(images, preprocessing)
    if output_of is None:
        logits = logits_of(model, batch)
    else:
        with torch.no_grad():
            logits = output_of(model, torch.from_numpy(batch.transpose(0, 3, 1, 2).copy())).numpy()
    write_case(
        folder,
        write,
        importer="hugging-face",
        model=".",
        images=images,
        logits=logits,
        packages=_PACKAGES,
        eps=config.layer_norm_eps if eps is None else eps,
        preprocessing=preprocessing,
        labels=labels or [],
    )
