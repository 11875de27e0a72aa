"""KerasHub's ``ViTImageClassifier`` and ``DeiTImageClassifier``.

A ``.keras`` file or a preset folder. Neither KerasHub nor Keras is needed: config and weights are
read as the JSON and HDF5 they are. A softmax after the classifier is dropped, because a ``ViT``
ends in logits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vitedge.elements.kinds import Pooling
from vitedge.elements.plain_vit import Block, PlainViT, ViTConfig
from vitedge.elements.vision_transformer import network_of
from vitedge.errors import ModelError
from vitedge.files.json_values import mapping, number, numbers, text, whole, wholes
from vitedge.images.interpolation import Interpolation
from vitedge.images.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocessing, demand_channels
from vitedge.importers import Imported, ImportOptions
from vitedge.importers.layers import folded_linear, rows, width_of_heads
from vitedge.importers.lift.saved_model_safety import refuse_links_out
from vitedge.importers.overrides import with_options
from vitedge.importers.reading.hdf5_file import open_hdf5
from vitedge.importers.reading.json_file import peek_json, read_json
from vitedge.importers.reading.keras_archive import archived_config, open_archived_weights
from vitedge.importers.reading.tensors import Tensors
from vitedge.importers.soundness import task_of_activation
from vitedge.network.network import with_task
from vitedge.network.operators import Array, Linear, Norm

_TASK, _CONVERTER = "task.json", "image_converter.json"
_HALF = (0.5, 0.5, 0.5)


@dataclass(frozen=True)
class _Family:
    """The names that one of the two classifiers has for its parts, and its mean and deviation."""

    prefix: str
    embedding: str
    fc1: str
    fc2: str
    mlp_dim: str
    mean: tuple[float, ...]
    std: tuple[float, ...]


_FAMILIES = {
    "keras_hub>ViTImageClassifier": _Family(
        prefix="vi_t",
        embedding="patching_and_embedding",
        fc1="mlp/dense_1",
        fc2="mlp/dense_2",
        mlp_dim="mlp_dim",
        mean=_HALF,
        std=_HALF,
    ),
    "keras_hub>DeiTImageClassifier": _Family(
        prefix="dei_t",
        embedding="embeddings",
        fc1="mlp/dense",
        fc2="output_layer/dense",
        mlp_dim="intermediate_dim",
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
    ),
}


class KerasHubImporter:
    """Reads what ``save`` and ``save_to_preset`` write."""

    name = "keras-hub"
    rank = 0

    def recognizes(self, path: Path) -> bool:
        """One of the two classes, by the name it is registered under."""
        config = peek_json(path / _TASK) if path.is_dir() else archived_config(path)
        name = config.get("registered_name")
        return isinstance(name, str) and name in _FAMILIES

    def read(self, path: Path, options: ImportOptions) -> Imported:
        """Reads config and weights; every one of the latter must find its place."""
        task = read_json(path / _TASK) if path.is_dir() else archived_config(path)
        try:
            family = _FAMILIES[text(task, "registered_name")]
            config = mapping(task, "config")
            with _weights(path, family) as (backbone, head):
                converter = _converter(path, config)
                vit = _vit(backbone, head, family, config, converter)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ModelError(
                f"the config of '{path}' and its weights do not fit: {error}"
            ) from error
        told = task_of_activation(
            f"'{path}'", config.get("activation"), vit.config.classes, options.task
        )
        _check_resize(path, converter, options)
        network = with_task(network_of(vit), told)
        return Imported(with_options(network, options), "by name: keras-hub")


@contextmanager
def _weights(path: Path, family: _Family) -> Iterator[tuple[Tensors, Tensors]]:
    """The weights of the backbone and of the head, none of which may be left over."""
    with ExitStack() as stack:
        if path.is_dir():
            refuse_links_out(path)
            files = (path / "model.weights.h5", path / "task.weights.h5")
            roots = [stack.enter_context(open_hdf5(str(file), file)) for file in files]
            views = roots[0].below("layers/"), roots[1].below("layers/")
        else:
            roots = [stack.enter_context(open_archived_weights(path))]
            views = (
                roots[0].below(f"layers/{family.prefix}_backbone/layers/"),
                roots[0].below("layers/"),
            )
        yield views
        for root in roots:
            root.ignore(*(name for name in root.names if name.startswith("optimizer/")))
            root.refuse_leftovers()


def _converter(path: Path, config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The config of the image converter, empty when the model has none."""
    if path.is_dir():
        converter = read_json(path / _CONVERTER) if (path / _CONVERTER).is_file() else {}
    else:
        preprocessor = mapping({"preprocessor": config.get("preprocessor") or {}}, "preprocessor")
        inner = mapping({"config": {}, **preprocessor}, "config")
        converter = mapping({"converter": inner.get("image_converter") or {}}, "converter")
    return mapping({"config": {}, **converter}, "config")


def _check_resize(path: Path, converter: Mapping[str, Any], options: ImportOptions) -> None:
    """Refuses or says what vitedge's resize does otherwise.

    Raises:
        ModelError: The converter pads, and no option says what to do instead.
    """
    if options.resize is not None or not converter:
        return
    if converter.get("pad_to_aspect_ratio"):
        raise ModelError(
            f"the image converter of '{path}' says pad_to_aspect_ratio, and vitedge does not pad "
            "images: say with --resize how they come to their size (0 stretches them)"
        )
    if not converter.get("antialias") and converter.get("interpolation") != "nearest":
        options.warn(
            f"the image converter of '{path}' resizes without antialias, and vitedge with it: "
            "their pixels differ in photos that shrink"
        )


def _vit(
    backbone: Tensors,
    head: Tensors,
    family: _Family,
    config: Mapping[str, Any],
    converter: Mapping[str, Any],
) -> PlainViT:
    sizes = mapping(mapping(config, "backbone"), "config")
    eps = number(sizes, "layer_norm_epsilon")
    height, width, channels = wholes(sizes, "image_shape", least=1)
    demand_channels(channels)
    heads, dim = whole(sizes, "num_heads", least=1), whole(sizes, "hidden_dim", least=1)
    encoder = backbone.below(f"{family.prefix}_encoder/")
    embedding = backbone.below(f"{family.prefix}_{family.embedding}/")
    prefix, positions = _tokens(embedding, family)
    patch_height, patch_width = wholes(sizes, "patch_size", least=1)
    hidden = (_dense(head, "dense"),) if config.get("intermediate_dim") else ()
    pooling = {"token": Pooling.CLASS, "gap": Pooling.MEAN}[text(config, "pooling")]
    vit_config = ViTConfig(
        image_size=(height, width),
        patch_size=(patch_height, patch_width),
        channels=channels,
        dim=dim,
        depth=whole(sizes, "num_layers", least=1),
        heads=heads,
        head_dim=width_of_heads(dim, heads),
        mlp_dim=whole(sizes, family.mlp_dim, least=1),
        classes=whole(config, "num_classes", least=1),
        prefix_tokens=len(prefix),
        pooling=pooling,
        attention_scale=width_of_heads(dim, heads) ** -0.5,
    )
    linears = [*hidden, _dense(head, "dense_1" if hidden else "dense")]
    if len(positions) != vit_config.patches:
        raise ValueError(f"{len(positions)} positions for {vit_config.patches} patches")
    if pooling is Pooling.MEAN and len(prefix):
        vit_config = replace(vit_config, pooling=Pooling.FLATTEN)
        linears[0] = _mean_of_all(linears[0], vit_config.tokens)
    return PlainViT(
        config=vit_config,
        patch=_dense(embedding, "patch_embedding", input_axes=3),
        prefix=prefix,
        positions=positions,
        blocks=tuple(
            _block(encoder.below(f"encoder_layers/{_numbered(family, index)}/"), family, eps)
            for index in range(vit_config.depth)
        ),
        norm=_norm(encoder, "layer_norm", eps),
        head_hidden=tuple(linears[:-1]),
        head=linears[-1],
        preprocessing=_preprocessing(converter, family, (height, width), channels),
    )


def _tokens(embedding: Tensors, family: _Family) -> tuple[Array, Array]:
    """Prefix, with its positions added, and the positions of the patches."""
    if family.prefix == "dei_t":
        learned = np.concatenate([rows(embedding, "vars/0"), rows(embedding, "vars/1")])
        positions = rows(embedding, "vars/2")
    else:
        positions = rows(embedding, "position_embedding/vars/0")
        has_class_token = "vars/0" in embedding
        learned = rows(embedding, "vars/0") if has_class_token else np.zeros_like(positions[:0])
    count = len(learned)
    return learned + positions[:count], np.ascontiguousarray(positions[count:])


def _numbered(family: _Family, index: int) -> str:
    """Keras numbers the members of a list by class, the first without a number."""
    name = f"{family.prefix}_encoder_block"
    return f"{name}_{index}" if index else name


def _block(tensors: Tensors, family: _Family, eps: float) -> Block:
    return Block(
        norm1=_norm(tensors, "layer_norm_1", eps),
        q=_dense(tensors, "mha/query_dense"),
        k=_dense(tensors, "mha/key_dense"),
        v=_dense(tensors, "mha/value_dense"),
        out=_dense(tensors, "mha/output_dense", input_axes=2),
        norm2=_norm(tensors, "layer_norm_2", eps),
        fc1=_dense(tensors, family.fc1),
        fc2=_dense(tensors, family.fc2),
    )


def _dense(tensors: Tensors, name: str, input_axes: int = 1) -> Linear:
    return folded_linear(tensors[f"{name}/vars/0"], tensors.get(f"{name}/vars/1"), input_axes)


def _norm(tensors: Tensors, name: str, eps: float) -> Norm:
    return Norm(tensors[f"{name}/vars/0"], tensors[f"{name}/vars/1"], eps)


def _mean_of_all(layer: Linear, tokens: int) -> Linear:
    """A layer on the mean of all tokens, class token and all, as one on the tokens themselves."""
    return replace(layer, weight=np.tile(layer.weight / np.float32(tokens), (tokens, 1)))


def _preprocessing(
    converter: Mapping[str, Any], family: _Family, size: tuple[int, int], channels: int
) -> Preprocessing:
    more = (_HALF[0],) * (channels - len(family.mean))
    mean, std = (family.mean + more)[:channels], (family.std + more)[:channels]
    if converter.get("scale") is not None:
        scale = _per_channel(converter, "scale", channels)
        offset = _per_channel({"offset": 0.0, **converter}, "offset", channels)
        if not scale.all():
            raise ValueError("'scale' holds zero")
        # x * scale + offset = (x / 255 - mean) / std; the rounding of 1 / 255 is taken back.
        std = tuple(round(float(value), 12) for value in 1 / (255 * scale))
        mean = tuple(round(float(value), 12) for value in -offset / (255 * scale))
    cropped = converter.get("crop_to_aspect_ratio", True)
    return Preprocessing(
        size=size,
        channels=channels,
        resize=max(size) if cropped else None,
        interpolation=Interpolation(converter.get("interpolation", "bilinear")),
        mean=mean,
        std=std,
    )


def _per_channel(values: Mapping[str, Any], key: str, channels: int) -> npt.NDArray[np.float64]:
    """A number, or one for each channel in lists that may be nested as for broadcasting."""
    value = values[key] or 0.0
    while isinstance(value, list) and len(value) == 1:
        value = value[0]
    of_all = numbers({key: value if isinstance(value, list) else [value]}, key)
    return np.broadcast_to(np.asarray(of_all, np.float64), channels)


PLUGIN = KerasHubImporter()
