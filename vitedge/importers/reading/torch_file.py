"""``.pth`` and ``.pt`` files of torch 1.6 and later, read weights-only and without torch.

Such a file is a zip of raw arrays and of one pickle that says how they make tensors; see
``weights_pickle`` for what of it is obeyed.
"""

from __future__ import annotations

import math
import pickle
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vitedge.errors import ModelError, SizeError
from vitedge.importers.reading.tensors import Tensors
from vitedge.importers.reading.weights_pickle import (
    BFLOAT16,
    NamedError,
    TensorPlace,
    read_weights_pickle,
)
from vitedge.zip_members import ZIP_DAMAGE, is_zip, read_member, read_text

# MAGIC_NUMBER of torch/serialization.py, 0x1950A86A20F9469CFC6C, as a pickle of protocol 2.
_OLD_MAGIC = bytes.fromhex("80028a0a6cfc9c46f9206aa850192e")

# Where training scripts put the weights: DeiT, timm's training checkpoints, Lightning.
_WRAPPERS = ("model_ema", "state_dict_ema", "model", "state_dict")

_DAMAGE = (*ZIP_DAMAGE, pickle.UnpicklingError, TypeError, MemoryError)

# An opcode of one byte makes an object of up to 64 bytes and takes two microseconds. With the
# default bound a pickle may have 8 MiB, and those of 300 tensors have 40 kB.
_PICKLE_TIMES = 256


def torch_names(path: Path) -> frozenset[str]:
    """Names of the tensors, without reading any; empty when there are none to be had.

    Raises:
        SizeError: It would take more memory than the bound on sources.
    """
    if not is_zip(path):
        return frozenset()
    try:
        with zipfile.ZipFile(path) as archive:
            return frozenset(_tensors(path, archive, _root(archive)))
    except SizeError:
        raise
    except (ModelError, *_DAMAGE):
        return frozenset()


def is_torch_file(path: Path) -> bool:
    """Whether a file is a zip that torch wrote, readable or not."""
    if not is_zip(path):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/data.pkl") for name in archive.namelist())
    except ZIP_DAMAGE:
        return False


def is_old_torch_file(path: Path) -> bool:
    """Whether a file begins as those of torch before 1.6 do: with the pickle of a magic number."""
    with path.open("rb") as stream:
        return stream.read(len(_OLD_MAGIC)) == _OLD_MAGIC


@contextmanager
def open_torch(path: Path) -> Iterator[Tensors]:
    """Opens a file that holds a state dictionary, bare or in one of the usual wrappers.

    Raises:
        ModelError: The file is truncated, of a torch before 1.6, holds no tensors by name, or
            names anything but tensors and dictionaries.
    """
    try:
        archive = zipfile.ZipFile(path)
    except _DAMAGE as error:
        raise _damaged(path, error) from error
    with archive:
        try:
            root = _root(archive)
            places = _tensors(path, archive, root)
        except _DAMAGE as error:
            raise _damaged(path, error) from error

        def load(name: str) -> npt.NDArray[Any]:
            try:
                return _array(archive, root, places[name])
            except _DAMAGE as error:
                raise _damaged(path, error) from error

        shapes = {name: at.shape for name, at in places.items()}
        yield Tensors(str(path), shapes, load, held=path.stat().st_size)


def _damaged(path: Path, error: Exception) -> ModelError:
    reason = " ".join(str(error).split())
    return ModelError(f"'{path}' is truncated or not a file of torch 1.6 or later ({reason})")


def _root(archive: zipfile.ZipFile) -> str:
    """The folder inside the archive, with its slash."""
    for name in archive.namelist():
        if name.endswith("/data.pkl") and name.count("/") == 1:
            return name.removesuffix("data.pkl")
    raise zipfile.BadZipFile("no data.pkl inside")


def _tensors(path: Path, archive: zipfile.ZipFile, root: str) -> dict[str, TensorPlace]:
    byteorder = f"{root}byteorder"
    if byteorder in archive.namelist() and read_text(archive, byteorder) != b"little":
        raise ModelError(f"'{path}' was written on a big-endian machine, which is not supported")
    try:
        content = read_weights_pickle(read_text(archive, f"{root}data.pkl", times=_PICKLE_TIMES))
    except NamedError as error:
        raise ModelError(
            f"'{path}' holds '{error}' beside its weights, and unpickling that could run code. "
            "Save the weights alone: torch.save(model.state_dict(), ...)"
        ) from error
    places = _state(path, content)
    for name, place in places.items():
        held = archive.getinfo(f"{root}data/{place.record}").file_size
        if math.prod(place.shape) * _dtype(place).itemsize > held:
            raise ValueError(f"'{name}' has shape {place.shape} in {held} bytes")
    return places


def _state(path: Path, content: object) -> dict[str, TensorPlace]:
    """The tensors by name, out of their wrapper."""
    if isinstance(content, Mapping):
        inner = (content.get(wrapper) for wrapper in _WRAPPERS)
        state = next((value for value in inner if isinstance(value, Mapping)), content)
        found = {
            str(name).removeprefix("module."): value
            for name, value in state.items()
            if isinstance(value, TensorPlace)
        }
        if found:
            return found
    raise ModelError(f"'{path}' holds no tensors by name")


def _array(archive: zipfile.ZipFile, root: str, place: TensorPlace) -> npt.NDArray[Any]:
    data = read_member(archive, f"{root}data/{place.record}")
    dtype = _dtype(place)
    # NumPy checks that offset, shape and strides stay within the buffer.
    array: npt.NDArray[Any] = np.ndarray(
        place.shape,
        dtype,
        data,
        place.offset * dtype.itemsize,
        tuple(stride * dtype.itemsize for stride in place.strides),
    )
    if place.dtype == BFLOAT16:
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array


def _dtype(place: TensorPlace) -> np.dtype[Any]:
    return np.dtype("<u2" if place.dtype == BFLOAT16 else place.dtype)
