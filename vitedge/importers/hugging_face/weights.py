"""The weights of a folder of transformers, in one file or in shards."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from vitedge.importers import ImportOptions
from vitedge.importers.reading.safetensors_file import open_sharded
from vitedge.importers.reading.state_dict import in_checkpoint, open_checkpoint
from vitedge.importers.reading.tensors import Tensors

_WEIGHTS, _INDEX, _OLD_WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
)


def has_weights(folder: Path) -> bool:
    """Whether weights lie in a folder."""
    return any((folder / name).is_file() for name in (_WEIGHTS, _INDEX, _OLD_WEIGHTS))


@contextmanager
def open_weights(
    folder: Path, marks: Sequence[str], options: ImportOptions
) -> Iterator[tuple[Tensors, str]]:
    """The weights, and what of them was chosen, in words.

    Args:
        folder: Where they lie.
        marks: Names of weights that such models have, of which the first that is there tells
            theirs; the last one where none is.
        options: What the user says.

    Raises:
        ModelError: They are missing or damaged.
    """
    if not (folder / _WEIGHTS).is_file() and (folder / _INDEX).is_file():
        with open_sharded(folder / _INDEX) as tensors:
            yield (tensors if options.adapter is None else options.adapter.merged(tensors)), ""
        return
    path = folder / (_WEIGHTS if (folder / _WEIGHTS).is_file() else _OLD_WEIGHTS)
    mark = next((each for each in marks if in_checkpoint(path, [each])), marks[-1])
    with open_checkpoint(path, [mark], options) as opened:
        yield opened.tensors, opened.words
