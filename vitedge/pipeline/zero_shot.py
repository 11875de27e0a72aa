"""Zero-shot labels: the embeddings of texts become a head of the image's model.

CLIP (arXiv:2103.00020) and SigLIP (arXiv:2303.15343) compare the directions of an image's embedding
and of each text's. The texts are known before the model is deployed, so their directions are the
columns of a linear layer, and no text model has to run on the device.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vitedge.errors import DataError, ModelError, UsageError
from vitedge.files.npz_arrays import read_arrays
from vitedge.importers import ImportOptions
from vitedge.importers.hugging_face.text_tower import embed_texts
from vitedge.network.kinds import NormKind
from vitedge.network.network import Network, Value
from vitedge.network.operators import Array, Linear, Norm
from vitedge.network.tasks import Task

_EMBEDDINGS, _SCALE, _BIAS = "embeddings", "scale", "bias"
_LENGTH_EPS = 1e-12
_SCALES = (
    "give --scale 100, as CLIP has it, or the exponential of your model's logit_scale, which is "
    "positive"
)
_NAME = "{}"
"""Where a template has the name of a class."""


@dataclass(frozen=True)
class TextLabels:
    """The texts that images are told by.

    Attributes:
        names: The name of each text.
        embeddings: Their directions, float32 ``(names, width)``, of length 1.
        scale: The factor of the cosine: ``exp`` of CLIP's ``logit_scale``, about 100.
        bias: The term that is added to the scaled cosine: SigLIP's ``logit_bias``.
    """

    names: tuple[str, ...]
    embeddings: Array
    scale: float
    bias: float = 0.0


def read_text_labels(
    path: Path, names: Sequence[str], *, scale: float | None = None, bias: float | None = None
) -> TextLabels:
    """Reads embeddings, and what goes with them, out of an ``.npz`` file.

    Args:
        path: The file; it holds ``embeddings`` ``(texts, width)`` and may hold the numbers
            ``scale`` and ``bias``.
        names: One for each text.
        scale: Instead of the file's.
        bias: Instead of the file's; 0 where neither says it.

    Raises:
        DataError: The file is missing or damaged, or lacks the embeddings.
        UsageError: There is no scale or another number of names, or one that makes no sense.
    """
    if not path.is_file():
        raise DataError(f"there is no file '{path}'")
    arrays = read_arrays(path, (_EMBEDDINGS, _SCALE, _BIAS))
    found = arrays.get(_EMBEDDINGS)
    if found is None or found.ndim != 2 or not np.issubdtype(found.dtype, np.floating):
        raise DataError(
            f"'{path}' holds no '{_EMBEDDINGS}' of floats, a row a text: save them with "
            f"numpy.savez(file, {_EMBEDDINGS}=..., {_SCALE}=...)"
        )
    if not np.isfinite(found).all() or not found.any(axis=1).all():
        raise DataError(f"an embedding of '{path}' is zero or not finite")
    _demand_names(names)
    if len(names) != len(found):
        raise UsageError(f"there are {len(names)} names for {len(found)} texts of '{path}'")
    if scale is None:
        scale = _number(path, arrays.get(_SCALE), _SCALE)
    if scale is None:
        raise UsageError(
            f"'{path}' holds no '{_SCALE}' that cosines are multiplied with: {_SCALES}"
        )
    if bias is None:
        bias = _number(path, arrays.get(_BIAS), _BIAS)
    return _text_labels(names, found, scale, bias or 0.0)


def text_labels_of(
    path: Path,
    names: Sequence[str],
    options: ImportOptions,
    *,
    templates: Sequence[str] = (),
    scale: float | None = None,
    bias: float | None = None,
) -> tuple[TextLabels, Task]:
    """Texts as labels by the model's own text tower, and what they are to images.

    Args:
        path: A folder of Hugging Face's CLIP, SigLIP or SigLIP 2, with both towers.
        names: The names of the labels.
        options: The user's options for the model.
        templates: Sentences that say a name where they have ``{}``; of several, the mean of their
            directions counts (CLIP, section 3.1.4). None says the names as they are.
        scale: Instead of the model's.
        bias: Instead of the model's.

    Raises:
        ModelError: There is no such text tower, or it is damaged.
        UsageError: A name is empty or there twice, a number makes no sense, a template has no place
            for a name, or a text is too long for the model.
        UnavailableError: The package for tokenizers is not installed.
    """
    _demand_names(names)
    said = tuple(templates) or (_NAME,)
    for template in said:
        if template.count(_NAME) != 1:
            raise UsageError(
                f"the template '{template}' needs one {_NAME} where the name of a class goes, as "
                "in 'a photo of a {}'"
            )
    texts = [template.replace(_NAME, name) for name in names for template in said]
    found = embed_texts(path, texts, options)
    directions = _directions(found.embeddings).reshape(len(names), len(said), -1)
    labels = _text_labels(
        names,
        directions.mean(axis=1),
        found.scale if scale is None else scale,
        found.bias if bias is None else bias,
    )
    return labels, found.task


def _text_labels(
    names: Sequence[str], embeddings: npt.NDArray[Any], scale: float, bias: float
) -> TextLabels:
    """Texts as labels, with numbers that make sense.

    Raises:
        UsageError: The scale is not positive, or one of the numbers is not finite.
    """
    if not math.isfinite(scale) or scale <= 0:
        raise UsageError(f"cosines cannot be multiplied with a scale of {scale:g}: {_SCALES}")
    if not math.isfinite(bias):
        raise UsageError(f"a bias of {bias:g} cannot be added: give --bias a number, such as 0")
    directions = _directions(embeddings).astype(np.float32)
    return TextLabels(tuple(names), directions, scale, bias)


def _directions(embeddings: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Embeddings ``(texts, width)`` of any length but 0, each divided by its length."""
    values = embeddings.astype(np.float64)
    values /= np.abs(values).max(axis=1, keepdims=True)  # its square may be too large, or 0
    unit: npt.NDArray[np.float64] = values / np.linalg.norm(values, axis=1, keepdims=True)
    return unit


def _demand_names(names: Sequence[str]) -> None:
    """Refuses names that nobody could tell apart."""
    twice = next((name for name in names if names.count(name) > 1), None)
    if not names or not all(names):
        raise UsageError('a class has no name: give each one, as in "a cat,a dog"')
    if twice is not None:
        raise UsageError(f"the class '{twice}' is there twice")


def _number(path: Path, array: object, name: str) -> float | None:
    if array is None:
        return None
    values = np.asarray(array)
    if values.size != 1 or not np.issubdtype(values.dtype, np.number):
        raise DataError(f"'{name}' of '{path}' is not a number")
    return float(values.reshape(()))


def with_text_labels(network: Network, texts: TextLabels, task: Task = Task.CLASSES) -> Network:
    """The network whose embedding is compared with that of each text.

    Args:
        network: A network that gives an embedding.
        texts: The texts that images are compared with.
        task: ``classes`` of which one is right, as CLIP was trained, or ``labels``, each right or
            not by itself, as SigLIP was.

    Raises:
        ModelError: The network gives no vector as wide as the texts' embeddings.
        UsageError: The task is another one, or there is one class alone.
    """
    if task not in (Task.CLASSES, Task.LABELS):
        raise UsageError(f"texts are classes or labels, not {task}")
    if task is Task.CLASSES and len(texts.names) < 2:
        raise UsageError(
            "one text is right for every image: give at least two, or say --as-labels, with which "
            "each is right or wrong by itself"
        )
    embedding = network.main
    if network.task is not Task.EMBEDDING or len(embedding.shape) != 1:
        raise ModelError(
            f"the model gives {network.task.words}, and texts are compared with a vector of the "
            "whole image: read it with --task embedding if that is what its output is"
        )
    (width,) = embedding.shape
    if texts.embeddings.shape[1] != width:
        raise ModelError(
            f"the embeddings of the texts are {texts.embeddings.shape[1]} wide, those of images "
            f"{width}: they are not of one model"
        )
    ones, zeros = np.ones(width, np.float32), np.zeros(width, np.float32)
    direction = Value("text/direction", Norm(ones, zeros, _LENGTH_EPS, NormKind.L2), (embedding,))
    weight = np.ascontiguousarray(texts.scale * texts.embeddings.T, np.float32)
    bias = np.full(len(texts.names), texts.bias, np.float32)
    head = Value("text", Linear(weight, bias), (direction,))
    return replace(
        network,
        values=(*network.values, direction, head),
        outputs={task.output: head},
        labels=texts.names,
        task=task,
    )
