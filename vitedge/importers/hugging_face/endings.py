"""Makes logits or an embedding of the tokens of transformers' models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from vitedge.elements.attention import AttentionWeights
from vitedge.elements.attention_pooling import attention_pooling, pooling_head
from vitedge.elements.heads import classified
from vitedge.elements.kinds import Pooling
from vitedge.elements.pooling import normed, pooled
from vitedge.errors import NotAViTError
from vitedge.files.json_values import number, whole
from vitedge.importers import ImportOptions
from vitedge.importers.hugging_face.trunk import activation_of
from vitedge.importers.layers import (
    Head,
    averaged_heads,
    rows,
    torch_head,
    torch_linear,
    torch_norm,
    width_of_heads,
)
from vitedge.importers.reading.tensors import Tensors
from vitedge.importers.torch_blocks import plain_mlp
from vitedge.network.network import Builder, Value
from vitedge.network.operators import Linear


def outputs_of(
    net: Builder,
    x: Value,
    tensors: Tensors,
    body: Tensors,
    values: Mapping[str, Any],
    kind: str,
    options: ImportOptions,
    prefix_tokens: int,
) -> dict[str, Value]:
    """The network's outputs: ``logits`` where there is a classifier, else ``embedding``.

    Args:
        net: The builder that makes the values.
        x: All tokens after the last norm of the trunk.
        tensors: All weights.
        body: The tensors of the trunk.
        values: The content of ``config.json``, or of its part for images.
        kind: Its ``model_type``.
        options: The user's options.
        prefix_tokens: The number of tokens that stand before the patches.
    """
    head = _head(tensors, options)
    is_classifier, eps = head is not None, number(values, "layer_norm_eps")
    if "cls_classifier.weight" in tensors:
        x = pooled(net, x, Pooling.DISTILLED, prefix_tokens)
    else:
        match kind:
            case "dinov2" | "dinov2_with_registers" if is_classifier:
                x = pooled(net, x, Pooling.CLASS_AND_MEAN, prefix_tokens)
            case "beit" | "data2vec-vision" if values.get("use_mean_pooling", True):
                if "pooler.layernorm.weight" not in body:
                    raise NotAViTError(
                        f"'{body.source}' was made without its pooling layer, so it gives tokens "
                        "and no embedding: give a model with add_pooling_layer=True or with a "
                        "classifier, or export it to .onnx"
                    )
                x = pooled(net, x, Pooling.MEAN, prefix_tokens)
                x = normed(net, x, torch_norm(body, "pooler.layernorm", eps))
            case "ijepa":
                x = pooled(net, x, Pooling.MEAN, prefix_tokens)
            case "clip" | "clip_vision_model":
                x = _of_clip(net, x, tensors, body, values, is_classifier=is_classifier)
            case "siglip" | "siglip_vision_model" | "siglip2" | "siglip2_vision_model":
                x = _of_siglip(net, x, body, values, is_classifier=is_classifier)
            case _:
                x = pooled(net, x, Pooling.CLASS, prefix_tokens)
    if head is None:
        return {"embedding": x}
    if head.norm is not None:
        x = normed(net, x, head.norm)
    return {"logits": classified(net, x, head.last, head.hidden, head.activation)}


def _head(tensors: Tensors, options: ImportOptions) -> Head | None:
    """The classifier; None where there is not one."""
    if "cls_classifier.weight" in tensors:
        heads = (
            torch_linear(tensors, name) for name in ("cls_classifier", "distillation_classifier")
        )
        return Head(averaged_heads(*heads))
    if any(name.startswith("classifier.") for name in tensors.names):
        return torch_head(tensors, "classifier", options)
    return None


def _of_clip(
    net: Builder,
    x: Value,
    tensors: Tensors,
    body: Tensors,
    values: Mapping[str, Any],
    *,
    is_classifier: bool,
) -> Value:
    """The class token, normed and projected; a classifier reads the mean of the patches as is."""
    if is_classifier:
        body.ignore("post_layernorm.weight", "post_layernorm.bias")
        return pooled(net, x, Pooling.MEAN, 1)
    x = pooled(net, x, Pooling.CLASS, 1)
    x = normed(net, x, torch_norm(body, "post_layernorm", number(values, "layer_norm_eps")))
    if "visual_projection.weight" in tensors:
        x = net("projection", torch_linear(tensors, "visual_projection"), x)
    return x


def _of_siglip(
    net: Builder, x: Value, body: Tensors, values: Mapping[str, Any], *, is_classifier: bool
) -> Value:
    """Attention pooling; a classifier reads the mean of the tokens instead."""
    head = body.below("head.")
    if is_classifier:
        head.ignore(*head.names)
        return pooled(net, x, Pooling.MEAN, 0)
    if "probe" not in head:
        raise NotAViTError(f"'{body.source}' has neither a classifier nor a pooling head")
    heads = whole(values, "num_attention_heads", least=1)
    weights = _stacked_attention(head.below("attention."))
    probe, scale = rows(head, "probe"), width_of_heads(x.shape[-1], heads) ** -0.5

    def pool(net: Builder, x: Value, name: str) -> Value:
        return attention_pooling(net, x, probe, weights, name, heads=heads, scale=scale)

    norm = torch_norm(head, "layernorm", number(values, "layer_norm_eps"))
    fc1, fc2 = (torch_linear(head, f"mlp.{name}") for name in ("fc1", "fc2"))
    return pooling_head(net, x, pool, norm, plain_mlp(fc1, fc2, activation_of(values)), "pool")


def _stacked_attention(tensors: Tensors) -> AttentionWeights:
    """``torch.nn.MultiheadAttention``: queries, keys and values are stacked in one matrix."""
    stacked, biases = tensors["in_proj_weight"], tensors["in_proj_bias"]
    q, k, v = (
        Linear(np.ascontiguousarray(weight.T), np.ascontiguousarray(bias))
        for weight, bias in zip(np.split(stacked, 3), np.split(biases, 3), strict=True)
    )
    return AttentionWeights(q, k, v, torch_linear(tensors, "out_proj"))
