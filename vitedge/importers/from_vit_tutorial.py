"""The classic tutorial ViT in TensorFlow (github.com/Qucy/ViT-VisionTransformer, ``ViT/model.py``).

A subclassed model with a fixed batch size, one fused Dense for query, key and value, and a Lambda
that picks the class token. Its weights are read from ``save_weights`` (``.h5`` of Keras 2,
``.weights.h5`` of Keras 3) or from a whole saved model (SavedModel or ``.keras``); neither its code
nor its Lambda is needed or run, and the batch size falls away with them.

The number of heads is in no weight. A ``.keras`` file says it, and a SavedModel where Keras knew
the model's arguments or left traced functions, which cut the channels into heads. With the latter
current versions number the variables instead of naming them, and it is lifted. GELU is TensorFlow
Addons' with its default, the tanh approximation. The training script divides pixels by 255 and does
nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from vitedge.elements.vision_transformer import network_of
from vitedge.errors import ModelError
from vitedge.importers import Imported, ImportOptions
from vitedge.importers.classic_keras import Published, classic_vit
from vitedge.importers.overrides import with_options
from vitedge.importers.reading.hdf5_file import Keras2Layer, hdf5_names, keras2_layers, open_hdf5
from vitedge.importers.reading.keras_archive import archived_config, open_archived_weights
from vitedge.importers.reading.saved_model import (
    open_variables,
    saved_arguments,
    saved_model_mentions,
    split_heads,
    variables_mention,
)
from vitedge.importers.reading.tensors import Tensors
from vitedge.network.kinds import Activation

# Keras 2 names layers after their classes and numbers them over the whole program, so it is the
# order that tells what is what.
_LAYERS = (
    "conv2d",
    "reshape",
    "class_token",
    "position_embedding",
    "sequential",
    "layer_normalization",
    "lambda",
    "dense",
)
_BLOCK_ORDER = (
    "norm1.gamma",
    "norm1.beta",
    "qkv.weight",
    "qkv.bias",
    "out.weight",
    "out.bias",
    "norm2.gamma",
    "norm2.beta",
    "fc1.weight",
    "fc1.bias",
    "fc2.weight",
    "fc2.bias",
)

# Attributes, as newer files and SavedModels file weights; the former count variables, the latter
# name them. Of a model's own layers, a class name stands in for the attributes that Keras visits
# after `layers`: the later ones in Keras 3's alphabetical order, the earlier ones in Keras 2.
_ATTRIBUTES = {
    "conv": "patch",
    "layers/conv2d": "patch",
    "layerNormalization": "norm",
    "layers/layer_normalization": "norm",
    "dense": "head",
    "layers/dense": "head",
    "layerNorm1": "norm1",
    "layerNorm2": "norm2",
    "multiHeadSelfAttention/qkv": "qkv",
    "multiHeadSelfAttention/dense": "out",
    "MLP/layers/dense": "fc1",
    "MLP/layers/dense_1": "fc2",
    "MLP/layer_with_weights-0": "fc1",
    "MLP/layer_with_weights-1": "fc2",
}
_TOKENS = {
    "classToken/vars/0": "class_token",
    "layers/class_token/vars/0": "class_token",
    "classToken/cls_w": "class_token",
    "positionEmbedding/vars/0": "positions",
    "layers/position_embedding/vars/0": "positions",
    "positionEmbedding/pos_w": "positions",
}
_ATTRIBUTED = re.compile(
    r"(?:(?:(?:layers/sequential|transformerBlocks)/layers/transformer_block(?:_(?P<index>\d+))?"
    r"|transformerBlocks/layer_with_weights-(?P<number>\d+))(?P<block>/))?"
    r"(?P<part>.+)/(?P<leaf>vars/0|vars/1|kernel|bias|gamma|beta)"
)
_MARKS = {"class_token", "positions", "patch.weight", "blocks.0.qkv.weight", "blocks.0.fc1.weight"}
_ARGUMENTS = {"batch_size", "patch_size", "num_layers", "num_features", "num_heads", "mlp_dim"}
_GRAPH_NAMES = ("classToken", "positionEmbedding", "multiHeadSelfAttention", "extractClassToken")
_VARIABLE_NAME = "classToken/cls_w"
_ATTENTION = "multi_head_self_attention"  # what Keras calls its nodes


class VitTutorialImporter:
    """Reads the weights, wherever they were saved."""

    name = "vit-tutorial"
    rank = 0

    def recognizes(self, path: Path) -> bool:
        """The layers of the tutorial in their order, or its attributes."""
        if path.is_dir():
            named = variables_mention(path, _VARIABLE_NAME)
            return named and saved_model_mentions(path, *_GRAPH_NAMES)
        names = hdf5_names(path)
        if names:
            return _is_tutorial(keras2_layers(path)) or _attributed(names).keys() >= _MARKS
        return bool(_arguments(path))

    def read(self, path: Path, options: ImportOptions) -> Imported:
        """Reads the weights; every one of them must find its place."""
        with _open(path) as tensors:
            layers = () if path.is_dir() else keras2_layers(path)
            places = _ordered(layers) if layers else _attributed(tensors.names)
            parts = tensors.renamed(places)
            published = Published(Activation.GELU_TANH, 0.0, 1.0, _heads(path, parts))
            vit = classic_vit(parts, published, options)
        return Imported(with_options(network_of(vit), options), "by name: vit-tutorial")


def _open(path: Path) -> AbstractContextManager[Tensors]:
    if path.is_dir():
        return open_variables(path)
    return open_hdf5(str(path), path) if hdf5_names(path) else open_archived_weights(path)


def _arguments(path: Path) -> Mapping[str, Any]:
    """The model's own arguments, which a ``.keras`` file holds; empty when it is another model."""
    config = archived_config(path)
    arguments = config.get("config")
    if config.get("class_name") != "VisionTransformer" or not isinstance(arguments, dict):
        return {}
    return arguments if arguments.keys() >= _ARGUMENTS else {}


def _heads(path: Path, parts: Tensors) -> int | None:
    if not path.is_dir():
        number = _arguments(path).get("num_heads")
    else:
        width = parts.shape("norm.gamma")[-1]
        number = saved_arguments(path).get("num_heads") or split_heads(path, _ATTENTION, width)
    return number if isinstance(number, int) and number > 0 else None


def _is_tutorial(layers: tuple[Keras2Layer, ...]) -> bool:
    classes = tuple(re.sub(r"_\d+$", "", layer.name) for layer in layers)
    return classes == _LAYERS


def _ordered(layers: tuple[Keras2Layer, ...]) -> dict[str, str]:
    """The place of each part in a file of Keras 2."""
    conv, _, class_token, positions, sequential, norm, _, head = (layer.weights for layer in layers)
    size = len(_BLOCK_ORDER)
    if len(sequential) % size:
        raise ModelError(f"{len(sequential)} weights in the blocks are not {size} for each")
    places = [
        (f"blocks.{index // size}.{_BLOCK_ORDER[index % size]}", name)
        for index, name in enumerate(sequential)
    ]
    for parts, names in (
        (("patch.weight", "patch.bias"), conv),
        (("class_token",), class_token),
        (("positions",), positions),
        (("norm.gamma", "norm.beta"), norm),
        (("head.weight", "head.bias"), head),
    ):
        if len(parts) != len(names):
            raise ModelError(f"{len(names)} weights where {', '.join(parts)} are expected")
        places += zip(parts, names, strict=True)
    return dict(places)


def _attributed(names: frozenset[str]) -> dict[str, str]:
    """The place of each part, by attribute; other names stay as they are."""
    return {
        _attributed_part(name) or name: name
        for name in names
        if not name.startswith(("optimizer", "save_counter", "keras_api"))
    }


def _attributed_part(name: str) -> str | None:
    if name in _TOKENS:
        return _TOKENS[name]
    match = _ATTRIBUTED.fullmatch(name)
    part = _ATTRIBUTES.get(match["part"]) if match else None
    if match is None or part is None:
        return None
    second = match["leaf"] in ("vars/1", "bias", "beta")
    leaves = ("gamma", "beta") if part.startswith("norm") else ("weight", "bias")
    part = f"{part}.{leaves[second]}"
    if match["block"] is None:
        return part
    return f"blocks.{match['index'] or match['number'] or 0}.{part}"


PLUGIN = VitTutorialImporter()
