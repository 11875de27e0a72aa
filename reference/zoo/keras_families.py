"""KerasHub's transformers, as Keras files: backbones under a linear head, and encoders alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from reference.zoo.family import EXPECTED_FILE, MEAN, STD, Family, Source
from reference.zoo.images import normalized, shown

Settings = dict[str, Any]

_CLASSES = 10
_BLOCKS: Settings = {"num_layers": 2, "num_heads": 3, "hidden_dim": 192, "intermediate_dim": 768}


def _shape(size: int) -> tuple[int, int, int]:
    return (size, size, 3)


def _token_head(backbone: Any, size: int) -> Any:
    """The class token under a linear layer."""
    import keras

    images = keras.layers.Input(_shape(size))
    tokens = backbone(images)
    if isinstance(tokens, dict):
        tokens = tokens.get("vision_outputs", next(iter(tokens.values())))
    return keras.Model(images, keras.layers.Dense(_CLASSES)(tokens[:, 0]))


def _vit(size: int) -> Any:
    from keras_hub.models import ViTBackbone, ViTImageClassifier

    settings = {**_BLOCKS, "mlp_dim": _BLOCKS["intermediate_dim"]}
    del settings["intermediate_dim"]
    backbone = ViTBackbone(image_shape=_shape(size), patch_size=(16, 16), **settings)
    return ViTImageClassifier(backbone=backbone, num_classes=_CLASSES)


def _deit(size: int) -> Any:
    from keras_hub.models import DeiTBackbone, DeiTImageClassifier

    backbone = DeiTBackbone(image_shape=_shape(size), patch_size=(16, 16), **_BLOCKS)
    return DeiTImageClassifier(backbone=backbone, num_classes=_CLASSES)


def _dinov2(size: int) -> Any:
    from keras_hub.models import DINOV2Backbone

    shapes = {"image_shape": _shape(size), "position_embedding_shape": _shape(size)}
    return DINOV2Backbone(patch_size=16, apply_layernorm=True, **shapes, **_BLOCKS)


def _dinov3(size: int) -> Any:
    from keras_hub.models import DINOV3Backbone

    return DINOV3Backbone(patch_size=16, image_shape=_shape(size), apply_layernorm=True, **_BLOCKS)


def _siglip(size: int) -> Any:
    from keras_hub.src.models.siglip.siglip_vision_encoder import SigLIPVisionEncoder

    return SigLIPVisionEncoder(patch_size=16, image_shape=_shape(size), **_BLOCKS)


def _clip(size: int) -> Any:
    from keras_hub.src.models.clip.clip_vision_encoder import CLIPVisionEncoder

    return CLIPVisionEncoder(patch_size=16, image_shape=_shape(size), **_BLOCKS)


def _meta_clip(size: int) -> Any:
    from keras_hub.models import MetaCLIP2VisionEncoder

    return MetaCLIP2VisionEncoder(patch_size=16, image_shape=_shape(size), **_BLOCKS)


def _vitdet(size: int) -> Any:
    from keras_hub.models import ViTDetBackbone

    settings = {key: each for key, each in _BLOCKS.items() if key != "hidden_dim"}
    return ViTDetBackbone(
        hidden_size=_BLOCKS["hidden_dim"],
        global_attention_layer_indices=[1],
        image_shape=_shape(size),
        window_size=3,
        num_output_channels=64,
        **settings,
    )


def _depth_anything(size: int) -> Any:
    from keras_hub.models import DepthAnythingBackbone, DINOV2Backbone

    shapes = {"image_shape": _shape(size), "position_embedding_shape": _shape(size)}
    settings = {**_BLOCKS, "num_layers": 4}
    trunk = DINOV2Backbone(patch_size=14, apply_layernorm=True, **shapes, **settings)
    return DepthAnythingBackbone(
        image_encoder=trunk,
        reassemble_factors=[4, 2, 1, 0.5],
        neck_hidden_dims=[16, 32, 64, 64],
        fusion_hidden_dim=32,
        head_hidden_dim=16,
        head_in_index=-1,
        feature_keys=["stage1", "stage2", "stage3", "stage4"],
    )


def _segformer(size: int) -> Any:
    from keras_hub.models import SegFormerBackbone, SegFormerImageSegmenter

    backbone = SegFormerBackbone(image_encoder=_mit_backbone(size), projection_filters=64)
    return SegFormerImageSegmenter(backbone=backbone, num_classes=_CLASSES)


def _mit(size: int) -> Any:
    from keras_hub.models import MiTImageClassifier

    return MiTImageClassifier(backbone=_mit_backbone(size), num_classes=_CLASSES)


def _mit_backbone(size: int) -> Any:
    from keras_hub.models import MiTBackbone

    return MiTBackbone(
        layerwise_depths=[1, 1, 1, 1],
        num_layers=4,
        layerwise_num_heads=[1, 2, 2, 3],
        layerwise_sr_ratios=[8, 4, 2, 1],
        max_drop_path_rate=0.1,
        layerwise_patch_sizes=[7, 3, 3, 3],
        layerwise_strides=[4, 2, 2, 2],
        image_shape=_shape(size),
        hidden_dims=[16, 32, 64, 96],
    )


def _swin(size: int) -> Any:
    from keras_hub.models import SwinTransformerBackbone, SwinTransformerImageClassifier

    backbone = SwinTransformerBackbone(
        image_shape=_shape(size),
        embed_dim=32,
        depths=(1, 2),
        num_heads=(1, 2),
        window_size=4,
    )
    return SwinTransformerImageClassifier(backbone=backbone, num_classes=_CLASSES)


_MODELS: dict[str, tuple[str, int, Callable[[int], Any], Settings]] = {
    "vit": ("ViTImageClassifier", 96, _vit, {}),
    "deit": ("DeiTImageClassifier", 96, _deit, {}),
    "dinov2": ("DINOV2Backbone", 96, _dinov2, {"task": "embedding"}),
    "dinov2_head": (
        "DINOV2Backbone, Dense",
        96,
        lambda size: _token_head(_dinov2(size), size),
        {},
    ),
    "dinov3_head": (
        "DINOV3Backbone, Dense",
        96,
        lambda size: _token_head(_dinov3(size), size),
        {},
    ),
    "siglip": ("SigLIPVisionEncoder", 96, _siglip, {"task": "embedding"}),
    "clip_head": ("CLIPVisionEncoder, Dense", 96, lambda size: _token_head(_clip(size), size), {}),
    "meta_clip_head": (
        "MetaCLIP2VisionEncoder, Dense",
        96,
        lambda size: _token_head(_meta_clip(size), size),
        {},
    ),
    "vitdet": ("ViTDetBackbone", 96, _vitdet, {"task": "map"}),
    "depth_anything": ("DepthAnythingBackbone", 84, _depth_anything, {"task": "map"}),
    "segformer": ("SegFormerImageSegmenter", 64, _segformer, {"task": "map"}),
    "mit": ("MiTImageClassifier", 64, _mit, {}),
    "swin": ("SwinTransformerImageClassifier", 64, _swin, {}),
}


def _make(family: Family, folder: Path) -> Source:
    import keras

    from reference.keras_models import randomize

    told = dict(_MODELS[family.name.partition(".")[2]][3])
    keras.utils.set_random_seed(0)
    model = _MODELS[family.name.partition(".")[2]][2](family.size[0])
    randomize(model)
    pixels = shown(family.size)
    outputs = model(normalized(pixels), training=False)  # predict would compile for a minute
    if isinstance(outputs, dict):
        outputs = next(iter(outputs.values()))
    model.save(folder / "model.keras")
    export(model, folder / "saved_model")  # which needs no KerasHub to be read
    np.savez_compressed(folder / EXPECTED_FILE, images=pixels, outputs=np.asarray(outputs))
    statistics = {"mean": MEAN, "std": STD}
    return Source(
        family.architecture,
        family.size,
        by_name="model.keras",
        options={**statistics, **told},
        traced="saved_model",
        told={**statistics, **told},
        parameters=model.count_params(),
    )


def export(model: Any, folder: Path) -> None:
    """Writes a SavedModel of what ``predict`` computes.

    ``Model.export`` leaves ``training`` open. Keras 3.15 hands a layer's own default on to the
    layers after it, and that of ``Resizing`` is True, so the batch norm after it in SegFormer's
    decoder would be exported as in training.
    """
    import keras

    archive = keras.export.ExportArchive()
    archive.track(model)
    signature = keras.InputSpec(shape=(None, *model.input_shape[1:]), dtype="float32")
    archive.add_endpoint("serve", lambda images: model(images, training=False), [signature])
    archive.write_out(str(folder), verbose=False)


FAMILIES = tuple(
    Family(f"keras_hub.{name}", architecture, (size, size), _make)
    for name, (architecture, size, _, _) in _MODELS.items()
)
