"""SegFormer of transformers: stages of fewer and wider tokens, for classes or a map of classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from vitedge.elements.attention import AttentionWeights, attention
from vitedge.elements.block import BlockParts, block
from vitedge.elements.heads import classified
from vitedge.elements.kinds import Pooling
from vitedge.elements.mix_mlp import mix_mlp
from vitedge.elements.pooling import pooled
from vitedge.elements.spatial_reduction import reduced_attention
from vitedge.files.json_values import whole, wholes
from vitedge.images.preprocess import Preprocessing
from vitedge.importers import ImportOptions
from vitedge.importers.hugging_face.trunk import activation_of
from vitedge.importers.layers import torch_head, torch_linear, torch_norm, width_of_heads
from vitedge.importers.reading.tensors import Tensors
from vitedge.importers.torch_convolutions import torch_convolution, torch_pointwise
from vitedge.network.kinds import Activation
from vitedge.network.network import Builder, Value
from vitedge.network.operators import (
    Activate,
    Concatenate,
    Linear,
    Pixels,
    Reshape,
    Resize,
    ResizeKind,
    Standardize,
)

KIND = "segformer"
_EPS = 1e-5  # torch's own, whatever the config says


def segformer_outputs(
    net: Builder,
    tensors: Tensors,
    prefix: str,
    values: Mapping[str, Any],
    preprocessing: Preprocessing,
    options: ImportOptions,
) -> dict[str, Value]:
    """The network's output: ``map`` ``(rows, columns, classes)``, ``logits`` or ``embedding``.

    Args:
        net: The builder that makes the values.
        tensors: All weights.
        prefix: The prefix of the body's names.
        values: The content of ``config.json``.
        preprocessing: The preprocessing of the images.
        options: The user's options.
    """
    x = net("pixels", Pixels(*preprocessing.size, preprocessing.channels))
    mean, std = tuple(preprocessing.mean), tuple(preprocessing.std)
    x = net("pixels/shifted", Standardize(mean, std), x)
    encoder = tensors.below(f"{prefix}encoder.")
    images = []
    for stage in range(whole(values, "num_encoder_blocks", least=1)):
        x = _stage(net, x, encoder, values, stage)
        images.append(x)
    if any(name.startswith("decode_head.") for name in tensors.names):
        return {"map": _decoded(net, images, tensors.below("decode_head."))}
    rows, columns, dim = x.shape
    x = pooled(
        net, net("last/tokens", Reshape((rows * columns, dim)), x), Pooling.MEAN, prefix_tokens=0
    )
    if not any(name.startswith("classifier.") for name in tensors.names):
        return {"embedding": x}
    head = torch_head(tensors, "classifier", options)
    return {"logits": classified(net, x, head.last, head.hidden, head.activation)}


def _stage(
    net: Builder, x: Value, encoder: Tensors, values: Mapping[str, Any], stage: int
) -> Value:
    """An image to one of fewer pixels and more channels."""
    side, step = (wholes(values, name, least=1)[stage] for name in ("patch_sizes", "strides"))
    name = f"patch_embeddings.{stage}"
    layer = torch_convolution(encoder, f"{name}.proj", step=step, border=side // 2)
    x = net(f"stages.{stage}.patch", layer, x)
    rows, columns, dim = x.shape
    x = net(f"stages.{stage}.patch/tokens", Reshape((rows * columns, dim)), x)
    x = net(f"stages.{stage}.patch_norm", torch_norm(encoder, f"{name}.layer_norm", _EPS), x)
    for index in range(wholes(values, "depths", least=1)[stage]):
        inner = encoder.below(f"block.{stage}.{index}.")
        parts = _block(inner, values, stage, (rows, columns))
        x = block(net, x, parts, f"stages.{stage}.blocks.{index}")
    x = net(f"stages.{stage}.norm", torch_norm(encoder, f"layer_norm.{stage}", _EPS), x)
    return net(f"stages.{stage}/image", Reshape((rows, columns, dim)), x)


def _block(
    inner: Tensors, values: Mapping[str, Any], stage: int, grid: tuple[int, int]
) -> BlockParts:
    heads = wholes(values, "num_attention_heads", least=1)[stage]
    step = wholes(values, "sr_ratios", least=1)[stage]
    q, k, v = (torch_linear(inner, f"attention.self.{part}") for part in ("query", "key", "value"))
    weights = AttentionWeights(q, k, v, torch_linear(inner, "attention.output.dense"))
    scale = width_of_heads(q.weight.shape[1], heads) ** -0.5
    fc1, fc2 = (torch_linear(inner, f"mlp.dense{index}") for index in (1, 2))
    depthwise = torch_convolution(inner, "mlp.dwconv.dwconv", border=1, depthwise=True)
    activation = activation_of(values)

    def attend(net: Builder, x: Value, name: str) -> Value:
        if step == 1:
            return attention(net, x, weights, name, heads=heads, scale=scale)
        reduction = torch_convolution(inner, "attention.self.sr", step=step)
        norm = torch_norm(inner, "attention.self.layer_norm", _EPS)
        return reduced_attention(
            net,
            x,
            weights,
            name,
            heads=heads,
            scale=scale,
            grid=grid,
            reduction=reduction,
            norm=norm,
        )

    def grow(net: Builder, x: Value, name: str) -> Value:
        return mix_mlp(net, x, fc1, depthwise, fc2, name, grid=grid, activation=activation)

    norms = (torch_norm(inner, f"layer_norm_{index}", _EPS) for index in (1, 2))
    norm1, norm2 = norms
    return BlockParts(norm1, attend, norm2, grow)


def _decoded(net: Builder, images: list[Value], head: Tensors) -> Value:
    """Every stage's image at the size of the first, side by side, to classes of each pixel."""
    rows, columns = images[0].shape[:2]
    made = []
    for stage, image in enumerate(images):
        name = f"head.stages.{stage}"
        x = net(name, torch_linear(head, f"linear_c.{stage}.proj"), image)
        if x.shape[:2] != (rows, columns):
            x = net(f"{name}/resized", Resize(rows, columns, ResizeKind.BILINEAR), x)
        made.append(x)
    x = net("head/all", Concatenate(2), *reversed(made))
    x = net("head.fuse", _batch_normed(torch_pointwise(head, "linear_fuse"), head), x)
    x = net("head.fuse/relu", Activate(Activation.RELU), x)
    return net("head", torch_pointwise(head, "classifier"), x)


def _batch_normed(layer: Linear, head: Tensors) -> Linear:
    """The layer with the batch norm behind it in its weights."""
    norm = head.below("batch_norm.")
    norm.ignore("num_batches_tracked")
    factor = norm["weight"] / np.sqrt(norm["running_var"] + np.float32(_EPS))
    bias = (layer.bias - norm["running_mean"]) * factor + norm["bias"]
    return Linear(layer.weight * factor, bias)
