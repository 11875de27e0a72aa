"""Families of transformers' models: what their parts are called, and what is particular to them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from vitedge.importers.positions import Resampling


@dataclass(frozen=True)
class Names:
    """The names of a model's parts; those of a block are below its name.

    Attributes:
        patch: The patch projection.
        tokens: The tokens before the patches, in order; the first ``placed`` have positions.
        placed: The number of kinds of tokens that have positions.
        behind: Whether the positions of all tokens but the first lie behind those of the
            patches (YOLOS).
        positions: The position embedding.
        block: A block, by its number.
        qkv: Queries, keys and values.
        out: The layer behind the attention.
        mlp: The names of both layers of an MLP.
        packed: The names of both layers of a gated MLP whose first layer makes gates and gated
            values.
        gated: Gate, other half, and last layer of a gated MLP.
        norms: The norms of the attention and of the MLP.
        scales: LayerScale of both.
        norm: The norm of all tokens after the last block, or None.
        input_norm: The norm of all tokens before the first block.
        bias: The relative position bias of a block.
        shared_bias: That of all blocks.
    """

    patch: str = "embeddings.patch_embeddings.projection"
    tokens: tuple[str, ...] = ("embeddings.cls_token", "embeddings.distillation_token")
    placed: int = 2
    behind: bool = False
    positions: str = "embeddings.position_embeddings"
    block: str = "encoder.layer.{}"
    qkv: tuple[str, str, str] = (
        "attention.attention.query",
        "attention.attention.key",
        "attention.attention.value",
    )
    out: str = "attention.output.dense"
    mlp: tuple[str, str] = ("intermediate.dense", "output.dense")
    packed: tuple[str, str] = ("mlp.weights_in", "mlp.weights_out")
    gated: tuple[str, str, str] = ("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")
    norms: tuple[str, str] = ("layernorm_before", "layernorm_after")
    scales: tuple[str, str] = ("layer_scale1.lambda1", "layer_scale2.lambda1")
    norm: str | None = "layernorm"
    input_norm: str = "pre_layrnorm"
    bias: str = "attention.attention.relative_position_bias.relative_position_bias_table"
    shared_bias: str = "encoder.relative_position_bias.relative_position_bias_table"


@dataclass(frozen=True)
class Family:
    """The particulars of models of one ``model_type``.

    Attributes:
        names: The names of their parts.
        prefixes: The prefixes that may stand before the names of the body in a file.
        ignored: The tensors that take no part in the outputs, by the first part of their names
            below the prefix or in the file: remains of pre-training, or the text tower of two.
        resampling: The interpolation of positions to another size.
        moves: The model interpolates them, while it runs, to whatever size its processor makes;
            else only where the user wants another size (``interpolate_pos_encoding``).
        rotary: Positions are rotary, of any size.
        resizable: The user may want another size, which is not made by interpolating later.
        renamed: The beginnings of names that one version of transformers wrote, and what they mean.
        defaults: The values that a ``config.json`` leaves out of a part of a model, by
            transformers' classes.
    """

    names: Names
    prefixes: tuple[str, ...]
    ignored: tuple[str, ...] = ("embeddings.mask_token", "pooler")
    resampling: Resampling = Resampling.BICUBIC
    moves: bool = False
    rotary: bool = False
    resizable: bool = False
    renamed: tuple[str, str] | None = None
    defaults: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))


_VIT = Names()
_DINO = replace(
    _VIT,
    tokens=("embeddings.cls_token", "embeddings.register_tokens"),
    placed=1,
    mlp=("mlp.fc1", "mlp.fc2"),
    norms=("norm1", "norm2"),
)
_DINO_V3 = replace(
    _DINO,
    patch="embeddings.patch_embeddings",
    block="layer.{}",
    qkv=("attention.q_proj", "attention.k_proj", "attention.v_proj"),
    out="attention.o_proj",
    mlp=("mlp.up_proj", "mlp.down_proj"),
    norm="norm",
)
_CLIP = Names(
    patch="embeddings.patch_embedding",
    tokens=("embeddings.class_embedding",),
    placed=1,
    positions="embeddings.position_embedding.weight",
    block="encoder.layers.{}",
    qkv=("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    out="self_attn.out_proj",
    mlp=("mlp.fc1", "mlp.fc2"),
    norms=("layer_norm1", "layer_norm2"),
    norm=None,  # it is of the class token alone
)
_SIGLIP = replace(_CLIP, tokens=(), placed=0, norm="post_layernorm")
_BEIT = replace(_VIT, scales=("lambda_1", "lambda_2"))

_TOWER = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "num_channels": 3,
    "image_size": 224,
}
_DINO_TRUNK = {
    **{name: each for name, each in _TOWER.items() if name != "intermediate_size"},
    **{"patch_size": 14, "hidden_act": "gelu", "layer_norm_eps": 1e-6},
}
_CLIP_TOWER = {**_TOWER, "patch_size": 32, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5}
_SIGLIP_TOWER = {
    **_TOWER,
    "patch_size": 16,
    "hidden_act": "gelu_pytorch_tanh",
    "layer_norm_eps": 1e-6,
}
_TEXT = ("text_model", "text_projection", "logit_scale", "logit_bias")
_TOWERS = ("vision_model.", "vision_model.vision_model.")
_clip = Family(_CLIP, _TOWERS, (*_TEXT, "embeddings.position_ids"), defaults=_CLIP_TOWER)
_siglip = replace(_clip, names=_SIGLIP, defaults=_SIGLIP_TOWER)
_siglip2 = replace(
    _siglip,
    resampling=Resampling.BILINEAR,
    defaults={name: each for name, each in _SIGLIP_TOWER.items() if name != "image_size"}
    | {"num_patches": 256},
)
_beit = Family(_BEIT, ("beit.",), ("embeddings.mask_token", "lm_head"))

FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        "vit": Family(_VIT, ("vit.",)),
        "deit": Family(_VIT, ("deit.",)),
        "vit_mae": Family(_VIT, ("vit.",), ("decoder",)),
        # transformers 5.24 writes the blocks of classifiers without the prefix of the body.
        "vit_msn": Family(_VIT, ("vit.",), renamed=("encoder.", "vit.encoder.")),
        "ijepa": Family(replace(_VIT, tokens=(), placed=0), ("ijepa.",)),
        # DINOv2 learned its positions at 518 pixels and interpolates them, while it runs, to the
        # crop that its processor makes. transformers calls torch differently in the two classes.
        "dinov2": Family(_DINO, ("dinov2.",), moves=True),
        "dinov2_with_registers": Family(
            _DINO, ("dinov2_with_registers.",), resampling=Resampling.ANTIALIASED, moves=True
        ),
        "depth_anything": Family(
            _DINO, ("backbone.",), moves=True, resizable=True, defaults=_DINO_TRUNK
        ),
        "dinov3_vit": Family(_DINO_V3, ("dinov3_vit.", "model."), rotary=True),
        "clip": _clip,
        "clip_vision_model": _clip,
        "siglip": _siglip,
        "siglip_vision_model": _siglip,
        "siglip2": _siglip2,
        "siglip2_vision_model": _siglip2,
        "beit": _beit,
        "segformer": Family(
            replace(_VIT, patch="encoder.patch_embeddings.0.proj"), ("segformer.",), resizable=True
        ),
        "swin": Family(_VIT, ("swin.",), resizable=True),
        "swinv2": Family(_VIT, ("swinv2.",), resizable=True),
        # Attention does not know in which order tokens lie: those behind the patches are before.
        "yolos": Family(
            replace(
                _VIT,
                tokens=("embeddings.cls_token", "embeddings.detection_tokens"),
                behind=True,
            ),
            ("vit.",),
            moves=True,
            resizable=True,
        ),
        "data2vec-vision": replace(_beit, prefixes=("data2vec_vision.",)),
    }
)
"""By ``model_type``."""
