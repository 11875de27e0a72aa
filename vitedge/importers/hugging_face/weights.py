"""The weights of a folder of transformers, in one file or in shards."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from vitedge.errors import ModelError
from vitedge.importers import ImportOptions
from vitedge.importers.reading.safetensors_file import open_sharded
from vitedge.importers.reading.state_dict import in_checkpoint, open_checkpoint
from vitedge.importers.reading.tensors import Tensors, as_head

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
    folder: Path, marks: Sequence[str], options: ImportOptions, *, head: str = ""
) -> Iterator[tuple[Tensors, str]]:
    """The weights, and what of them was chosen, in words.

    Args:
        folder: The folder of the weights.
        marks: Names of weights that such models have, of which the first that is there tells
            theirs; the last one where none is.
        options: The user's options.
        head: The name of the head in such models; empty if none may be named.

    Raises:
        ModelError: The weights are missing or damaged, or lack the head that the options name.
    """
    if not (folder / _WEIGHTS).is_file() and (folder / _INDEX).is_file():
        with open_sharded(folder / _INDEX) as tensors:
            named, words = _with_head(tensors, options.head, head)
            yield (named if options.adapter is None else options.adapter.merged(named)), words
        return
    path = folder / (_WEIGHTS if (folder / _WEIGHTS).is_file() else _OLD_WEIGHTS)
    mark = next((each for each in marks if in_checkpoint(path, [each])), marks[-1])
    with open_checkpoint(path, [mark], options, head=head) as opened:
        yield opened.tensors, opened.words


def _with_head(tensors: Tensors, wanted: str | None, head: str) -> tuple[Tensors, str]:
    """Sharded weights with the layer that the user names as their head, and words about it.

    Raises:
        ModelError: There is no such layer, the model has a head, or its kind takes none.
    """
    if wanted is None:
        return tensors, ""
    layer = wanted.rstrip(".")
    if not head or tensors.below(f"{head}.").names:
        why = f"has the head '{head}' already" if head else "is of a kind that takes none"
        raise ModelError(f"'{tensors.source}' {why}: leave out --head")
    if not tensors.below(f"{layer}.").names:
        raise ModelError(f"'{tensors.source}' has no layer '{layer}' for --head")
    places = as_head({name: name for name in tensors.names}, layer, head)
    return tensors.renamed(places), f", with the head '{layer}'"
