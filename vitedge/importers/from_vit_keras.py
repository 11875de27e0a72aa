"""vit-keras (github.com/faustomorales/vit-keras).

Weights alone or the whole model, as ``.h5`` of Keras 2 or 3 or as ``.keras``. Its Lambda layers,
whose byte code such a file holds, are not run: they pick the class token and compute GELU. That is
the exact one since version 0.1.2; before, it was TensorFlow Addons' tanh approximation under the
same names: give ``--activation gelu_tanh``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from vitedge.elements.vision_transformer import network_of
from vitedge.files.json_values import parse_object
from vitedge.importers import Imported, ImportOptions
from vitedge.importers.classic_keras import Published, classic_vit
from vitedge.importers.overrides import with_options
from vitedge.importers.reading.hdf5_file import hdf5_names, open_hdf5, text_attribute
from vitedge.importers.reading.keras_archive import archived_config, open_archived_weights
from vitedge.importers.reading.tensors import Tensors
from vitedge.importers.soundness import task_of_activation
from vitedge.network.kinds import Activation
from vitedge.network.network import with_task

_PARTS = {
    "query": "q",
    "key": "k",
    "value": "v",
    "out": "out",
    "LayerNorm_0": "norm1",
    "LayerNorm_2": "norm2",
    "Dense_0": "fc1",
    "Dense_1": "fc2",
    "embedding": "patch",
    "class_token": "class_token",
    "posembed_input": "positions",
    "encoder_norm": "norm",
    "pre_logits": "pre_logits",
    "head": "head",
}
_LEAVES = {
    "kernel": ".weight",
    "bias": ".bias",
    "gamma": ".gamma",
    "beta": ".beta",
    "cls": "",
    "pos_embedding": "",
}
# A weight under its layers' names, as Keras 2 and `model.save("x.h5")` file it.
_NAMED = re.compile(
    r"(?:.*encoderblock_(?P<index>\d+).*[/_])?(?:.*[/_])?"
    rf"(?P<part>{'|'.join(_PARTS)})/(?P<leaf>{'|'.join(_LEAVES)})(?::0)?"
)

# A weight under its attributes, as Keras 3's ``.weights.h5`` and ``.keras`` file it.
_ATTRIBUTES = {
    "conv2d": "patch",
    "class_token": "class_token",
    "add_position_embs": "positions",
    "layer_normalization": "norm",
    "att/query_dense": "q",
    "att/key_dense": "k",
    "att/value_dense": "v",
    "att/combine_heads": "out",
    "layernorm1": "norm1",
    "layernorm2": "norm2",
    "mlpblock/layers/dense": "fc1",
    "mlpblock/layers/dense_1": "fc2",
}
_ATTRIBUTED = re.compile(
    r"layers/(?:transformer_block(?:_(?P<index>\d+))?(?P<block>/))?(?P<part>.+)/vars/(?P<leaf>[01])"
)
_MARKS = {"class_token", "positions", "patch.weight", "blocks.0.q.weight", "blocks.0.fc1.weight"}
_CLASSES = {"ClassToken", "AddPositionEmbs", "TransformerBlock"}


class VitKerasImporter:
    """Reads what ``save_weights`` and ``save`` write."""

    name = "vit-keras"
    rank = 0

    def recognizes(self, path: Path) -> bool:
        """Weights under the names of vit-keras's layers, or a model made of them."""
        if path.is_file() and _places(hdf5_names(path)).keys() >= _MARKS:
            return True
        return set(_classes(archived_config(path))) >= _CLASSES

    def read(self, path: Path, options: ImportOptions) -> Imported:
        """Reads the weights; every one of them must find its place."""
        with _open(path) as tensors:
            parts = tensors.renamed(_places(tensors.names))
            published = Published(Activation.GELU, mean=0.5, std=0.5, heads=_heads(path))
            vit = classic_vit(parts, published, options)
        layers = _layers(_config(path))
        inner = layers[-1].get("config") if layers else None
        activation = inner.get("activation") if isinstance(inner, dict) else None
        told = task_of_activation(f"'{path}'", activation, vit.config.classes, options.task)
        return Imported(
            with_options(with_task(network_of(vit), told), options), "by name: vit-keras"
        )


def _open(path: Path) -> AbstractContextManager[Tensors]:
    return open_hdf5(str(path), path) if hdf5_names(path) else open_archived_weights(path)


def _places(names: frozenset[str]) -> dict[str, str]:
    """The place of each part, by the names of ``classic_keras``; other names stay as they are."""
    whole = any(name.startswith("model_weights/") for name in names)
    places = {}
    for name in names:
        if whole and not name.startswith("model_weights/"):
            continue  # the optimizer's state
        if name.startswith("optimizer/"):
            continue
        places[_named(name) or _attributed(name, names) or name] = name
    return places


def _named(name: str) -> str | None:
    match = _NAMED.fullmatch(name)
    if match is None:
        return None
    part = _PARTS[match["part"]] + _LEAVES[match["leaf"]]
    return part if match["index"] is None else f"blocks.{match['index']}.{part}"


def _attributed(name: str, names: frozenset[str]) -> str | None:
    match = _ATTRIBUTED.fullmatch(name)
    if match is None:
        return None
    hidden = "layers/dense_1/vars/0" in names
    heads = {"dense": "pre_logits", "dense_1": "head"} if hidden else {"dense": "head"}
    part = (_ATTRIBUTES | heads).get(match["part"])
    if part is None:
        return None
    if part not in ("class_token", "positions"):
        normalizes = part.startswith("norm")
        part += ((".gamma", ".beta") if normalizes else (".weight", ".bias"))[int(match["leaf"])]
    return part if match["block"] is None else f"blocks.{match['index'] or 0}.{part}"


def _heads(path: Path) -> int | None:
    """Number of heads, where the whole model was saved with its config."""
    inner = (layer.get("config") for layer in _layers(_config(path)))
    heads = (each.get("num_heads") for each in inner if isinstance(each, dict))
    return next((number for number in heads if isinstance(number, int) and number > 0), None)


def _config(path: Path) -> Mapping[str, Any]:
    """The config of a whole model, empty for weights alone."""
    config = archived_config(path)
    if config:
        return config
    try:
        return parse_object(text_attribute(path, "model_config") or "{}")
    except ValueError:
        return {}


def _classes(config: Mapping[str, Any]) -> Iterator[str]:
    for layer in _layers(config):
        yield str(layer.get("class_name"))


def _layers(config: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The layers of a functional model's config, empty when it is not such a config."""
    inner = config.get("config")
    layers = inner.get("layers") if isinstance(inner, dict) else None
    if not isinstance(layers, list):
        return []
    return [layer for layer in layers if isinstance(layer, dict)]


PLUGIN = VitKerasImporter()
