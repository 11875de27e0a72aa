"""TFLite Metadata: what MediaPipe, the Task Library and Android Studio want to know of a file.

A flatbuffer of its own (``metadata_schema.fbs`` of MediaPipe and TFLite Support) in an entry of the
model's metadata, and the labels as a file of a ZIP archive behind the model: readers of flatbuffers
begin at the start of a file, those of archives at its end. No maintained package writes either.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias
from zipfile import ZIP_STORED, ZipFile, ZipInfo

import numpy as np

from vitedge.artifacts.metadata import Metadata
from vitedge.images.label_names import names_for_people
from vitedge.network.tasks import Task
from vitedge.targets.scores import Scores

ENTRY = "TFLITE_METADATA"
"""Name of the entry in the model's metadata."""

LABELS_FILE = "labels.txt"

_KINDS = {
    Task.CLASSES: "ImageClassifier",
    Task.BINARY: "ImageClassifier",
    Task.LABELS: "ImageClassifier",
    Task.NUMBERS: "ImageRegressor",
    Task.EMBEDDING: "ImageEmbedder",
    Task.MAP: "ImageMapper",
}
"""What a model calls itself; the first and the embedder's are MediaPipe's words."""

_SCORED = {
    Task.CLASSES: ("each class", "softmax"),
    Task.BINARY: ("yes", "sigmoid"),
    Task.LABELS: ("each label", "sigmoid"),
}
"""What scores are of, and what makes probabilities of logits."""

_IDENTIFIER = b"M001"

# Parsers of the first release know all that is used here.
_LEAST_PARSER = "1.0.0"

# Numbers of the schema's fields.
_NAME, _DESCRIPTION = 0, 1
_MODEL_VERSION, _MODEL_GRAPHS, _MODEL_PARSER = 2, 3, 7
_GRAPH_INPUTS, _GRAPH_OUTPUTS = 2, 3
_CONTENT, _PROCESS_UNITS, _STATS, _FILES = 3, 4, 5, 6
_FILE_TYPE = 2

# Members of its unions and enumerations.
_FEATURE_PROPERTIES, _IMAGE_PROPERTIES = 1, 2
_NORMALIZATION = 1
_RGB, _GREYSCALE = 1, 2
_AXIS_LABELS = 2

# The oldest date that an archive can name: what is written does not depend on the day.
_DATE = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class _Byte:
    """A number of one byte in a table."""

    value: int


@dataclass(frozen=True)
class _Number:
    """An unsigned number of four bytes in a table."""

    value: int


_Part: TypeAlias = "_Byte | _Number | str | tuple[float, ...] | list[_Table] | _Table"
_Table: TypeAlias = Mapping[int, _Part]


def client_metadata(metadata: Metadata, outputs: Iterable[str]) -> bytes:
    """The ``ModelMetadata`` flatbuffer of an artefact.

    Args:
        metadata: The metadata of the artefact.
        outputs: Names of its outputs, in order: ``logits`` or ``probabilities``, ``features``.
    """
    import flatbuffers

    table: _Table = {
        _NAME: _KINDS[metadata.task],
        _DESCRIPTION: f"{metadata.source.name}, {metadata.precision}, by vitedge",
        _MODEL_VERSION: metadata.source.sha256,
        _MODEL_GRAPHS: [
            {
                _GRAPH_INPUTS: [_image(metadata)],
                _GRAPH_OUTPUTS: [_output(metadata, name) for name in outputs],
            }
        ],
        _MODEL_PARSER: _LEAST_PARSER,
    }
    builder = flatbuffers.Builder(1024)
    builder.Finish(_written(builder, table), file_identifier=_IDENTIFIER)
    return bytes(builder.Output())


def label_lines(metadata: Metadata) -> tuple[str, ...]:
    """One line for each score, as ``labels.txt`` has them; empty if the classes have no names."""
    names = names_for_people(metadata.labels)
    if metadata.task is Task.BINARY:
        names = names[-1:]  # of yes, which the score is of
    return tuple(" ".join(name.split()) for name in names)


def append_labels(path: Path, metadata: Metadata) -> None:
    """Puts the archive with the labels behind a model; there is none where there are no labels."""
    if not metadata.labels:
        return
    text = "".join(f"{line}\n" for line in label_lines(metadata))
    with path.open("r+b") as stream:
        stream.seek(0, 2)
        # Readers map the file and take the label file as it lies there, so it is not compressed.
        with ZipFile(stream, "w", ZIP_STORED) as archive:
            archive.writestr(ZipInfo(LABELS_FILE, _DATE), text.encode())


def _image(metadata: Metadata) -> _Table:
    preprocessing = metadata.preprocessing
    height, width = preprocessing.size
    size: _Table = {0: _Number(width), 1: _Number(height)}
    colours = _RGB if preprocessing.channels == 3 else _GREYSCALE
    raw: _Table = {0: (0.0,), 1: (1.0,)}
    return {
        _NAME: "image",
        _DESCRIPTION: f"Raw pixels 0..255. {preprocessing.words}",
        _CONTENT: {0: _Byte(_IMAGE_PROPERTIES), 1: {0: _Byte(colours), 1: size}},
        # The network normalizes pixels itself; clients demand to be told of float inputs.
        _PROCESS_UNITS: [{0: _Byte(_NORMALIZATION), 1: raw}],
        _STATS: {0: (255.0,), 1: (0.0,)},
    }


def _output(metadata: Metadata, name: str) -> _Table:
    content: _Table = {0: _Byte(_FEATURE_PROPERTIES), 1: {}}
    if name == metadata.task.output and not metadata.task.has_logits:
        words = f"{metadata.task.words[0].upper()}{metadata.task.words[1:]}."
        return {_NAME: name, _DESCRIPTION: words, _CONTENT: content}
    if name not in set(Scores):
        return {_NAME: name, _DESCRIPTION: f"The model's {name}.", _CONTENT: content}
    probable = metadata.scores is Scores.PROBABILITIES
    what, function = _SCORED[metadata.task]
    words = f"Probability of {what}." if probable else f"Logit of {what}, before {function}."
    table: dict[int, _Part] = {_NAME: "score", _DESCRIPTION: words, _CONTENT: content}
    if probable:
        table[_STATS] = {0: (1.0,), 1: (0.0,)}
    if metadata.labels:
        file: _Table = {
            _NAME: LABELS_FILE,
            _DESCRIPTION: "One name a line, in the order of the scores.",
            _FILE_TYPE: _Byte(_AXIS_LABELS),
        }
        table[_FILES] = [file]
    return table


def _written(builder: Any, part: _Part) -> int:
    """Writes what a table refers to, and returns its offset."""
    if isinstance(part, str):
        return int(builder.CreateString(part))
    if isinstance(part, tuple):
        return int(builder.CreateNumpyVector(np.asarray(part, np.float32)))
    if isinstance(part, list):
        offsets = [_written(builder, each) for each in part]
        builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            builder.PrependUOffsetTRelative(offset)
        return int(builder.EndVector())
    assert isinstance(part, Mapping)
    referred = {
        field: _written(builder, value)
        for field, value in part.items()
        if not isinstance(value, _Byte | _Number)
    }
    builder.StartObject(max(part, default=-1) + 1)
    for field, value in part.items():
        if isinstance(value, _Byte):
            builder.PrependInt8Slot(field, value.value, 0)
        elif isinstance(value, _Number):
            builder.PrependUint32Slot(field, value.value, 0)
        else:
            builder.PrependUOffsetTRelativeSlot(field, referred[field], 0)
    return int(builder.EndObject())
