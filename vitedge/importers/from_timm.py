"""timm's Vision Transformers (github.com/huggingface/pytorch-image-models).

ViT, AugReg, DeiT, DeiT-distilled, DeiT-III, registers, and models without a class token that
average their patches. Shapes tell all but the following, which have timm's default:

* heads: 64 wide, and 16 for the widths of ViT-SO400M, H, g and G;
* epsilon: 1e-6, and 1e-5 for the CLIP family, known by its norm before the blocks;
* preprocessing: what a hub folder's ``config.json`` beside the weights says, else DeiT's;
* pooling: a class token is read if there is one and no norm after pooling.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from vitedge.elements.kinds import Pooling
from vitedge.elements.plain_vit import Block, PlainViT, ViTConfig
from vitedge.elements.vision_transformer import network_of
from vitedge.errors import ModelError, NotAViTError
from vitedge.files.json_values import mapping
from vitedge.images.interpolation import Interpolation
from vitedge.images.preprocess import Preprocessing
from vitedge.importers import Imported, ImportOptions
from vitedge.importers.layers import (
    Head,
    LearnedTokens,
    averaged_heads,
    heads_of,
    rows,
    scaled_outputs,
    square_grid,
    torch_fused_qkv,
    torch_head,
    torch_linear,
    torch_norm,
    torch_norm_if_present,
    torch_patch,
    torch_patch_shape,
    usual_statistics,
)
from vitedge.importers.overrides import with_options
from vitedge.importers.reading.json_file import peek_json
from vitedge.importers.reading.state_dict import in_checkpoint, open_checkpoint
from vitedge.importers.reading.tensors import Tensors, count
from vitedge.network.kinds import Activation

_PATCH = "patch_embed.proj"
_MARKS = {f"{_PATCH}.weight", "blocks.0.attn.qkv.weight", "blocks.0.mlp.fc1.weight"}
_EPS, _CLIP_EPS = 1e-6, 1e-5
_DEIT_CROP = 0.9  # 224 of 248 pixels
_WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")


class TimmImporter:
    """Reads a ``.safetensors`` or ``.pth`` file, or a folder of timm's on the Hugging Face hub."""

    name = "timm"
    rank = 0

    def recognizes(self, path: Path) -> bool:
        """Weights under timm's names."""
        return in_checkpoint(_weights_of(path), _MARKS)

    def read(self, path: Path, options: ImportOptions) -> Imported:
        """Reads the weights; every one of them must find its place."""
        weights = _weights_of(path)
        with open_checkpoint(weights, _MARKS, options) as opened:
            try:
                vit = _vit(opened.tensors, options, _published(weights))
            except (ValueError, IndexError) as error:
                raise ModelError(f"the weights of '{path}' do not fit: {error}") from error
            opened.tensors.refuse_leftovers()
        return Imported(with_options(network_of(vit), options), opened.read("timm"))


def _weights_of(path: Path) -> Path:
    if path.is_dir():
        for name in _WEIGHT_FILES:
            if (path / name).is_file():
                return path / name
    return path


def _vit(tensors: Tensors, options: ImportOptions, published: Mapping[str, Any]) -> PlainViT:
    eps = _CLIP_EPS if "norm_pre.weight" in tensors else _EPS
    depth = count(tensors, "blocks.{}.norm1.weight")
    blocks = tuple(_block(tensors.below(f"blocks.{index}."), eps) for index in range(depth))
    if not blocks:
        raise NotAViTError(f"'{tensors.source}' has no block with a norm before its attention")
    tokens = _tokens(tensors, options)
    channels, _ = torch_patch_shape(tensors, _PATCH)
    pooling = _pooling(tensors)
    block = blocks[0]
    heads = _heads(block, options)
    head = _head(tensors, options)
    return PlainViT(
        config=ViTConfig(
            image_size=tokens.image_size,
            patch_size=tokens.patch_size,
            channels=channels,
            dim=block.q.weight.shape[0],
            depth=depth,
            heads=heads,
            head_dim=block.q.weight.shape[1] // heads,
            mlp_dim=block.fc1.weight.shape[1],
            classes=head.last.weight.shape[1],
            prefix_tokens=len(tokens.prefix),
            pooling=pooling,
            head_activation=head.activation,
            attention_scale=(block.q.weight.shape[1] // heads) ** -0.5,
        ),
        patch=torch_patch(tensors, _PATCH),
        prefix=tokens.prefix,
        positions=tokens.positions,
        blocks=blocks,
        input_norm=torch_norm_if_present(tensors, "norm_pre", eps),
        norm=torch_norm_if_present(tensors, "norm", eps),
        pooled_norm=torch_norm_if_present(tensors, "fc_norm", eps) or head.norm,
        head_hidden=head.hidden,
        head=head.last,
        preprocessing=_preprocessing(published, tokens.image_size, channels),
        labels=_labels(published, head.last.weight.shape[1]),
    )


def _block(tensors: Tensors, eps: float) -> Block:
    q, k, v = torch_fused_qkv(tensors, "attn.qkv.weight", "attn.qkv.bias")
    out, fc2 = torch_linear(tensors, "attn.proj"), torch_linear(tensors, "mlp.fc2")
    if "ls1.gamma" in tensors:
        out = scaled_outputs(out, tensors["ls1.gamma"])
    if "ls2.gamma" in tensors:
        fc2 = scaled_outputs(fc2, tensors["ls2.gamma"])
    return Block(
        norm1=torch_norm(tensors, "norm1", eps),
        q=q,
        k=k,
        v=v,
        out=out,
        norm2=torch_norm(tensors, "norm2", eps),
        fc1=torch_linear(tensors, "mlp.fc1"),
        fc2=fc2,
        q_norm=torch_norm_if_present(tensors, "attn.q_norm", eps),
        k_norm=torch_norm_if_present(tensors, "attn.k_norm", eps),
    )


def _heads(block: Block, options: ImportOptions) -> int:
    width = block.q.weight.shape[1]
    head_dim = 0 if block.q_norm is None else block.q_norm.gamma.size
    if head_dim and width and width % head_dim == 0:
        return int(width // head_dim)
    return heads_of(width, options)


def _tokens(tensors: Tensors, options: ImportOptions) -> LearnedTokens:
    """The learned tokens, with their positions added as timm adds them."""
    _, patch_size = torch_patch_shape(tensors, _PATCH)
    positions = rows(tensors, "pos_embed")
    names = [name for name in ("cls_token", "dist_token", "reg_token") if name in tensors]
    learned = [rows(tensors, name) for name in names]
    prefix = np.concatenate(learned or [np.zeros((0, positions.shape[1]), np.float32)])
    # Some models (`no_embed_class`) give positions to the patches alone. Registers came with them.
    bare = square_grid(len(positions), patch_size, options)
    whole = square_grid(len(positions) - len(prefix), patch_size, options)
    grid = (bare or whole) if "reg_token" in names else (whole or bare)
    if grid is None:
        raise ModelError(
            f"'{tensors.source}' has {len(positions)} positions, which are not a square of "
            f"patches with {len(prefix)} tokens before it: give --image-size"
        )
    if grid == bare and grid != whole:
        own = np.zeros_like(prefix)
    else:
        own, positions = np.split(positions, [len(prefix)])
    return LearnedTokens(
        prefix=prefix + own,
        positions=np.ascontiguousarray(positions),
        image_size=(grid[0] * patch_size[0], grid[1] * patch_size[1]),
        patch_size=patch_size,
    )


def _pooling(tensors: Tensors) -> Pooling:
    if "head_dist.weight" in tensors:
        return Pooling.DISTILLED
    if "fc_norm.weight" in tensors or "cls_token" not in tensors:
        return Pooling.MEAN
    return Pooling.CLASS


def _head(tensors: Tensors, options: ImportOptions) -> Head:
    head = torch_head(tensors, "head", options)
    if "head_dist.weight" in tensors and not head.hidden and head.norm is None:
        return replace(head, last=averaged_heads(head.last, torch_linear(tensors, "head_dist")))
    if "fc_norm.weight" in tensors and head.norm is not None:
        raise NotAViTError(f"'{tensors.source}' has two norms after its pooling")
    name = "pre_logits.fc"
    if f"{name}.weight" in tensors and not head.hidden:
        # The hidden layer, with tanh, of heads trained on ImageNet-21k.
        hidden = (torch_linear(tensors, name),)
        return replace(head, hidden=hidden, activation=Activation.TANH)
    return head


# --- what a hub folder says beside the weights ---------------------------------------------------


def _published(weights: Path) -> Mapping[str, Any]:
    """The ``config.json`` of timm beside the weights, flattened; empty when there is none."""
    try:
        config = peek_json(weights.parent / "config.json")
        return {**config, **mapping(config, "pretrained_cfg")}
    except ValueError:
        return {}


def _preprocessing(
    published: Mapping[str, Any], size: tuple[int, int], channels: int
) -> Preprocessing:
    crop = float(published.get("crop_pct", _DEIT_CROP))
    usual_mean, usual_std = usual_statistics(channels)
    squashed = published.get("crop_mode") == "squash"
    return Preprocessing(
        size=size,
        channels=channels,
        resize=None if squashed else math.floor(max(size) / crop),
        interpolation=Interpolation(published.get("interpolation", Interpolation.BICUBIC)),
        mean=tuple(published.get("mean", usual_mean)),
        std=tuple(published.get("std", usual_std)),
    )


def _labels(published: Mapping[str, Any], classes: int) -> tuple[str, ...]:
    names = published.get("label_names", ())
    if not isinstance(names, list) or len(names) != classes:
        return ()
    descriptions = published.get("label_descriptions") or {}
    return tuple(str(descriptions.get(name, name)) for name in names)


PLUGIN = TimmImporter()
