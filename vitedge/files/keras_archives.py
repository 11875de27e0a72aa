"""Keras's ``.keras`` archives by way of a folder.

Keras, where it thinks that memory suffices, holds the weights of an archive in memory once more to
read them, and twice more to write them. From and to a folder it streams them.
"""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Any

from vitedge.files.hdf5_storage import is_hdf5
from vitedge.files.limits import refuse_inflation
from vitedge.files.temporary import demand_room, temporary_folder
from vitedge.files.zip_members import is_zip

_CONFIG = "config.json"


class Container(StrEnum):
    """The kind of a file of Keras, whatever its name is."""

    ARCHIVE = "ZIP"
    HDF5 = "HDF5"


def container_of(path: Path) -> Container | None:
    """Tells the container of a file by its bytes; None when it is neither.

    A ZIP is found from its end, so a file may be both: it is what it begins as. All that read a
    file ask here, so that none reads another model than the one that was checked.
    """
    if is_hdf5(path):
        return Container.HDF5
    return Container.ARCHIVE if is_zip(path) else None


@contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """A folder with an archive's members, which Keras loads as it does the archive.

    Yields:
        The folder; the path itself where it is not an archive that Keras wrote. Keras does not
        compress, so members grow by nothing: those of a file that does are left to Keras.

    Raises:
        SizeError: The members take more than the bound on sources.
    """
    if container_of(path) is not Container.ARCHIVE:
        yield path
        return
    with zipfile.ZipFile(path) as archive, temporary_folder() as folder:
        inflated = sum(member.file_size for member in archive.infolist())
        refuse_inflation(f"'{path}'", inflated, path.stat().st_size)
        stored = all(member.compress_type == zipfile.ZIP_STORED for member in archive.infolist())
        if not stored or _CONFIG not in archive.namelist():
            yield path
            return
        archive.extractall(folder)
        yield folder


def save_packed(model: Any, path: Path) -> None:
    """Writes a Keras model as an archive.

    Args:
        model: The ``keras.Model``.
        path: The ``.keras`` file; it must not exist.

    Raises:
        OSError: The model does not fit on the disk, or exceeds the limit on file sizes.
    """
    # HDF5 crashes the process when it cannot write. Its own notes beside the float32 weights take
    # 2 KiB an array.
    size = 4 * model.count_params() + 4096 * (len(model.weights) + 16)
    demand_room(path.parent, [size, size])  # the folder's, and the archive
    with tempfile.TemporaryDirectory(dir=path.parent) as name:
        folder = Path(name) / "model"
        model.save(folder, zipped=False)
        with zipfile.ZipFile(path, "w") as archive:
            for member in sorted(each for each in folder.rglob("*") if each.is_file()):
                archive.write(member, member.relative_to(folder))
