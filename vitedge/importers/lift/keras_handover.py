"""Files that Keras gets to see: the config that was checked, and the weights beside it.

Keras decides by a file's name what it is, and reads it anew. Here it gets a folder or a file of
our own making, so that it can load only what was checked.
"""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vitedge.errors import ModelError, VitedgeError
from vitedge.files.hdf5_storage import refuse_elsewhere
from vitedge.files.json_values import parse_object
from vitedge.files.keras_archives import Container
from vitedge.files.limits import refuse_inflation
from vitedge.files.temporary import temporary_folder
from vitedge.importers.lift.keras_safety import inspect_config, refuse_findings
from vitedge.importers.lift.saved_model_safety import refuse_links_out

CONFIG, METADATA, WEIGHTS = "config.json", "metadata.json", "model.weights.h5"

_PRESET_CONFIGS = (CONFIG, METADATA, "task.json", "preprocessor.json", "image_converter.json")
_PRESET_WEIGHTS = (WEIGHTS, "task.weights.h5")


def without_compiling(config: Any) -> Any:
    """Takes losses, metrics and optimizers out of a config, in place; a model computes without."""
    stack = [config]
    while stack:
        value = stack.pop()
        if isinstance(value, dict):
            if "class_name" in value:
                value.pop("compile_config", None)
            stack += value.values()
        elif isinstance(value, list):
            stack += value
    return config


@contextmanager
def handed_over(
    path: Path, container: Container, config: Mapping[str, Any], *, zipped: bool
) -> Iterator[Path]:
    """A copy of a file with config and weights only, under a name by which Keras knows it.

    Args:
        path: A ``.keras`` or ``.h5`` file.
        container: The kind of file.
        config: Its config, which was checked.
        zipped: Keras 2 takes archives, Keras 3 takes their folders, too.

    Yields:
        The copy, gone afterwards; of HDF5, whose config lies inside, a link.

    Raises:
        ModelError: A part of the weights lies outside of the file, or they are missing.
    """
    with temporary_folder() as root:
        if container is Container.HDF5:
            refuse_elsewhere(path)
            yield _linked(path, root / "model.h5")
            return
        folder = root / "model"
        folder.mkdir()
        _unpack(path, folder)
        (folder / CONFIG).write_text(json.dumps(config))
        refuse_elsewhere(folder / WEIGHTS, str(path))
        if not zipped:
            yield folder
            return
        archive = root / "model.keras"
        with zipfile.ZipFile(archive, "w") as members:
            for member in (CONFIG, METADATA, WEIGHTS):
                members.write(folder / member, member)
        yield archive


def _unpack(path: Path, folder: Path) -> None:
    """Metadata and weights of an archive."""
    try:
        with zipfile.ZipFile(path) as archive:
            for name in (METADATA, WEIGHTS):
                member = archive.getinfo(name)
                refuse_inflation(f"'{name}' in '{path}'", member.file_size, path.stat().st_size)
                with archive.open(member) as source, (folder / name).open("wb") as target:
                    shutil.copyfileobj(source, target)
    except VitedgeError:
        raise
    except Exception as error:  # zipfile raises anything on damaged archives
        raise ModelError(f"'{path}' is truncated or holds no weights ({error})") from error


@contextmanager
def checked_preset(folder: Path) -> Iterator[Path]:
    """A copy of a KerasHub preset with checked configs and weights only.

    Args:
        folder: The preset.

    Yields:
        The copy, gone afterwards.

    Raises:
        ModelError: A config asks for what is not on the list, or weights lie elsewhere.
    """
    refuse_links_out(folder)
    with temporary_folder() as copy:
        for part in _PRESET_CONFIGS:
            if not (folder / part).is_file():
                continue
            try:
                config = without_compiling(parse_object((folder / part).read_bytes()))
            except ValueError as error:
                raise ModelError(f"'{folder / part}' is truncated or damaged ({error})") from error
            refuse_findings(folder / part, inspect_config(config))
            (copy / part).write_text(json.dumps(config))
        for part in _PRESET_WEIGHTS:
            if (folder / part).is_file():
                refuse_elsewhere(folder / part)
                _linked(folder / part, copy / part)
        yield copy


def _linked(source: Path, target: Path) -> Path:
    try:
        target.symlink_to(source.resolve())
    except OSError:  # Windows asks for a privilege
        shutil.copyfile(source, target)
    return target
