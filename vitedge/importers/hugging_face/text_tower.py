"""Embeddings of texts by the text tower of CLIP or SigLIP, in NumPy, where artefacts are made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vitedge.errors import ModelError
from vitedge.files.json_values import mapping, number, shown, whole
from vitedge.importers import ImportOptions
from vitedge.importers.hugging_face.text_families import TEXT_FAMILIES, TextFamily
from vitedge.importers.hugging_face.tokens import Tokens, tokens_of
from vitedge.importers.hugging_face.trunk import activation_of
from vitedge.importers.hugging_face.weights import has_weights, open_weights
from vitedge.importers.layers import torch_linear, torch_norm, width_of_heads
from vitedge.importers.reading.json_file import peek_json, read_json
from vitedge.importers.reading.tensors import Tensors
from vitedge.network.numerics import activate, normalize
from vitedge.network.operators import Array, Linear, Norm
from vitedge.network.tasks import Task

_CONFIG, _MARK = "config.json", "text_model.embeddings.token_embedding.weight"
_AT_ONCE = 32
"""Texts: their scores of attention, 64 tokens by 64 in 16 heads, take 8 MB."""


@dataclass(frozen=True)
class EmbeddedTexts:
    """The embeddings that a model of images and texts makes of texts.

    Attributes:
        embeddings: ``(texts, width)``, of any length.
        scale: The factor of the cosine of an image and a text.
        bias: The term that is added to the scaled cosine.
        task: Whether one text is right, or each by itself.
    """

    embeddings: Array
    scale: float
    bias: float
    task: Task


def embed_texts(path: Path, texts: Sequence[str], options: ImportOptions) -> EmbeddedTexts:
    """Embeds texts by the text tower in a folder of Hugging Face's.

    Args:
        path: The folder, or a file in it.
        texts: The texts, at least one.
        options: The user's options for the weights.

    Raises:
        ModelError: There is no text tower of CLIP, SigLIP or SigLIP 2, or it is damaged.
        UsageError: A text is too long.
        UnavailableError: The package for tokenizers is not installed.
    """
    folder = path.parent if path.is_file() else path
    kind = peek_json(folder / _CONFIG).get("model_type")
    family = TEXT_FAMILIES.get(kind) if isinstance(kind, str) else None
    if family is None or not has_weights(folder):
        raise ModelError(
            f"'{path}' has no text tower that vitedge reads, which are those of folders of Hugging "
            f"Face with model_type {', '.join(TEXT_FAMILIES)}: give --text-embeddings and --names, "
            "with embeddings that the model's own text tower made"
        )
    config = read_json(folder / _CONFIG)
    try:
        values = {**family.defaults, **mapping({"text_config": {}, **config}, "text_config")}
        tokens = tokens_of(folder, family, values, texts)
        with open_weights(folder, [_MARK], options) as (tensors, _):
            return _embedded(tensors, family, values, tokens)
    except (ArithmeticError, LookupError, TypeError, ValueError, AttributeError) as error:
        raise ModelError(f"'{folder / _CONFIG}' and the weights do not fit: {error}") from error


def _embedded(
    tensors: Tensors, family: TextFamily, values: Mapping[str, Any], tokens: Tokens
) -> EmbeddedTexts:
    tower = tensors.below("text_model.")
    eps, depth = number(values, "layer_norm_eps"), whole(values, "num_hidden_layers", least=1)
    x = _begun(tower, tokens)
    for index in range(depth):
        block = _Block.of(tower.below(f"encoder.layers.{index}."), values, family, eps)
        for start in range(0, len(x), _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            x[part] = block(x[part], tokens.seen[part])
    pooled = x[np.arange(len(x)), tokens.pooled]
    pooled = normalize(pooled, torch_norm(tower, "final_layer_norm", eps))
    head = torch_linear(tensors, family.head)
    tower.ignore("embeddings.position_ids")
    parts = ("text_model.", "text_projection.")
    tensors.ignore(*(name for name in tensors.names if not name.startswith(parts)))
    tensors.refuse_leftovers()
    scale = float(np.exp(_single(tensors, "logit_scale")))
    bias = _single(tensors, "logit_bias") if "logit_bias" in tensors else 0.0
    return EmbeddedTexts(_linear(pooled, head), scale, bias, family.task)


def _begun(tower: Tensors, tokens: Tokens) -> Array:
    """Tokens with their positions, ``(texts, length, width)``."""
    words = tower["embeddings.token_embedding.weight"]
    if tokens.ids.max() >= len(words):
        raise ModelError(
            f"the tokenizer makes token {tokens.ids.max()}, and the model knows {len(words)}"
        )
    positions = tower["embeddings.position_embedding.weight"]
    begun: Array = words[tokens.ids] + positions[: tokens.ids.shape[1]]
    return begun


@dataclass(frozen=True)
class _Block:
    """One block with norms before both sublayers."""

    norms: tuple[Norm, Norm]
    qkv: tuple[Linear, Linear, Linear]
    out: Linear
    mlp: tuple[Linear, Linear]
    heads: int
    causal: bool
    values: Mapping[str, Any]

    @classmethod
    def of(
        cls, tensors: Tensors, values: Mapping[str, Any], family: TextFamily, eps: float
    ) -> _Block:
        """Reads it."""
        q, k, v = (torch_linear(tensors, f"self_attn.{each}_proj") for each in "qkv")
        fc1, fc2 = (torch_linear(tensors, f"mlp.{each}") for each in ("fc1", "fc2"))
        norm1, norm2 = (torch_norm(tensors, f"layer_norm{each}", eps) for each in (1, 2))
        return cls(
            (norm1, norm2),
            (q, k, v),
            torch_linear(tensors, "self_attn.out_proj"),
            (fc1, fc2),
            whole(values, "num_attention_heads", least=1),
            family.causal,
            values,
        )

    def __call__(self, x: Array, seen: Any) -> Array:
        """The tokens ``(texts, length, width)`` after the block."""
        x = x + _linear(self._attended(normalize(x, self.norms[0]), seen), self.out)
        grown = activate(
            _linear(normalize(x, self.norms[1]), self.mlp[0]), activation_of(self.values)
        )
        after: Array = x + _linear(grown, self.mlp[1])
        return after

    def _attended(self, x: Array, seen: Any) -> Array:
        count, length, width = x.shape
        per_head = width_of_heads(width, self.heads)
        q, k, v = (
            _linear(x, each).reshape(count, length, self.heads, per_head).transpose(0, 2, 1, 3)
            for each in self.qkv
        )
        scores = q @ k.transpose(0, 1, 3, 2) * np.float32(per_head**-0.5)
        looks = np.broadcast_to(seen[:, None, None, :], scores.shape)
        if self.causal:
            looks = looks & np.tri(length, dtype=np.bool_)
        scores = np.where(looks, scores, np.float32(-np.inf))
        shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
        shares /= shares.sum(axis=-1, keepdims=True)
        mixed: Array = (shares @ v).transpose(0, 2, 1, 3).reshape(count, length, width)
        return mixed


def _linear(x: Array, layer: Linear) -> Array:
    product: Array = x @ layer.weight + layer.bias
    return product


def _single(tensors: Tensors, name: str) -> float:
    array = tensors[name]
    if array.size != 1:
        raise ModelError(f"'{name}' is not one number but {shown(list(array.shape))}")
    return float(array.reshape(()))
