"""Models as people have them: a path, or a Keras model in memory."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

from vitedge.errors import ModelError, UsageError, first_line
from vitedge.files.keras_archives import save_packed
from vitedge.files.temporary import temporary_folder
from vitedge.importers import ImportOptions
from vitedge.terminal.silence import quiet

Model: TypeAlias = str | os.PathLike[str] | Any
"""A model: the path of any file or folder that ``vitedge import`` reads, or a ``keras.Model``."""


@dataclass(frozen=True)
class OpenedModel:
    """A model as a file.

    Attributes:
        path: The file or folder.
        importing: The options for reading it.
        in_memory: Whether the model is in memory; its file is then temporary.
    """

    path: Path
    importing: ImportOptions
    in_memory: bool = False


@contextmanager
def opened(model: Model, importing: ImportOptions | None = None) -> Iterator[OpenedModel]:
    """The model as a file; that of a model in memory is gone after the block.

    Args:
        model: A path, or a Keras model.
        importing: The options for reading it. The code of a model in memory is the caller's own and
            has run already, so it is trusted.

    Raises:
        UsageError: ``model`` is neither a path nor a Keras model.
        ModelError: Keras cannot save it.
    """
    importing = importing or ImportOptions()
    if isinstance(model, str | os.PathLike):
        yield OpenedModel(Path(model), importing)
        return
    if not (hasattr(model, "get_config") and hasattr(model, "count_params")):
        raise UsageError(
            f"a model is a path or a Keras model, not {type(model).__name__}; export a model of "
            "PyTorch with torch.onnx.export, and give the file"
        )
    with temporary_folder() as folder, _known_to_keras(model):
        path = folder / f"{_file_name(model)}.keras"
        try:
            with quiet():
                save_packed(model, path)
        except OSError:
            raise
        except Exception as error:  # a layer's get_config may raise anything
            raise ModelError(f"Keras cannot save the model: {first_line(error)}") from error
        yield OpenedModel(path, replace(importing, trust=True), in_memory=True)


def _file_name(model: Any) -> str:
    """The model's name as that of a file: artefacts are called after it."""
    return re.sub(r"[^\w.-]+", "_", str(model.name)).strip("._") or "model"


@contextmanager
def _known_to_keras(model: Any) -> Iterator[None]:
    """Lets Keras load the classes of the user's own layers that nobody registered."""
    import keras

    own = {type(layer) for layer in _layers(model)}
    scope = {each.__name__: each for each in own if not each.__module__.startswith("keras.")}
    with keras.saving.custom_object_scope(scope):
        yield


def _layers(model: Any) -> Iterator[Any]:
    """The model and all layers inside it, those inside other layers included."""
    yield model
    for layer in getattr(model, "_layers", None) or ():
        yield from _layers(layer)


@contextmanager
def opened_or_none(model: Model | None) -> Iterator[OpenedModel | None]:
    """The same as ``opened``, except that no model gives None."""
    if model is None:
        yield None
        return
    with opened(model) as found:
        yield found
