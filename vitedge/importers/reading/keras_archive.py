"""Keras 3's ``.keras`` file without Keras: a zip of a JSON config and an HDF5 of weights."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vitedge.errors import ModelError
from vitedge.files.json_values import parse_object
from vitedge.files.keras_archives import Container, container_of
from vitedge.files.zip_members import ZIP_DAMAGE, read_member, read_text
from vitedge.importers.reading.hdf5_file import open_hdf5
from vitedge.importers.reading.tensors import Tensors

_CONFIG, _WEIGHTS = "config.json", "model.weights.h5"


def archived_config(path: Path) -> Mapping[str, Any]:
    """The model's config as JSON, empty when the file is not a readable ``.keras`` file."""
    if container_of(path) is not Container.ARCHIVE:
        return {}
    try:
        with zipfile.ZipFile(path) as archive:
            return parse_object(read_text(archive, _CONFIG))
    except ZIP_DAMAGE:
        return {}


@contextmanager
def open_archived_weights(path: Path) -> Iterator[Tensors]:
    """The weights by their HDF5 paths: ``blocks/transformer_block/q/vars/0``.

    Raises:
        ModelError: The file is truncated, or no ``.keras`` file.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            weights = io.BytesIO(read_member(archive, _WEIGHTS))
    except ZIP_DAMAGE as error:
        raise ModelError(f"'{path}' is truncated or not a .keras file ({error})") from error
    with open_hdf5(str(path), weights) as tensors:
        yield tensors
