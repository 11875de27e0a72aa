"""Swin and SwinV2 of timm, and the authors' own files, which have the same names.

Tables of position biases tell the windows of Swin; those of SwinV2 are told by the architecture,
in a hub folder's ``config.json`` or by the user. Swin's last stage is one window if the size
of its images is not given.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from vitedge.elements.heads import classified
from vitedge.errors import ModelError, NotAViTError
from vitedge.files.json_values import shown, whole
from vitedge.importers import Imported, ImportOptions
from vitedge.importers.layers import torch_head, torch_patch_shape
from vitedge.importers.overrides import with_options
from vitedge.importers.reading.state_dict import in_checkpoint, open_checkpoint
from vitedge.importers.reading.tensors import Tensors, count
from vitedge.importers.swin import PATCH, TABLE, Windows, read_swin
from vitedge.importers.timm.published import (
    arguments_of,
    image_size_of,
    labels_of,
    pooling_of,
    preprocessing_of,
    published_beside,
    weights_of,
)
from vitedge.network.network import Builder, Network
from vitedge.network.tasks import Task

_MARKS = {f"{PATCH}.weight", "layers.0.blocks.0.norm1.weight"}
_HEAD = "head.fc"
_BUFFERS = re.compile(
    r"layers\.\d+\.blocks\.\d+\."
    r"(attn_mask|attn\.(relative_position_index|k_bias))"
)
_ARGUMENTS = {
    "window_size": "window",
    "pretrained_window_sizes": "pretrained",
    "embed_dim": "dim",
    "depths": "depths",
}
"""What arguments of a model's class the table of architectures says otherwise, by its facts."""

_TOLD_BY_WEIGHTS = frozenset(
    (
        *("img_size", "patch_size", "in_chans", "num_classes", "global_pool", "num_heads"),
        *("mlp_ratio", "qkv_bias", "strict_img_size", "weight_init", "drop_rate"),
        *("proj_drop_rate", "attn_drop_rate", "drop_path_rate"),
    )
)


class TimmSwinImporter:
    """Reads a ``.safetensors`` or ``.pth`` file, or a folder of timm's on the Hugging Face hub."""

    name = "timm-swin"
    rank = 0

    def recognizes(self, path: Path) -> bool:
        """Weights under Swin's names."""
        return in_checkpoint(weights_of(path), _MARKS)

    def read(self, path: Path, options: ImportOptions) -> Imported:
        """Reads the weights; every one of them must find its place."""
        weights = weights_of(path)
        with open_checkpoint(weights, _MARKS, options, head=_HEAD) as opened:
            try:
                tensors = _of_today(opened.tensors)
                network = _network(tensors, options, published_beside(weights))
            except (ArithmeticError, LookupError, TypeError, ValueError) as error:
                raise ModelError(f"the weights of '{path}' do not fit: {error}") from error
            tensors.refuse_leftovers(_HEAD)
        return Imported(with_options(network, options), opened.read("timm-swin"))


def _of_today(stored: Tensors) -> Tensors:
    """The weights as timm files them since 0.9: a stage begins with the merging before it."""
    stored.ignore(*(name for name in stored.names if _BUFFERS.fullmatch(name)))
    if "layers.0.downsample.norm.weight" not in stored:
        return stored
    places = {
        re.sub(r"^layers\.(\d+)\.downsample", lambda found: _next(found[1]), name): name
        for name in stored.names
        if not _BUFFERS.fullmatch(name)
    }
    return stored.renamed(places)


def _next(stage: str) -> str:
    return f"layers.{int(stage) + 1}.downsample"


def _network(tensors: Tensors, options: ImportOptions, published: Mapping[str, Any]) -> Network:
    channels, patch = torch_patch_shape(tensors, PATCH)
    arguments = arguments_of(published)
    told = _facts(tensors, options, published, arguments)
    _refuse_other_pooling(tensors, published)
    size = options.image_size or image_size_of(published) or _image_size(tensors, told, patch)
    preprocessing = preprocessing_of(published, size, channels, options)
    windows = Windows(told.get("window"), tuple(told.get("pretrained", ())))
    net = Builder()
    x = read_swin(net, tensors, windows, preprocessing)
    name = "head.fc" if "head.fc.weight" in tensors else "head"
    if not any(each.startswith("head.") for each in tensors.names):
        return net.network({"embedding": x}, preprocessing, task=Task.EMBEDDING)
    head = torch_head(tensors, name, options)
    logits = classified(net, x, head.last, head.hidden, head.activation)
    network = net.network({"logits": logits}, preprocessing)
    return replace(network, labels=labels_of(published, network.classes))


def _refuse_other_pooling(tensors: Tensors, published: Mapping[str, Any]) -> None:
    pool = pooling_of(published)
    if pool not in (None, "avg"):
        does = f"pools its tokens by '{pool}'" if pool else "gives all its tokens"
        raise NotAViTError(
            f"'{tensors.source}' {does} (its 'global_pool' is '{pool}'), and vitedge reads a Swin "
            "that averages them by name: export it to .onnx"
        )


def _facts(
    tensors: Tensors,
    options: ImportOptions,
    published: Mapping[str, Any],
    arguments: Mapping[str, Any],
) -> Mapping[str, Any]:
    """The table's facts about the architecture; empty if none is given.

    Raises:
        ModelError: The weights are not of that architecture, or it was made with arguments whose
            meaning is not known.
    """
    named = str(options.architecture or published.get("architecture")).partition(".")[0]
    found = dict(_table().get(named, {}))
    if options.architecture is not None and not found:
        raise ModelError(
            f"--architecture '{options.architecture}' is not a Swin of timm that vitedge knows"
        )
    unknown = sorted(arguments.keys() - _ARGUMENTS.keys() - _TOLD_BY_WEIGHTS)
    if unknown:
        raise ModelError(
            f"the config.json beside '{tensors.source}' gives its model '{unknown[0]}', which "
            "vitedge does not know: export the model to .onnx"
        )
    found |= {fact: arguments[name] for name, fact in _ARGUMENTS.items() if name in arguments}
    if not found:
        return {}
    for fact, stored in _found_in(tensors).items():
        if found.get(fact, stored) != stored:
            raise ModelError(
                f"the weights of '{tensors.source}' are not of timm's '{named}', whose {fact} is "
                f"{found[fact]}, not {stored}; a variant needs its config.json beside it, as timm "
                "writes it"
            )
    return {**found, "window": _side(found.get("window"), tensors)}


def _found_in(tensors: Tensors) -> dict[str, Any]:
    """The facts that the weights tell, too."""
    stages = range(count(tensors, "layers.{}.blocks.0.norm1.weight"))
    return {
        "version": 2 if "layers.0.blocks.0.attn.logit_scale" in tensors else 1,
        "dim": tensors.shape(f"{PATCH}.weight")[0],
        "depths": [count(tensors, f"layers.{each}.blocks.{{}}.norm1.weight") for each in stages],
    }


def _side(window: Any, tensors: Tensors) -> int | None:
    """Rows of a window, which are as many as its columns; tables tell those of Swin.

    Args:
        window: A number, two for rows and columns, or for each of more stages one of these.
        tensors: The weights.

    Raises:
        NotAViTError: A window has more rows than columns, or fewer.
    """
    pairs = window if isinstance(window, list) and len(window) != 2 else [window]
    oblong = next((each for each in pairs if isinstance(each, list) and len(set(each)) > 1), None)
    if oblong is not None:
        raise NotAViTError(
            f"'{tensors.source}' has windows of {' x '.join(map(str, oblong))} tokens, and vitedge "
            "reads square ones by name: export the model to .onnx"
        )
    if window is None or f"layers.0.blocks.0.{TABLE}" in tensors:
        return None
    sides = {each[0] if isinstance(each, list) else each for each in pairs}
    if len(sides) != 1:
        raise NotAViTError(
            f"'{tensors.source}' says 'window_size' {shown(window)}, and vitedge reads a SwinV2 "
            "with windows of one size by name: export the model to .onnx"
        )
    return whole({"window_size": sides.pop()}, "window_size", least=1)


def _image_size(
    tensors: Tensors, told: Mapping[str, Any], patch: tuple[int, int]
) -> tuple[int, int]:
    if "image" in told:
        height, width = told["image"]
        return height, width
    stages = count(tensors, "layers.{}.blocks.0.norm1.weight")
    table = f"layers.{stages - 1}.blocks.0.{TABLE}"
    if table not in tensors:
        raise ModelError(
            f"the weights of '{tensors.source}' do not tell the size of its windows: give "
            "--architecture, such as swinv2_tiny_window8_256"
        )
    side = (round(tensors.shape(table)[0] ** 0.5) + 1) // 2 << stages - 1
    return side * patch[0], side * patch[1]


@cache
def _table() -> Mapping[str, Mapping[str, Any]]:
    text = files("vitedge.importers.timm").joinpath("swin.json").read_text("utf-8")
    models: Mapping[str, Mapping[str, Any]] = json.loads(text)["models"]
    return models


PLUGIN = TimmSwinImporter()
