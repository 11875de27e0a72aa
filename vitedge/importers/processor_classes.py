"""transformers' image processors: what each class fills in where its file is silent."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from vitedge.errors import ModelError
from vitedge.files.json_values import shown
from vitedge.images.preprocess import IMAGENET_MEAN, IMAGENET_STD

HALVES = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}
IMAGENET = {"image_mean": list(IMAGENET_MEAN), "image_std": list(IMAGENET_STD)}
OPENAI = {
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}
_SQUARE, _SHORTER = {"height": 224, "width": 224}, {"shortest_edge": 224}
_CROP = {"do_center_crop": True, "crop_size": _SQUARE}
_BILINEAR, _BICUBIC = {"resample": 2}, {"resample": 3}
_EDGE = {"default_to_square": False}  # a size of one number is the shorter side's
_CLIP = {"size": _SHORTER, **_CROP, **_BICUBIC, **OPENAI, **_EDGE}

# As of transformers 5.24.
_CLASSES: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "ViT": {"size": _SQUARE, **_BILINEAR, **HALVES},
        "DeiT": {"size": {"height": 256, "width": 256}, **_CROP, **_BICUBIC, **HALVES},
        "Bit": _CLIP,
        "CLIP": _CLIP,
        "Siglip": {"size": _SQUARE, **_BICUBIC, **HALVES, **_EDGE},
        "Siglip2": {**_BILINEAR, **HALVES},
        "Beit": {"size": _SQUARE, "crop_size": _SQUARE, **_BICUBIC, **HALVES},
        "Segformer": {"size": {"height": 512, "width": 512}, **_BILINEAR, **IMAGENET},
        "Yolos": {
            **{"size": {"shortest_edge": 800, "longest_edge": 1333}, **_EDGE},
            **{**_BILINEAR, **IMAGENET},
        },
        "DPT": {"size": {"height": 384, "width": 384}, **_BICUBIC, **HALVES},
        "DINOv3ViT": {"size": _SQUARE, **_BILINEAR, **IMAGENET},
        "ConvNext": {
            **{"size": {"shortest_edge": 384}, "crop_pct": 0.875},
            **{**_BICUBIC, **HALVES, **_EDGE},
        },
        "Levit": {"size": _SHORTER, **_CROP, **_BICUBIC, **IMAGENET, **_EDGE},
        "Pvt": {"size": _SQUARE, **_BICUBIC, **IMAGENET},
        "MobileViT": {
            **{"size": _SHORTER, "do_center_crop": True, "do_flip_channel_order": True},
            **{"crop_size": {"height": 256, "width": 256}, "do_normalize": False},
            **{**_BICUBIC, **_EDGE},
        },
    }
)
_OF_MODELS = MappingProxyType(
    {
        **{"deit": "DeiT", "dinov2": "Bit", "dinov2_with_registers": "Bit", "clip": "CLIP"},
        **{"clip_vision_model": "CLIP", "siglip": "Siglip", "siglip_vision_model": "Siglip"},
        **{"siglip2": "Siglip2", "siglip2_vision_model": "Siglip2", "beit": "Beit"},
        **{"data2vec-vision": "Beit", "segformer": "Segformer", "yolos": "Yolos"},
        **{"depth_anything": "DPT", "dinov3_vit": "DINOv3ViT"},
    }
)
"""The class of a ``model_type``'s processor where its file does not say; ``ViT`` of all others."""

_NAME = re.compile(r"(\w+?)(ImageProcessor(Fast|Pil)?|FeatureExtractor)")

# Fields that are read, and fields that change no pixel of a single image.
_READ = frozenset(
    (
        *("size", "crop_size", "crop_pct", "resample", "rescale_factor", "image_mean", "image_std"),
        *("do_resize", "do_center_crop", "do_rescale", "do_normalize", "keep_aspect_ratio"),
        *("do_pad", "pad_size", "size_divisor", "do_flip_channel_order"),
        *("image_processor_type", "feature_extractor_type", "processor_class", "auto_map"),
        *("do_convert_rgb", "default_to_square", "do_reduce_labels", "reduce_labels"),
        *("ensure_multiple_of", "patch_size", "max_num_patches", "max_size", "num_channels"),
        *("format", "do_convert_annotations", "return_segmentation_masks", "device", "backend"),
        *("data_format", "input_data_format", "return_tensors", "disable_grouping"),
        *("_valid_processor_keys", "_processor_class", "image_seq_length"),
    )
)


def class_of(told: Mapping[str, Any], kind: str) -> str:
    """The class of a processor, without its ending: ``ViT``, ``CLIP``, ...

    Args:
        told: The content of its file.
        kind: The ``model_type`` of the model beside it.

    Raises:
        ModelError: The class is not one that vitedge knows.
    """
    named = told.get("image_processor_type") or told.get("feature_extractor_type")
    if named is None:
        return _OF_MODELS.get(kind, "ViT")
    found = _NAME.fullmatch(named) if isinstance(named, str) else None
    if found is None or found[1] not in _CLASSES:
        raise ModelError(
            f"preprocessor_config.json is of a {shown(named)}, whose steps vitedge does not know: "
            "write the same steps as those of a ViTImageProcessor or BitImageProcessor"
        )
    return found[1]


def completed(told: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The fields of a processor's file, and those of its class where the file has none.

    A step that is null is not done; any other null counts as none.

    Raises:
        ModelError: A field says something that vitedge does not know.
    """
    fields = {key: value for key, value in told.items() if value is not None}
    fields |= {key: False for key in told if key.startswith("do_") and told[key] is None}
    unknown = [key for key, value in fields.items() if key not in _READ and value is not False]
    if unknown:
        raise ModelError(
            f"preprocessor_config.json says {unknown[0]} {shown(fields[unknown[0]])}, which "
            "vitedge does not know: take it out if it changes no pixels"
        )
    made = {"default_to_square": True, **_CLASSES[name], **fields}
    if isinstance(made.get("size"), int) and not made["default_to_square"]:
        made["size"] = {"shortest_edge": made["size"]}
    if made.get("do_flip_channel_order"):
        raise ModelError(
            "preprocessor_config.json says do_flip_channel_order, and vitedge takes pixels in the "
            "order red, green, blue: exchange the channels of the first layer's weights, and "
            "write false"
        )
    padded = next((key for key in ("pad_size", "size_divisor") if made.get(key)), None)
    if made.get("do_pad") and padded:
        raise ModelError(
            f"preprocessor_config.json says {padded} {shown(made[padded])}, and vitedge does not "
            "pad images: take it out if the size of its images needs no padding"
        )
    return made
