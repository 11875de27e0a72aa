"""Models over patches of Hugging Face's transformers, as folders.

ViT, DeiT, DINOv2 (with registers, with SwiGLU), DINOv3, CLIP, SigLIP, SigLIP 2, BEiT, Data2Vec,
MAE, MSN, I-JEPA, Swin and SwinV2, with a classifier or without, Depth Anything, SegFormer
and YOLOS; see ``hugging_face/families.py``.
Everything is told by ``config.json`` and ``preprocessor_config.json``; nothing is guessed. Labels
named ``LABEL_0``, ``LABEL_1``, ... count as none.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from vitedge.elements.trunk import tokens_of
from vitedge.errors import ModelError, NotAViTError
from vitedge.files.json_values import mapping, shown, text, whole
from vitedge.images.preprocess import IMAGENET_MEAN, Preprocessing
from vitedge.importers import Imported, ImportOptions
from vitedge.importers.hugging_face import depth_anything, segformer, swin, yolos
from vitedge.importers.hugging_face.endings import outputs_of
from vitedge.importers.hugging_face.families import FAMILIES, Family
from vitedge.importers.hugging_face.trunk import pair, read_trunk
from vitedge.importers.hugging_face.weights import has_weights, open_weights
from vitedge.importers.layers import usual_statistics
from vitedge.importers.lift.ending import unknown_task
from vitedge.importers.overrides import with_options
from vitedge.importers.processor import DEFAULT_PROCESSORS, read_processor
from vitedge.importers.processor_classes import class_of, completed
from vitedge.importers.reading.json_file import peek_json, read_json
from vitedge.importers.reading.tensors import Tensors
from vitedge.network.network import Builder, Network, with_task
from vitedge.network.tasks import Task

_CONFIG, _PROCESSOR = "config.json", "preprocessor_config.json"
_PROCESSORS = "processor_config.json"
"""Where newer versions of transformers keep the image processor of a model of images and text."""

_HEAD = "classifier"

_PROBLEMS = {
    "single_label_classification": Task.CLASSES,
    "multi_label_classification": Task.LABELS,
    "regression": Task.NUMBERS,
}


class HuggingFaceImporter:
    """Reads a folder, or one of the files in it."""

    name = "hugging-face"
    rank = 0

    def recognizes(self, path: Path) -> bool:
        """A ``config.json`` of one of these models beside weights."""
        folder = _folder_of(path)
        kind = peek_json(folder / _CONFIG).get("model_type")
        known = isinstance(kind, str) and kind in FAMILIES
        return known and has_weights(folder)

    def read(self, path: Path, options: ImportOptions) -> Imported:
        """Reads the folder; every one of its weights must find its place."""
        folder = _folder_of(path)
        config = read_json(folder / _CONFIG)
        _refuse_quantized(folder, config)
        _refuse_backbone(folder, config)
        told = options.task or _task(f"'{folder / _CONFIG}'", config.get("problem_type"))
        try:
            if text(config, "model_type") == depth_anything.KIND:
                depth_anything.refuse_other_backbone(_vision_values(config))
            with open_weights(folder, _marks(config), options, head=_HEAD) as (stored, words):
                tensors = _as_named(stored, text(config, "model_type"))
                network = _network(tensors, folder, config, options)
                tensors.refuse_leftovers(_HEAD)
        except (ArithmeticError, LookupError, TypeError, ValueError, AttributeError) as error:
            raise ModelError(f"'{folder / _CONFIG}' and the weights do not fit: {error}") from error
        if network.task is Task.CLASSES:
            network = with_task(network, told)
        return Imported(with_options(network, options), f"by name: hugging-face{words}")


def _folder_of(path: Path) -> Path:
    return path.parent if path.is_file() else path


def _task(what: str, problem: object) -> Task:
    """The task that ``problem_type`` names."""
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


def _refuse_backbone(folder: Path, config: Mapping[str, Any]) -> None:
    """Refuses classes that give maps of features, not an embedding, of the same weights."""
    named = config.get("architectures")
    backbones = [
        each
        for each in (named if isinstance(named, list) else ())
        if isinstance(each, str) and each.endswith("Backbone")
    ]
    if backbones:
        raise NotAViTError(
            f"'{folder}' is a {backbones[0]}, whose outputs are feature maps of several blocks: "
            "export it to .onnx, or give the folder of the whole model"
        )


def _marks(config: Mapping[str, Any]) -> list[str]:
    """Names of weights that tell a model of its kind."""
    family = FAMILIES[text(config, "model_type")]
    return [f"{prefix}{family.names.patch}.weight" for prefix in (*family.prefixes, "")]


def _preprocessing(
    folder: Path, config: Mapping[str, Any], values: Mapping[str, Any], options: ImportOptions
) -> Preprocessing:
    """The preprocessing of the folder's processor, at the size of its crop.

    Args:
        folder: The folder of its config.
        config: The config of the model.
        values: The config of its part for images.
        options: The user's options.

    Raises:
        ModelError: There is none, and none is usual.
    """
    kind = text(config, "model_type")
    channels = whole(values, "num_channels", least=1)
    processor, family = DEFAULT_PROCESSORS.get(kind, {}), FAMILIES[kind]
    told = _processor_of(folder)
    square = {}
    if "num_patches" in values:
        height, width = pair(values["image_size"])
        square = {"size": {"height": height, "width": width}}
    if told is not None:
        name = class_of(told, kind)
        fields = {**square, **completed(told, name)}
        return read_processor(
            fields, channels, class_name=name, resize=options.resize, warn=options.warn
        )
    processor = {**processor, **square}
    if not processor:
        raise ModelError(f"beside '{folder / _CONFIG}' lies no {_PROCESSOR}, which is needed")
    mean, std = usual_statistics(channels)
    if channels != len(IMAGENET_MEAN):
        processor = {**processor, "image_mean": list(mean), "image_std": list(std)}
    usual = read_processor(processor, channels)
    size = pair(values.get("image_size", list(usual.size)))
    if family.moves or usual.size == size:
        return usual
    # The published processor's ratio of resize to crop, at the size that the model takes.
    return usual.at_size(size)


def _processor_of(folder: Path) -> Mapping[str, Any] | None:
    if (folder / _PROCESSOR).is_file():
        return read_json(folder / _PROCESSOR)
    if (folder / _PROCESSORS).is_file():
        return mapping(read_json(folder / _PROCESSORS), "image_processor")
    return None


def _network(
    tensors: Tensors, folder: Path, config: Mapping[str, Any], options: ImportOptions
) -> Network:
    """The network; its positions are moved to the processor's size where transformers does so."""
    kind, values = text(config, "model_type"), _vision_values(config)
    family = FAMILIES[kind]
    prefix = _prefix_of(family, tensors.names)
    preprocessing = _preprocessing(folder, config, values, options)
    preprocessing = _at_model_size(preprocessing, values, family, options)
    net = Builder()
    if kind == segformer.KIND:
        outputs = segformer.segformer_outputs(net, tensors, prefix, values, preprocessing, options)
    elif kind in swin.KINDS:
        outputs = swin.swin_outputs(net, tensors, values, preprocessing, options)
    elif kind == yolos.KIND:
        body = tensors.below(prefix)
        outputs = yolos.yolos_outputs(net, tensors, body, values, family, preprocessing)
    else:
        _ignore(tensors, family, prefix)
        body = tensors.below(prefix)
        trunk = read_trunk(body, values, family, preprocessing.size)
        if kind == depth_anything.KIND:
            outputs = depth_anything.depth_outputs(
                net, trunk, tensors, config, values, preprocessing
            )
            return net.network(outputs, preprocessing, task=Task.MAP)
        x = tokens_of(net, trunk, preprocessing)
        outputs = outputs_of(net, x, tensors, body, values, kind, options, len(trunk.prefix))
    if "embedding" in outputs:
        return net.network(outputs, preprocessing, task=Task.EMBEDDING)
    task = Task.MAP if "map" in outputs else Task.CLASSES
    network = net.network(outputs, preprocessing, task=task)
    return replace(network, labels=_labels(config, network.main.shape[-1], options))


def _vision_values(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The config of the part for images; a model of images alone is that part itself."""
    family = FAMILIES[text(config, "model_type")]
    part = next((name for name in ("vision_config", "backbone_config") if config.get(name)), None)
    values = config if part is None else mapping(config, part)
    values = {**family.defaults, **values}
    if "image_size" not in values and "num_patches" in values:
        # SigLIP 2 takes any grid of patches; a graph has one, the square of its positions.
        side = math.isqrt(whole(values, "num_patches", least=1))
        values["image_size"] = [side * each for each in pair(values["patch_size"])]
    return values


def _prefix_of(family: Family, names: Collection[str]) -> str:
    """The prefix of the body's names."""
    wanted = f"{family.names.patch}.weight"
    found = (prefix for prefix in (*family.prefixes, "") if f"{prefix}{wanted}" in names)
    return next(found, family.prefixes[0])


def _as_named(stored: Tensors, kind: str) -> Tensors:
    """The weights by the names that the family has; some versions of transformers write others."""
    family = FAMILIES[kind]
    if kind in swin.KINDS:
        return swin.as_timm_names(stored, _prefix_of(family, stored.names))
    if not family.renamed or not _prefix_of(family, stored.names):
        return stored  # of a trunk alone, whose names have no prefix anyway
    old, new = family.renamed
    places = {
        new + name.removeprefix(old) if name.startswith(old) else name: name
        for name in stored.names
    }
    return stored.renamed(places)


def _ignore(tensors: Tensors, family: Family, prefix: str) -> None:
    """Counts as taken what takes no part in the outputs."""
    for name in tensors.names:
        bare = name.removeprefix(prefix)
        if any(bare == each or bare.startswith(f"{each}.") for each in family.ignored):
            tensors.ignore(name)


def _at_model_size(
    preprocessing: Preprocessing,
    values: Mapping[str, Any],
    family: Family,
    options: ImportOptions,
) -> Preprocessing:
    """The preprocessing at the size that the trunk is read for.

    Raises:
        ModelError: The processor makes images of another size than the model takes.
    """
    wanted = options.image_size
    if wanted is not None:
        return preprocessing.at_size(wanted)
    if "image_size" not in values and family.resizable:
        return preprocessing
    size = pair(values["image_size"])
    if family.rotary or family.moves or preprocessing.size == size:
        return preprocessing
    raise ModelError(
        f"{_PROCESSOR} makes images of {_by(preprocessing.size)} pixels, and the model of "
        f"{_CONFIG} takes {_by(size)}: say with --image-size which it shall be"
    )


def _labels(values: Mapping[str, Any], classes: int, options: ImportOptions) -> tuple[str, ...]:
    names = mapping({"id2label": {}, **values}, "id2label")
    labels = tuple(text(names, key) for key in sorted(names, key=int))
    unnamed = tuple(f"LABEL_{index}" for index in range(len(labels)))
    # An adapter, or a head that the user names, has classes of its own, unlike the config's.
    is_replaced = options.adapter is not None or options.head is not None
    of_base = is_replaced and len(labels) != classes
    return () if labels == unnamed or of_base else labels


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


PLUGIN = HuggingFaceImporter()
