"""Small networks and artefacts of every task."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from tests.support.models import random_network
from vitedge.artifacts.metadata import Metadata, Source
from vitedge.converters.tools import converter_for
from vitedge.network.network import Network, Value, with_task
from vitedge.network.operators import Linear, Reshape, Take
from vitedge.network.tasks import Task
from vitedge.quantize import Recipe
from vitedge.targets.formats import Format
from vitedge.targets.precisions import Precision

LABELS = {
    Task.CLASSES: ("cat", "dog", "owl", "newt", "crab"),
    Task.BINARY: ("no cat", "cat"),
    Task.LABELS: ("cat", "dog", "owl", "newt", "crab"),
    Task.NUMBERS: ("age", "weight", "height", "price", "time"),
}


def network_of_task(task: Task, *, seed: int = 0, channels: int = 1) -> Network:
    """A plain ViT of random weights whose output means that; of a map one number for a patch.

    Args:
        task: What it means.
        seed: Of the weights.
        channels: Numbers for each place of a map.
    """
    if task is Task.MAP:
        return _mapping(seed, channels)
    network = random_network(seed, classes=1 if task is Task.BINARY else 5, labels=())
    return replace(with_task(network, task), labels=LABELS.get(task, ()))


def _mapping(seed: int, channels: int) -> Network:
    base = random_network(seed, classes=5, labels=())
    tokens = next(each for each in base.values if each.name == "norm")
    values = list(base.values[: base.values.index(tokens) + 1])
    count, width = tokens.shape
    side = int((count - 1) ** 0.5)
    weight = np.random.default_rng(seed).normal(size=(width, channels)).astype(np.float32)
    patches = Value("map/patches", Take(0, tuple(range(count - side * side, count))), (tokens,))
    layer = Value("map/layer", Linear(weight, np.zeros(channels, np.float32)), (patches,))
    shape = (side, side) if channels == 1 else (side, side, channels)
    made = Value("map/placed", Reshape(shape), (layer,))
    return Network((*values, patches, layer, made), {"map": made}, base.preprocessing, (), Task.MAP)


def artifact_of(
    network: Network,
    folder: Path,
    target: Format = Format.ONNX,
    precision: Precision = Precision.FP32,
) -> Path:
    """A float artefact of a network."""
    path = folder / f"{network.task}{target.suffix}"
    draft = converter_for(target, precision).convert(network, Recipe(precision))
    source = Source("random.keras", "0" * 64, "a test")
    metadata = Metadata(
        target, precision, network.labels, network.preprocessing, source, task=network.task
    )
    draft.save(path, metadata)
    return path
