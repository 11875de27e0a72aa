"""torchvision's ``vit_b_16``, ``vit_b_32``, ``vit_l_16``, ``vit_l_32`` and ``vit_h_14``.

A ``.pth`` file of weights carries no preprocessing: at 224 pixels it is that of the models trained
there (shorter side 256, bilinear), at larger sizes that of the SWAG models (no crop, bicubic).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from vitedge.elements.kinds import Pooling
from vitedge.elements.plain_vit import Block, PlainViT, ViTConfig
from vitedge.elements.vision_transformer import network_of
from vitedge.errors import ModelError
from vitedge.images.interpolation import Interpolation
from vitedge.images.preprocess import Preprocessing
from vitedge.importers import Imported, ImportOptions
from vitedge.importers.layers import (
    Head,
    class_token_and_patches,
    heads_of,
    rows,
    torch_fused_qkv,
    torch_head,
    torch_linear,
    torch_norm,
    torch_patch,
    torch_patch_shape,
    usual_statistics,
)
from vitedge.importers.overrides import with_options
from vitedge.importers.reading.state_dict import in_checkpoint, open_checkpoint
from vitedge.importers.reading.tensors import Tensors, count
from vitedge.network.kinds import Activation

_BLOCK = "encoder.layers.encoder_layer_{}."
_MARKS = {"conv_proj.weight", "class_token", f"{_BLOCK.format(0)}self_attention.in_proj_weight"}
_EPS = 1e-6
_CROP, _RESIZE = 224, 256
_HEAD = "heads.head"


class TorchvisionImporter:
    """Reads a ``.pth`` or ``.safetensors`` file of weights."""

    name = "torchvision"
    rank = 0

    def recognizes(self, path: Path) -> bool:
        """Weights under torchvision's names."""
        return in_checkpoint(path, _MARKS)

    def read(self, path: Path, options: ImportOptions) -> Imported:
        """Reads the weights; every one of them must find its place."""
        with open_checkpoint(path, _MARKS, options, head=_HEAD) as opened:
            try:
                vit = _vit(opened.tensors, options)
            except (ValueError, IndexError) as error:
                raise ModelError(f"the weights of '{path}' do not fit: {error}") from error
            opened.tensors.refuse_leftovers(_HEAD)
        return Imported(with_options(network_of(vit), options), opened.read("torchvision"))


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
    head = _head(tensors, options)
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
            classes=head.last.weight.shape[1],
            pooling=Pooling.CLASS,
            head_activation=head.activation,
            attention_scale=(width // heads) ** -0.5,
        ),
        patch=torch_patch(tensors, "conv_proj"),
        prefix=tokens.prefix,
        positions=tokens.positions,
        blocks=blocks,
        norm=torch_norm(tensors, "encoder.ln", _EPS),
        pooled_norm=head.norm,
        head_hidden=head.hidden,
        head=head.last,
        preprocessing=_preprocessing(tokens.image_size, channels),
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


def _head(tensors: Tensors, options: ImportOptions) -> Head:
    """Torchvision's own, or what people put in its place: ``heads`` as a whole, or its parts."""
    if "heads.head.weight" not in tensors and not tensors.below("heads.head.").names:
        return torch_head(tensors, "heads", options)
    head = torch_head(tensors, "heads.head", options)
    name = "heads.pre_logits"
    if f"{name}.weight" in tensors and not head.hidden:
        hidden = (torch_linear(tensors, name),)
        return replace(head, hidden=hidden, activation=Activation.TANH)
    return head


def _preprocessing(size: tuple[int, int], channels: int) -> Preprocessing:
    mean, std = usual_statistics(channels)
    if max(size) > _CROP:
        resize, interpolation = max(size), Interpolation.BICUBIC
    else:
        resize, interpolation = round(max(size) * _RESIZE / _CROP), Interpolation.BILINEAR
    return Preprocessing(
        size=size,
        channels=channels,
        resize=resize,
        interpolation=interpolation,
        mean=mean,
        std=std,
    )


PLUGIN = TorchvisionImporter()
