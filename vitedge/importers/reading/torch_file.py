"""``.pth`` and ``.pt`` files of torch 1.6 and later, read weights-only and without torch.

Such a file is a zip of raw arrays and of one pickle that says how they make tensors; see
``weights_pickle`` for what of it is obeyed.
"""

from __future__ import annotations

import math
import pickle
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vitedge.errors import ModelError, SizeError
from vitedge.files.zip_members import ZIP_DAMAGE, is_zip, read_member, read_text
from vitedge.importers.reading.narrow_floats import (
    bfloat16_widened,
    float8_e4m3_widened,
    float8_e5m2_widened,
)
from vitedge.importers.reading.tensors import Tensors
from vitedge.importers.reading.weights_pickle import (
    BFLOAT16,
    FLOAT8_E4M3,
    FLOAT8_E5M2,
    Foreign,
    TensorPlace,
    read_weights_pickle,
)

# MAGIC_NUMBER of torch/serialization.py, 0x1950A86A20F9469CFC6C, as a pickle of protocol 2.
_OLD_MAGIC = bytes.fromhex("80028a0a6cfc9c46f9206aa850192e")

# NumPy's types of the bits, and how they are read.
_WIDENED: Mapping[str, tuple[str, Callable[[npt.NDArray[Any]], npt.NDArray[np.float32]]]] = {
    BFLOAT16: ("<u2", bfloat16_widened),
    FLOAT8_E4M3: ("|u1", float8_e4m3_widened),
    FLOAT8_E5M2: ("|u1", float8_e5m2_widened),
}

_DAMAGE = (*ZIP_DAMAGE, pickle.UnpicklingError, TypeError, MemoryError)

# An opcode of one byte makes an object of up to 64 bytes and takes two microseconds. With the
# default bound a pickle may have 8 MiB, and those of 300 tensors have 40 kB.
_PICKLE_TIMES = 256


@dataclass(frozen=True)
class State:
    """The tensors that lie in one dictionary of a checkpoint.

    Attributes:
        places: The place of each tensor, by name.
        foreign: The maker of each value that is neither a tensor nor plain, by the value's name.
    """

    places: Mapping[str, TensorPlace] = field(default_factory=dict)
    foreign: Mapping[str, str] = field(default_factory=dict)


def torch_states(path: Path) -> Mapping[str, State]:
    """All dictionaries of tensors by the keys that lead there, ``model`` or ``ema/shadow``.

    Reads no tensor. Empty for a file that is none of torch 1.6 or later, or holds none.

    Raises:
        SizeError: The file would take more memory than the bound on sources.
    """
    if not is_zip(path):
        return {}
    try:
        with zipfile.ZipFile(path) as archive:
            return _states(path, archive, _root(archive))
    except SizeError:
        raise
    except (ModelError, *_DAMAGE):
        return {}


def torch_names(path: Path) -> frozenset[str]:
    """Names of all tensors, without reading any; empty when there are none to be had.

    Raises:
        SizeError: The file would take more memory than the bound on sources.
    """
    return frozenset(name for state in torch_states(path).values() for name in state.places)


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
def open_torch(
    path: Path, chosen: Mapping[str, tuple[str, str]] | None = None
) -> Iterator[Tensors]:
    """Opens a file that holds a state dictionary, bare or among other things.

    Args:
        path: The file.
        chosen: Keys and name of each tensor, by the name it gets; None takes the dictionary that
            holds the most of them as it is.

    Raises:
        ModelError: The file is truncated, of a torch before 1.6, or holds no tensors by name.
    """
    try:
        archive = zipfile.ZipFile(path)
    except _DAMAGE as error:
        raise _damaged(path, error) from error
    with archive:
        try:
            root = _root(archive)
            states = _states(path, archive, root)
            if chosen is None:
                places = max((state.places for state in states.values()), key=len)
            else:
                places = {name: states[keys].places[old] for name, (keys, old) in chosen.items()}
            for name, place in places.items():
                held = archive.getinfo(f"{root}data/{place.record}").file_size
                if math.prod(place.shape) * _dtype(place).itemsize > held:
                    raise ValueError(f"'{name}' has shape {place.shape} in {held} bytes")
        except (*_DAMAGE, KeyError) as error:
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


def _states(path: Path, archive: zipfile.ZipFile, root: str) -> Mapping[str, State]:
    byteorder = f"{root}byteorder"
    if byteorder in archive.namelist() and read_text(archive, byteorder) != b"little":
        raise ModelError(f"'{path}' was written on a big-endian machine, which is not supported")
    content = read_weights_pickle(read_text(archive, f"{root}data.pkl", times=_PICKLE_TIMES))
    states: dict[str, State] = {}
    seen: set[int] = set()
    strangers: list[str] = []
    stack: list[tuple[str, object]] = [("", content)]
    while stack:
        keys, value = stack.pop()
        if isinstance(value, Foreign):
            strangers.append(value.name)
        # A dictionary may hold itself, and others any number of times.
        if not isinstance(value, dict) or id(value) in seen:
            continue
        seen.add(id(value))
        items = {str(name): inner for name, inner in value.items()}
        stack += [(f"{keys}/{name}".lstrip("/"), inner) for name, inner in reversed(items.items())]
        places = {name: inner for name, inner in items.items() if isinstance(inner, TensorPlace)}
        if places:
            foreign = {n: inner.name for n, inner in items.items() if isinstance(inner, Foreign)}
            states.setdefault(keys, State(places, foreign))
    if states:
        return states
    if strangers:
        raise ModelError(
            f"'{path}' holds '{strangers[0]}' in place of tensors by name, and making that would "
            "run code. Save the weights alone: torch.save(model.state_dict(), ...)"
        )
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
    return _WIDENED[place.dtype][1](array) if place.dtype in _WIDENED else array


def _dtype(place: TensorPlace) -> np.dtype[Any]:
    return np.dtype(_WIDENED[place.dtype][0] if place.dtype in _WIDENED else place.dtype)
