"""torchvision's ``vit_b_16``, ``vit_b_32``, ``vit_l_16``, ``vit_l_32`` and ``vit_h_14``.

A ``.pth`` file of weights carries no preprocessing: at 224 pixels it is that of the models trained
there (shorter side 256, bilinear), at larger sizes that of the SWAG models (no crop, bicubic).
"""

from __future__ import annotations

from pathlib import Path

from vitedge.elements.plain_vit import Block, PlainViT, ViTConfig
from vitedge.elements.vision_transformer import network_of
from vitedge.errors import ModelError
from vitedge.importers import Imported, ImportOptions
from vitedge.importers.layers import (
    class_token_and_patches,
    heads_of,
    rows,
    torch_fused_qkv,
    torch_linear,
    torch_norm,
    torch_patch,
    torch_patch_shape,
)
from vitedge.importers.overrides import with_options
from vitedge.importers.reading.state_dict import open_state_dict, state_dict_names
from vitedge.importers.reading.tensors import Tensors, count
from vitedge.network.operators import Linear
from vitedge.preprocess import Preprocessing
from vitedge.spec import Interpolation, Pooling

_BLOCK = "encoder.layers.encoder_layer_{}."
_MARKS = {"conv_proj.weight", "class_token", f"{_BLOCK.format(0)}self_attention.in_proj_weight"}
_EPS = 1e-6
_CROP, _RESIZE = 224, 256


class TorchvisionImporter:
    """Reads a ``.pth`` or ``.safetensors`` file of weights."""

    name = "torchvision"
    rank = 0

    def recognizes(self, path: Path) -> bool:
        """Weights under torchvision's names."""
        return state_dict_names(path) >= _MARKS

    def read(self, path: Path, options: ImportOptions) -> Imported:
        """Reads the weights; every one of them must find its place."""
        with open_state_dict(path) as tensors:
            try:
                vit = _vit(tensors, options)
            except (ValueError, IndexError) as error:
                raise ModelError(f"the weights of '{path}' do not fit: {error}") from error
            tensors.refuse_leftovers()
        return Imported(with_options(network_of(vit), options), "by name: torchvision")


def _vit(tensors: Tensors, options: ImportOptions) -> PlainViT:
    depth = count(tensors, _BLOCK + "ln_1.weight")
    if not depth:
        raise ModelError(f"'{tensors.source}' has no whole block")
    blocks = tuple(_block(tensors.below(_BLOCK.format(index))) for index in range(depth))
    channels, patch_size = torch_patch_shape(tensors, "conv_proj")
    class_token, positions = rows(tensors, "class_token"), rows(tensors, "encoder.pos_embedding")
    tokens = class_token_and_patches(class_token, positions, patch_size, options)
    dim, width = blocks[0].q.weight.shape
    heads = heads_of(width, options)
    head = torch_linear(tensors, "heads.head")
    return PlainViT(
        config=ViTConfig(
            image_size=tokens.image_size,
            patch_size=patch_size,
            channels=channels,
            dim=dim,
            depth=depth,
            heads=heads,
            head_dim=width // heads,
            mlp_dim=blocks[0].fc1.weight.shape[1],
            classes=head.weight.shape[1],
            pooling=Pooling.CLASS,
            attention_scale=(width // heads) ** -0.5,
        ),
        patch=torch_patch(tensors, "conv_proj"),
        prefix=tokens.prefix,
        positions=tokens.positions,
        blocks=blocks,
        norm=torch_norm(tensors, "encoder.ln", _EPS),
        head_hidden=_pre_logits(tensors),
        head=head,
        preprocessing=_preprocessing(tokens.image_size),
    )


def _block(tensors: Tensors) -> Block:
    attention = tensors.below("self_attention.")
    q, k, v = torch_fused_qkv(attention, "in_proj_weight", "in_proj_bias")
    # Until torchvision 0.14 the MLP's layers had names.
    fc1, fc2 = (
        ("mlp.linear_1", "mlp.linear_2") if "mlp.linear_1.weight" in tensors else ("mlp.0", "mlp.3")
    )
    return Block(
        norm1=torch_norm(tensors, "ln_1", _EPS),
        q=q,
        k=k,
        v=v,
        out=torch_linear(attention, "out_proj"),
        norm2=torch_norm(tensors, "ln_2", _EPS),
        fc1=torch_linear(tensors, fc1),
        fc2=torch_linear(tensors, fc2),
    )


def _pre_logits(tensors: Tensors) -> tuple[Linear, ...]:
    name = "heads.pre_logits"
    return (torch_linear(tensors, name),) if f"{name}.weight" in tensors else ()


def _preprocessing(size: tuple[int, int]) -> Preprocessing:
    if max(size) > _CROP:
        return Preprocessing(size=size, resize=max(size), interpolation=Interpolation.BICUBIC)
    resize = round(max(size) * _RESIZE / _CROP)
    return Preprocessing(size=size, resize=resize, interpolation=Interpolation.BILINEAR)


PLUGIN = TorchvisionImporter()
