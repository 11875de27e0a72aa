"""``.pth`` and ``.pt`` files of torch 1.6 and later, read weights-only and without torch.

Such a file is a zip of raw arrays and of one pickle that says how they make tensors. A pickle is a
program: it may name any function on this machine and have it called, which is how malicious
checkpoints work. The reader below knows the handful of names that a dictionary of tensors needs and
refuses every other, before anything is called. What it gives the pickle in their place are inert
objects of this module: the pickle can call them, but neither reach through them nor change them.
"""

from __future__ import annotations

import math
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from vitedge.errors import ModelError
from vitedge.importers.reading.keras_archive import ZIP_DAMAGE
from vitedge.importers.reading.tensors import Tensors

# MAGIC_NUMBER of torch/serialization.py, 0x1950A86A20F9469CFC6C, as a pickle of protocol 2.
_OLD_MAGIC = bytes.fromhex("80028a0a6cfc9c46f9206aa850192e")

_BFLOAT16 = "bfloat16"
_STORAGES = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "BFloat16Storage": _BFLOAT16,
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "|i1",
    "ByteStorage": "|u1",
    "BoolStorage": "|b1",
}

# Where training scripts put the weights: DeiT, timm's training checkpoints, Lightning.
_WRAPPERS = ("model_ema", "state_dict_ema", "model", "state_dict")


class _Inert:
    """Something that a pickle may hold; it cannot be given a state."""

    __slots__ = ()

    def __setstate__(self, state: object) -> NoReturn:
        raise pickle.UnpicklingError("a state for something that has none")


class _Dictionary(OrderedDict[Any, Any]):
    """``collections.OrderedDict``; modules attach a ``_metadata`` attribute, which is dropped."""

    def __setstate__(self, state: object) -> None:
        pass


class _Storage(_Inert):
    """A torch storage class."""

    __slots__ = ("dtype",)

    def __init__(self, dtype: str) -> None:
        self.dtype = dtype


@dataclass(frozen=True)
class _Tensor:
    """Where a tensor lies in the archive; offset and strides in elements."""

    record: str
    dtype: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def __setstate__(self, state: object) -> NoReturn:
        raise pickle.UnpicklingError("a state for a tensor")


class _RebuildTensor(_Inert):
    """``torch._utils._rebuild_tensor_v2``; gradients and hooks are dropped."""

    __slots__ = ()

    def __call__(self, storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> _Tensor:
        key, dtype = storage
        return _Tensor(
            str(key), str(dtype), int(offset), tuple(map(int, shape)), tuple(map(int, strides))
        )


class _RebuildParameter(_Inert):
    """``torch._utils._rebuild_parameter``."""

    __slots__ = ()

    def __call__(self, tensor: Any, *_: Any) -> Any:
        return tensor


class _WeightsUnpickler(pickle.Unpickler):
    """Knows tensors, dictionaries, and the plain values that pickle itself has."""

    def find_class(self, module: str, name: str) -> Any:
        """Replaces a global by an inert object, or refuses it."""
        match module, name:
            case "collections", "OrderedDict":
                return _Dictionary
            case "torch._utils", "_rebuild_tensor_v2":
                return _RebuildTensor()
            case "torch._utils", "_rebuild_parameter":
                return _RebuildParameter()
            case "torch", storage if storage in _STORAGES:
                return _Storage(_STORAGES[storage])
        raise _RefusedError(f"{module}.{name}")

    def persistent_load(self, pid: Any) -> tuple[str, str]:
        """Reads ``("storage", class, key, device, elements)``."""
        kind, storage, key, *_ = pid
        if kind != "storage" or not isinstance(storage, _Storage):
            raise pickle.UnpicklingError("a persistent value that is no storage")
        return str(key), storage.dtype


class _RefusedError(Exception):
    """The pickle names something that is no weight."""


# What a damaged pickle makes the unpickler, or the inert objects above, raise.
_DAMAGE = (
    *ZIP_DAMAGE,
    pickle.UnpicklingError,
    AttributeError,
    ImportError,
    IndexError,
    MemoryError,
    RecursionError,
    TypeError,
    struct.error,
)


def torch_names(path: Path) -> frozenset[str]:
    """Names of the tensors, without reading any; empty when there are none to be had."""
    if not path.is_file() or not zipfile.is_zipfile(path):
        return frozenset()
    try:
        with zipfile.ZipFile(path) as archive:
            return frozenset(_tensors(path, archive, _root(archive)))
    except (ModelError, *_DAMAGE):
        return frozenset()


def is_torch_file(path: Path) -> bool:
    """Whether a file is a zip that torch wrote, readable or not."""
    if not path.is_file() or not zipfile.is_zipfile(path):
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

        yield Tensors(str(path), {name: at.shape for name, at in places.items()}, load)


def _damaged(path: Path, error: Exception) -> ModelError:
    return ModelError(f"'{path}' is truncated or not a file of torch 1.6 or later ({error})")


def _root(archive: zipfile.ZipFile) -> str:
    """The folder inside the archive, with its slash."""
    for name in archive.namelist():
        if name.endswith("/data.pkl") and name.count("/") == 1:
            return name.removesuffix("data.pkl")
    raise zipfile.BadZipFile("no data.pkl inside")


def _tensors(path: Path, archive: zipfile.ZipFile, root: str) -> dict[str, _Tensor]:
    byteorder = f"{root}byteorder"
    if byteorder in archive.namelist() and archive.read(byteorder) != b"little":
        raise ModelError(f"'{path}' was written on a big-endian machine, which is not supported")
    try:
        with archive.open(f"{root}data.pkl") as stream:
            content = _WeightsUnpickler(stream).load()
    except _RefusedError as error:
        raise ModelError(
            f"'{path}' holds '{error}' beside its weights, and unpickling that could run code. "
            "Save the weights alone: torch.save(model.state_dict(), ...)"
        ) from error
    return _state(path, content)


def _state(path: Path, content: object) -> dict[str, _Tensor]:
    """The tensors by name, out of their wrapper."""
    if isinstance(content, Mapping):
        inner = (content.get(wrapper) for wrapper in _WRAPPERS)
        state = next((value for value in inner if isinstance(value, Mapping)), content)
        found = {
            str(name).removeprefix("module."): value
            for name, value in state.items()
            if isinstance(value, _Tensor)
        }
        if found:
            return found
    raise ModelError(f"'{path}' holds no tensors by name")


def _array(archive: zipfile.ZipFile, root: str, place: _Tensor) -> npt.NDArray[Any]:
    data = archive.read(f"{root}data/{place.record}")
    dtype = np.dtype("<u2" if place.dtype == _BFLOAT16 else place.dtype)
    if math.prod(place.shape) * dtype.itemsize > len(data):
        raise ValueError(f"a tensor of shape {place.shape} in {len(data)} bytes")
    # NumPy checks that offset, shape and strides stay within the buffer.
    array: npt.NDArray[Any] = np.ndarray(
        place.shape,
        dtype,
        data,
        place.offset * dtype.itemsize,
        tuple(stride * dtype.itemsize for stride in place.strides),
    )
    if place.dtype == _BFLOAT16:
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array
