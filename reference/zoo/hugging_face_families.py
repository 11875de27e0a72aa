"""transformers' families, each as a folder of two blocks, and as an ONNX file."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reference.zoo.family import MEAN, STD, Family, Source

Settings = dict[str, Any]

_SIZES: Settings = {
    "hidden_size": 192,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "image_size": 96,
}
_ViT: Settings = {**_SIZES, "intermediate_size": 768, "patch_size": 16}
_DINO: Settings = {**_SIZES, "mlp_ratio": 4, "patch_size": 16}
_STAGES: Settings = {
    "image_size": 64,
    "embed_dim": 32,
    "depths": [1, 2],
    "num_heads": [1, 2],
    "window_size": 4,
}
_TEXT: Settings = {
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "vocab_size": 64,
}


@dataclass(frozen=True)
class _Model:
    """One model.

    Attributes:
        model: Its class.
        config: The class of its config.
        settings: Of the config.
        output: Which of its outputs counts; the name of the ONNX file's output too.
        size: Of its images.
        task: What the output means, where its name does not say it.
        head: The attribute that is its classifier.
        nested: Settings of configs within the config: their class, and theirs.
        beside: Further outputs of the ONNX file.
        cut: The model reads patches of this many pixels that its processor cuts.
        rectified: Its last convolution stands before a ReLU, and is to be positive mostly.
    """

    model: str
    config: str
    settings: Settings
    output: str = "logits"
    size: tuple[int, int] = (96, 96)
    task: str | None = None
    head: str | None = "classifier"
    nested: dict[str, tuple[str, Settings]] = field(default_factory=dict)
    beside: tuple[str, ...] = ()
    cut: int | None = None
    rectified: bool = False


def _classifier(name: str, settings: Settings, **more: Any) -> _Model:
    head = more.pop("classifier", "ForImageClassification")
    return _Model(f"{name}{head}", f"{name}Config", {"num_labels": 10, **settings}, **more)


def _trunk(name: str, settings: Settings, output: str = "pooler_output", **more: Any) -> _Model:
    return _Model(f"{name}Model", f"{name}Config", settings, output, **more)


_BIASED: Settings = {"use_relative_position_bias": True, "use_mean_pooling": True}
_64 = (64, 64)

_FAMILIES: dict[str, _Model] = {
    "vit": _classifier("ViT", _ViT),
    "vit_trunk": _trunk("ViT", _ViT, output="class_token", task="embedding"),
    "deit": _classifier("DeiT", _ViT, classifier="ForImageClassificationWithTeacher"),
    "deit_trunk": _trunk("DeiT", _ViT, output="class_token", task="embedding"),
    "dinov2": _classifier("Dinov2", _DINO),
    "dinov2_trunk": _trunk("Dinov2", _DINO),
    "dinov2_swiglu": _classifier("Dinov2", {"use_swiglu_ffn": True, **_DINO}),
    "dinov2_with_registers": _classifier("Dinov2WithRegisters", _DINO),
    "dinov2_with_registers_trunk": _trunk("Dinov2WithRegisters", _DINO),
    "dinov3_trunk": _trunk("DINOv3ViT", {"num_register_tokens": 4, **_ViT}),
    "dinov3_gated": _trunk("DINOv3ViT", {"use_gated_mlp": True, "hidden_act": "silu", **_ViT}),
    "clip_projection": _Model(
        "CLIPVisionModelWithProjection",
        "CLIPVisionConfig",
        {"projection_dim": 64, **_ViT},
        "image_embeds",
    ),
    "clip_trunk": _Model("CLIPVisionModel", "CLIPVisionConfig", _ViT, "pooler_output"),
    "clip_classifier": _Model(
        "CLIPForImageClassification",
        "CLIPConfig",
        {"num_labels": 10, "vision_config": _ViT, "text_config": _TEXT},
    ),
    "siglip_trunk": _Model("SiglipVisionModel", "SiglipVisionConfig", _ViT, "pooler_output"),
    "siglip_classifier": _Model(
        "SiglipForImageClassification",
        "SiglipConfig",
        {"num_labels": 10, "vision_config": _ViT, "text_config": _TEXT},
    ),
    "siglip2_trunk": _Model(
        "Siglip2VisionModel",
        "Siglip2VisionConfig",
        {
            **{key: each for key, each in _ViT.items() if key != "image_size"},
            "num_patches": 36,
        },
        "pooler_output",
        cut=16,
    ),
    "beit": _classifier("Beit", {"layer_scale_init_value": 0.1, **_BIASED, **_ViT}),
    "beit_trunk": _trunk("Beit", {**_BIASED, **_ViT}),
    "data2vec_vision": _classifier("Data2VecVision", {**_BIASED, **_ViT}),
    "data2vec_vision_trunk": _trunk(
        "Data2VecVision", {**_BIASED, **_ViT}, "class_token", task="embedding"
    ),
    "vit_mae": _trunk("ViTMAE", {"mask_ratio": 0.0, **_ViT}, "class_token", task="embedding"),
    "vit_msn": _classifier("ViTMSN", _ViT),
    "vit_msn_trunk": _trunk("ViTMSN", _ViT, "class_token", task="embedding"),
    "ijepa": _classifier("IJepa", _ViT),
    "ijepa_trunk": _trunk("IJepa", _ViT, "mean_token", task="embedding"),
    "aim": _trunk("Aimv2Vision", {"use_head": True, **_ViT}),
    "blip": _trunk("BlipVision", _ViT),
    "chinese_clip": _trunk("ChineseCLIPVision", _ViT),
    "meta_clip": _trunk("MetaClip2Vision", _ViT),
    "mlcd": _trunk("MLCDVision", _ViT),
    "owl": _trunk("OwlViTVision", _ViT),
    "hiera": _classifier(
        "Hiera",
        {
            "image_size": [128, 128],
            "embed_dim": 32,
            "depths": [1, 1, 1, 1],
            "num_heads": [1, 2, 4, 8],
            "hidden_size": 256,
        },
        size=(128, 128),
    ),
    "swin": _classifier("Swin", _STAGES, size=_64),
    "swin_trunk": _trunk("Swin", _STAGES, size=_64),
    "swinv2": _classifier("Swinv2", _STAGES, size=_64),
    "swinv2_trunk": _trunk("Swinv2", _STAGES, size=_64),
    "segformer": _classifier(
        "Segformer", {"depths": [1, 1, 1, 1], "hidden_sizes": [16, 32, 64, 96]}, size=_64
    ),
    "segformer_segmentation": _Model(
        "SegformerForSemanticSegmentation",
        "SegformerConfig",
        {
            "num_labels": 10,
            "depths": [1, 1, 1, 1],
            "hidden_sizes": [16, 32, 64, 96],
            "decoder_hidden_size": 64,
        },
        size=_64,
        task="map",
        head=None,
    ),
    "depth_anything": _Model(
        "DepthAnythingForDepthEstimation",
        "DepthAnythingConfig",
        {
            "reassemble_hidden_size": 192,
            "neck_hidden_sizes": [16, 32, 64, 64],
            "fusion_hidden_size": 32,
        },
        "predicted_depth",
        size=(84, 84),
        task="map",
        head=None,
        nested={
            "backbone_config": (
                "Dinov2Config",
                {
                    **_DINO,
                    "image_size": 84,
                    "patch_size": 14,
                    "num_hidden_layers": 4,
                    "out_indices": [1, 2, 3, 4],
                    "reshape_hidden_states": False,
                },
            )
        },
    ),
    "yolos": _Model(
        "YolosForObjectDetection",
        "YolosConfig",
        {
            "num_labels": 10,
            **_ViT,
            "image_size": [96, 96],
            "num_detection_tokens": 10,
        },
        task="embedding",
        head=None,
        beside=("pred_boxes",),
    ),
    "sam_encoder": _Model(
        "SamVisionModel",
        "SamVisionConfig",
        {
            **_SIZES,
            "patch_size": 16,
            "mlp_dim": 768,
            "window_size": 3,
            "global_attn_indexes": [1],
            "output_channels": 64,
        },
        "last_hidden_state",
        task="map",
        head=None,
    ),
    "mobilevit": _classifier(
        "MobileViT",
        {
            "hidden_sizes": [32, 48, 64],
            "neck_hidden_sizes": [8, 8, 16, 32, 48, 64, 128],
            "image_size": 64,
        },
        size=_64,
    ),
    "mobilevitv2": _classifier("MobileViTV2", {"width_multiplier": 0.5}, size=_64),
    "swiftformer": _classifier("SwiftFormer", {"depths": [1, 1, 1, 1]}, size=(224, 224)),
    "poolformer": _classifier("PoolFormer", {"depths": [1, 1, 1, 1]}, size=_64),
    "focalnet": _classifier(
        "FocalNet", {"image_size": 64, "embed_dim": 32, "depths": [1, 1, 1, 1]}, size=_64
    ),
    "glpn": _Model(
        "GLPNForDepthEstimation",
        "GLPNConfig",
        {
            "depths": [1, 1, 1, 1],
            "hidden_sizes": [16, 32, 80, 128],
            "decoder_hidden_size": 32,
        },
        "predicted_depth",
        size=_64,
        task="map",
        head=None,
    ),
    "pvt": _classifier("Pvt", {"image_size": 64, "depths": [1, 1, 1, 1]}, size=_64),
    "pvt_v2": _classifier("PvtV2", {"image_size": 64, "depths": [1, 1, 1, 1]}, size=_64),
    "cvt": _classifier("Cvt", {"depth": [1, 2, 3]}, size=_64),
    "levit": _classifier("Levit", {"image_size": 224, "depths": [1, 1, 1]}, size=(224, 224)),
    "vitdet": _Model(
        "VitDetModel",
        "VitDetConfig",
        {
            **_SIZES,
            "patch_size": 16,
            "window_block_indices": [0],
            "window_size": 3,
            "use_relative_position_embeddings": True,
        },
        "last_hidden_state",
        task="map",
        head=None,
    ),
    "dpt": _Model(
        "DPTForDepthEstimation",
        "DPTConfig",
        {
            **_ViT,
            "num_hidden_layers": 4,
            "backbone_out_indices": [0, 1, 2, 3],
            "neck_hidden_sizes": [16, 32, 64, 64],
            "fusion_hidden_size": 32,
        },
        "predicted_depth",
        task="map",
        head=None,
        rectified=True,
    ),
    "vitpose": _Model(
        "VitPoseForPoseEstimation",
        "VitPoseConfig",
        {"num_labels": 17},
        "heatmaps",
        size=(128, 96),
        task="map",
        head=None,
        nested={
            "backbone_config": (
                "VitPoseBackboneConfig",
                {
                    "image_size": [128, 96],
                    "hidden_size": 192,
                    "num_hidden_layers": 2,
                    "num_attention_heads": 3,
                },
            )
        },
    ),
}


def _picked(output: str) -> Callable[[Any], Any]:
    if output == "class_token":
        return lambda outputs: outputs.last_hidden_state[:, 0]
    if output == "mean_token":
        return lambda outputs: outputs.last_hidden_state.mean(1)
    return lambda outputs: getattr(outputs, output)


def _make(family: Family, folder: Path) -> Source:
    import torch
    import transformers

    from reference.zoo.torch_making import (
        OfPatches,
        OneOutput,
        Outputs,
        centre,
        export,
        lift_last_convolution,
        liven,
        write_expected,
    )

    told = _FAMILIES[family.name.partition(".")[2]]
    torch.manual_seed(0)
    nested = {
        name: getattr(transformers, config)(**settings)
        for name, (config, settings) in told.nested.items()
    }
    config = getattr(transformers, told.config)(**told.settings, **nested)
    # The tracing exporter cannot follow the flag of torch's fused attention.
    config._attn_implementation = "eager"
    model = getattr(transformers, told.model)(config).eval()
    whole = model if told.cut is None else OfPatches(model, told.cut).eval()
    one = OneOutput(whole, _picked(told.output)).eval()
    liven(whole, family.size)
    if told.rectified:
        lift_last_convolution(whole, family.size)
    if told.head is not None:
        centre(one, getattr(model, told.head, None), family.size)
    write_expected(one, family.size, folder)
    model.save_pretrained(folder / "checkpoint")
    _write_processor(folder / "checkpoint", family.size)
    output = (
        "logits" if told.task in (None, "embedding") and told.output == "logits" else told.output
    )
    exported = Outputs(model, (told.output, *told.beside)).eval() if told.beside else one
    export(exported, family.size, folder / "model.onnx", output, *told.beside)
    task: dict[str, Any] = {} if told.task is None else {"task": told.task}
    if told.beside:
        task |= {"logits": [output], "beside": list(told.beside)}
    return Source(
        family.architecture,
        family.size,
        by_name="checkpoint",
        traced="model.onnx",
        told=task,
        parameters=sum(each.numel() for each in model.parameters()),
    )


def _write_processor(folder: Path, size: tuple[int, int]) -> None:
    shape = {"height": size[0], "width": size[1]}
    values = {
        "do_resize": True,
        "size": shape,
        "resample": 3,
        "do_center_crop": False,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": MEAN,
        "image_std": STD,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(values), "utf-8")


FAMILIES = tuple(
    Family(f"transformers.{name}", told.model, told.size, _make) for name, told in _FAMILIES.items()
)
