"""ViT, DeiT and DINOv2 classifiers of Hugging Face's transformers, as folders.

Everything is told by ``config.json`` and ``preprocessor_config.json``; nothing is guessed. Two
things are read otherwise than written: an image processor that first stretches an image to a
square and then crops it (DeiT's) becomes the resize of the shorter side that the authors publish,
and labels named ``LABEL_0``, ``LABEL_1``, ... count as none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from vitedge.elements.kinds import Pooling
from vitedge.elements.plain_vit import Block, PlainViT, ViTConfig
from vitedge.elements.vision_transformer import network_of
from vitedge.errors import ModelError, NotAViTError
from vitedge.files.json_values import mapping, number, shown, text, whole
from vitedge.images.preprocess import IMAGENET_MEAN, Preprocessing
from vitedge.importers import Imported, ImportOptions
from vitedge.importers.layers import (
    Head,
    averaged_heads,
    rows,
    scaled_outputs,
    torch_head,
    torch_linear,
    torch_norm,
    torch_patch,
    usual_statistics,
    width_of_heads,
)
from vitedge.importers.lift.ending import unknown_task
from vitedge.importers.overrides import with_options
from vitedge.importers.positions import Resampling, interpolate_positions
from vitedge.importers.processor import DEFAULT_PROCESSORS, read_processor
from vitedge.importers.reading.json_file import peek_json, read_json
from vitedge.importers.reading.safetensors_file import open_sharded
from vitedge.importers.reading.state_dict import open_checkpoint
from vitedge.importers.reading.tensors import Tensors
from vitedge.network.kinds import Activation
from vitedge.network.network import with_task
from vitedge.network.operators import Array
from vitedge.network.tasks import Task

_CONFIG, _PROCESSOR = "config.json", "preprocessor_config.json"
_WEIGHTS, _INDEX, _OLD_WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
)
_ACTIVATIONS = {
    "gelu": Activation.GELU,
    "gelu_new": Activation.GELU_TANH,
    "gelu_fast": Activation.GELU_TANH,
    "gelu_pytorch_tanh": Activation.GELU_TANH,
    "quick_gelu": Activation.QUICK_GELU,
    "relu": Activation.RELU,
    "silu": Activation.SILU,
    "swish": Activation.SILU,
}


@dataclass(frozen=True)
class _Names:
    """What the parts of a block are called, in a family of models."""

    norm1: str
    norm2: str
    fc1: str
    fc2: str


_VIT_NAMES = _Names("layernorm_before", "layernorm_after", "intermediate.dense", "output.dense")
_DINO_NAMES = _Names("norm1", "norm2", "mlp.fc1", "mlp.fc2")
_NAMES = {
    "vit": _VIT_NAMES,
    "deit": _VIT_NAMES,
    "dinov2": _DINO_NAMES,
    "dinov2_with_registers": _DINO_NAMES,
}
# DINOv2 learned its positions at 518 pixels and interpolates them, while it runs, to the crop that
# its processor makes. transformers calls torch differently in the two classes.
_INTERPOLATING = {
    "dinov2": Resampling.BICUBIC,
    "dinov2_with_registers": Resampling.ANTIALIASED,
}
_PROBLEMS = {
    "single_label_classification": Task.CLASSES,
    "multi_label_classification": Task.LABELS,
    "regression": Task.NUMBERS,
}
_PREFIX_TOKENS = ("cls_token", "distillation_token", "register_tokens")


class HuggingFaceImporter:
    """Reads a folder, or one of the files in it."""

    name = "hugging-face"
    rank = 0

    def recognizes(self, path: Path) -> bool:
        """A ``config.json`` of one of these models beside weights."""
        folder = _folder_of(path)
        kind = peek_json(folder / _CONFIG).get("model_type")
        known = isinstance(kind, str) and kind in _NAMES
        return known and any((folder / name).is_file() for name in (_WEIGHTS, _INDEX, _OLD_WEIGHTS))

    def read(self, path: Path, options: ImportOptions) -> Imported:
        """Reads the folder; every one of its weights must find its place."""
        folder = _folder_of(path)
        config = read_json(folder / _CONFIG)
        _refuse_quantized(folder, config)
        told = options.task or _task(f"'{folder / _CONFIG}'", config.get("problem_type"))
        try:
            with _open_weights(folder, config, options) as (tensors, words):
                vit = _vit(tensors, config, _preprocessing(folder, config), options)
                tensors.refuse_leftovers()
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ModelError(f"'{folder / _CONFIG}' and the weights do not fit: {error}") from error
        network = with_task(network_of(vit), told)
        return Imported(with_options(network, options), f"by name: hugging-face{words}")


def _folder_of(path: Path) -> Path:
    return path.parent if path.is_file() else path


def _task(what: str, problem: object) -> Task:
    """What ``problem_type`` says of the outputs."""
    if problem is None:
        return Task.CLASSES
    if not isinstance(problem, str) or problem not in _PROBLEMS:
        raise unknown_task(
            what, f"says problem_type {shown(problem)}", Task.CLASSES, Task.LABELS, Task.NUMBERS
        )
    return _PROBLEMS[problem]


def _refuse_quantized(folder: Path, config: Mapping[str, Any]) -> None:
    quantization = config.get("quantization_config")
    if quantization:
        method = quantization.get("quant_method") if isinstance(quantization, dict) else None
        raise ModelError(
            f"the weights in '{folder}' are quantized already ({shown(method)}); give the float "
            "model that they were made of"
        )


@contextmanager
def _open_weights(
    folder: Path, config: Mapping[str, Any], options: ImportOptions
) -> Iterator[tuple[Tensors, str]]:
    """The weights, and what of them was chosen, in words."""
    if not (folder / _WEIGHTS).is_file() and (folder / _INDEX).is_file():
        with open_sharded(folder / _INDEX) as tensors:
            yield (tensors if options.adapter is None else options.adapter.merged(tensors)), ""
        return
    path = folder / (_WEIGHTS if (folder / _WEIGHTS).is_file() else _OLD_WEIGHTS)
    marks = (f"{text(config, 'model_type')}.embeddings.patch_embeddings.projection.weight",)
    with open_checkpoint(path, marks, options) as opened:
        yield opened.tensors, opened.words


def _preprocessing(folder: Path, config: Mapping[str, Any]) -> Preprocessing:
    """The preprocessing of the folder's processor, at the size of its crop."""
    kind = text(config, "model_type")
    channels = whole(config, "num_channels", least=1)
    processor = DEFAULT_PROCESSORS[kind]
    if (folder / _PROCESSOR).is_file():
        return read_processor({**processor, **read_json(folder / _PROCESSOR)}, channels)
    mean, std = usual_statistics(channels)
    if channels != len(IMAGENET_MEAN):
        processor = {**processor, "image_mean": list(mean), "image_std": list(std)}
    usual = read_processor(processor, channels)
    size = _pair(config["image_size"])
    if kind in _INTERPOLATING or usual.size == size:
        return usual
    # The published processor's ratio of resize to crop, at the size that the model takes.
    resize = None if usual.resize is None else round(usual.resize * max(size) / max(usual.size))
    return replace(usual, size=size, resize=resize)


def _vit(
    tensors: Tensors,
    values: Mapping[str, Any],
    preprocessing: Preprocessing,
    options: ImportOptions,
) -> PlainViT:
    kind = str(values["model_type"])
    if values.get("use_swiglu_ffn"):
        raise NotAViTError(f"'{tensors.source}' has gated MLPs (SwiGLU), which vitedge lacks")
    body = tensors.below(f"{kind}.")
    # What pre-training and the feature extractors leave behind.
    body.ignore("embeddings.mask_token", "pooler.dense.weight", "pooler.dense.bias")
    eps = number(values, "layer_norm_eps")
    depth = whole(values, "num_hidden_layers", least=1)
    blocks = tuple(
        _block(body.below(f"encoder.layer.{index}."), _NAMES[kind], eps) for index in range(depth)
    )
    prefix, positions = _tokens(body.below("embeddings."))
    head, pooling = _head(tensors, kind, options)
    config = _config(values, blocks[0], head, pooling, len(prefix))
    vit = PlainViT(
        config=config,
        patch=torch_patch(body, "embeddings.patch_embeddings.projection"),
        prefix=prefix,
        positions=positions,
        blocks=blocks,
        norm=torch_norm(body, "layernorm", eps),
        pooled_norm=head.norm,
        head_hidden=head.hidden,
        head=head.last,
        preprocessing=replace(preprocessing, size=config.image_size, resize=None),
        labels=_labels(values, config.classes, options),
    )
    if options.image_size is not None and kind not in _INTERPOLATING:
        return replace(
            vit, preprocessing=replace(vit.preprocessing, resize=_scaled(vit, preprocessing))
        )
    return _at_processor_size(vit, preprocessing, _INTERPOLATING.get(kind))


def _scaled(vit: PlainViT, preprocessing: Preprocessing) -> int | None:
    """The shorter side before the crop, at the size that the model was trained with."""
    if preprocessing.resize is None:
        return None
    return round(preprocessing.resize * max(vit.config.image_size) / max(preprocessing.size))


def _config(
    values: Mapping[str, Any], block: Block, head: Head, pooling: Pooling, prefix_tokens: int
) -> ViTConfig:
    activation = _ACTIVATIONS.get(text(values, "hidden_act"))
    if activation is None:
        raise NotAViTError(
            f"the activation {shown(values['hidden_act'])} is not one that vitedge has"
        )
    heads = whole(values, "num_attention_heads", least=1)
    dim = whole(values, "hidden_size", least=1)
    head_dim = width_of_heads(dim, heads)
    return ViTConfig(
        image_size=_pair(values["image_size"]),
        patch_size=_pair(values["patch_size"]),
        channels=whole(values, "num_channels", least=1),
        dim=dim,
        depth=whole(values, "num_hidden_layers", least=1),
        heads=heads,
        head_dim=head_dim,
        mlp_dim=block.fc1.weight.shape[1],
        classes=head.last.weight.shape[1],
        prefix_tokens=prefix_tokens,
        pooling=pooling,
        head_activation=head.activation,
        activation=activation,
        attention_scale=head_dim**-0.5,
    )


def _block(tensors: Tensors, names: _Names, eps: float) -> Block:
    out = torch_linear(tensors, "attention.output.dense")
    fc2 = torch_linear(tensors, names.fc2)
    if "layer_scale1.lambda1" in tensors:
        out = scaled_outputs(out, tensors["layer_scale1.lambda1"])
        fc2 = scaled_outputs(fc2, tensors["layer_scale2.lambda1"])
    return Block(
        norm1=torch_norm(tensors, names.norm1, eps),
        q=torch_linear(tensors, "attention.attention.query"),
        k=torch_linear(tensors, "attention.attention.key"),
        v=torch_linear(tensors, "attention.attention.value"),
        out=out,
        norm2=torch_norm(tensors, names.norm2, eps),
        fc1=torch_linear(tensors, names.fc1),
        fc2=fc2,
    )


def _tokens(embeddings: Tensors) -> tuple[Array, Array]:
    """Prefix and positions; registers, alone among the tokens, have no position."""
    tokens = [rows(embeddings, name) for name in _PREFIX_TOKENS if name in embeddings]
    positions = rows(embeddings, "position_embeddings")
    prefix = np.concatenate(tokens)
    placed = sum(name in embeddings for name in _PREFIX_TOKENS[:2])
    prefix[:placed] += positions[:placed]
    return prefix, np.ascontiguousarray(positions[placed:])


def _head(tensors: Tensors, kind: str, options: ImportOptions) -> tuple[Head, Pooling]:
    if "cls_classifier.weight" in tensors:
        heads = (
            torch_linear(tensors, name) for name in ("cls_classifier", "distillation_classifier")
        )
        return Head(averaged_heads(*heads)), Pooling.DISTILLED
    pooling = Pooling.CLASS_AND_MEAN if kind in _INTERPOLATING else Pooling.CLASS
    return torch_head(tensors, "classifier", options), pooling


def _at_processor_size(
    vit: PlainViT, preprocessing: Preprocessing, resampling: Resampling | None
) -> PlainViT:
    if preprocessing.size == vit.config.image_size:
        return replace(vit, preprocessing=preprocessing)
    if resampling is None:
        raise ModelError(
            f"{_PROCESSOR} makes images of {_by(preprocessing.size)} pixels, and the model of "
            f"{_CONFIG} takes {_by(vit.config.image_size)}: say with --image-size which it shall be"
        )
    config = replace(vit.config, image_size=preprocessing.size)
    positions = interpolate_positions(vit.positions, vit.config.grid, config.grid, resampling)
    return replace(vit, config=config, positions=positions, preprocessing=preprocessing)


def _labels(values: Mapping[str, Any], classes: int, options: ImportOptions) -> tuple[str, ...]:
    names = mapping({"id2label": {}, **values}, "id2label")
    labels = tuple(text(names, key) for key in sorted(names, key=int))
    unnamed = tuple(f"LABEL_{index}" for index in range(len(labels)))
    # An adapter brings a classifier of its own, and the base's names are not of its classes.
    of_base = options.adapter is not None and len(labels) != classes
    return () if labels == unnamed or of_base else labels


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


def _pair(value: Any) -> tuple[int, int]:
    height, width = value if isinstance(value, list) else (value, value)
    size = {"height": height, "width": width}
    return whole(size, "height", least=1), whole(size, "width", least=1)


PLUGIN = HuggingFaceImporter()
