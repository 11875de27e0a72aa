"""The particulars of the text towers of each family of transformers' models."""

from __future__ import annotations

import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from vitedge.network.tasks import Task


@dataclass(frozen=True)
class TextFamily:
    """Text towers of one ``model_type``.

    Attributes:
        head: The layer that makes the embedding of the pooled token.
        task: The relation of texts to images: one text is right, or each is right or wrong by
            itself.
        defaults: The values that ``config.json`` may leave out of ``text_config``, by transformers'
            classes.
        causal: A token sees those before it, the last token is the pooled one, and nothing is
            padded; else all tokens see each other, and texts are padded to the longest.
        ends: The tokenizer's class ends each text, whatever ``tokenizer.json`` says.
        cleaned: The changes that the tokenizer's class makes to a text before ``tokenizer.json``
            applies.
        padding_side: The side on which its class pads, if its config does not say.
    """

    head: str
    task: Task
    defaults: Mapping[str, Any]
    causal: bool = False
    ends: bool = False
    cleaned: Callable[[str], str] = str
    padding_side: str = "right"


def _canonical(text: str) -> str:
    """Does the same as SigLIP's ``canonicalize_text``."""
    bare = text.lower().translate(str.maketrans("", "", string.punctuation))
    return " ".join(bare.split())


def of_tokenizer(family: TextFamily, config: Mapping[str, Any]) -> TextFamily:
    """The family with the particulars of the tokenizer's class beside the model.

    SigLIP 2 of a fixed resolution is a ``siglip`` whose tokenizer is Gemma's, which changes no
    text. Of ``siglip2`` itself transformers disregards the class that is named.

    Args:
        family: The family of the ``model_type``.
        config: The content of ``tokenizer_config.json``.
    """
    named = config.get("tokenizer_class")
    if family is _siglip and named in ("GemmaTokenizer", "GemmaTokenizerFast"):
        return replace(family, ends=False, cleaned=str, padding_side="left")
    return family


_TOWER = {"hidden_act": "quick_gelu", "layer_norm_eps": 1e-5, "eos_token_id": 49407}
_CLIP = {
    **_TOWER,
    "hidden_size": 512,
    "num_hidden_layers": 12,
    "num_attention_heads": 8,
    "max_position_embeddings": 77,
}
_SIGLIP = {
    "hidden_act": "gelu_pytorch_tanh",
    "layer_norm_eps": 1e-6,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "max_position_embeddings": 64,
}
_siglip = TextFamily("text_model.head", Task.LABELS, _SIGLIP, ends=True, cleaned=_canonical)

TEXT_FAMILIES: Mapping[str, TextFamily] = MappingProxyType(
    {
        "clip": TextFamily("text_projection", Task.CLASSES, _CLIP, causal=True),
        "siglip": _siglip,
        "siglip2": replace(_siglip, ends=False, cleaned=str.lower, padding_side="left"),
    }
)
"""By ``model_type``."""
