"""HDF5 files, as Keras writes them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from vitedge.errors import ModelError, SizeError, UnavailableError, missing_package
from vitedge.files.hdf5_storage import is_hdf5, open_contained
from vitedge.importers.reading.narrow_floats import bfloat16_widened
from vitedge.importers.reading.tensors import Tensors
from vitedge.importers.reading.weights_pickle import BFLOAT16

# What h5py raises on damaged files, depending on where the damage is.
_DAMAGE = (
    OSError,
    LookupError,
    RuntimeError,
    ValueError,
    TypeError,
    MemoryError,
    AttributeError,
    ArithmeticError,
    AssertionError,
)


@contextmanager
def open_hdf5(source: str, file: Path | BinaryIO) -> Iterator[Tensors]:
    """Opens an HDF5 file; names are the paths of its datasets: ``dense/vars/0``.

    Args:
        source: Name of the file, for messages.
        file: The path of the file, or its bytes.

    Raises:
        ModelError: The file is truncated or not an HDF5 file, or a part of it lies in another file.
    """
    try:
        import h5py
    except ImportError as error:
        raise missing_package("h5py", "convert") from error
    shapes: dict[str, tuple[int, ...]] = {}

    def note(name: str, node: Any) -> None:
        if isinstance(node, h5py.Dataset):
            shapes[name] = tuple(node.shape)

    resources = ExitStack()
    try:
        opened = resources.enter_context(open_contained(source, file))
        opened.visititems(note)
    except _DAMAGE as error:
        resources.close()
        raise _damaged(source, error) from error

    def load(name: str) -> npt.NDArray[Any]:
        try:
            dataset = opened[name]
            if dataset.attrs.get("dtype") == BFLOAT16 and dataset.dtype.itemsize == 2:
                return bfloat16_widened(dataset[()].view(np.uint16))
            if dataset.dtype.kind not in "fiu":
                raise TypeError(f"'{name}' holds {dataset.dtype}, not numbers")
            array: npt.NDArray[Any] = dataset[()]
            return array
        except _DAMAGE as error:
            raise _damaged(source, error) from error

    held = file.stat().st_size if isinstance(file, Path) else file.seek(0, os.SEEK_END)
    with resources:
        yield Tensors(source, shapes, load, held=held)


def hdf5_names(path: Path) -> frozenset[str]:
    """Paths of all datasets; empty when it is not a readable HDF5 file.

    Raises:
        SizeError: The file would take more memory than the bound on sources.
    """
    if not is_hdf5(path):
        return frozenset()
    try:
        with open_hdf5(str(path), path) as tensors:
            return tensors.names
    except SizeError:
        raise
    except (ModelError, UnavailableError):
        return frozenset()


@dataclass(frozen=True)
class Keras2Layer:
    """A layer of a model whose weights Keras 2 saved.

    Attributes:
        name: Its name.
        weights: Paths of its datasets, in the order of ``layer.weights``.
    """

    name: str
    weights: tuple[str, ...]


def keras2_layers(path: Path) -> tuple[Keras2Layer, ...]:
    """The layers in the model's order; empty when Keras 2 did not write the file."""
    if not is_hdf5(path):
        return ()
    try:
        with open_contained(str(path), path) as opened:
            root = "model_weights" if "model_weights" in opened else "/"
            return tuple(
                Keras2Layer(
                    name=name,
                    weights=tuple(
                        f"{root}/{name}/{weight}".removeprefix("//")
                        for weight in _texts(opened[root][name].attrs["weight_names"])
                    ),
                )
                for name in _texts(opened[root].attrs["layer_names"])
            )
    except (ImportError, ModelError, *_DAMAGE):
        return ()


def _texts(values: Iterable[str | bytes]) -> list[str]:
    return [value.decode() if isinstance(value, bytes) else str(value) for value in values]


def text_attribute(path: Path, name: str) -> str | None:
    """An attribute of the root group that is text, such as Keras's ``model_config``; else None."""
    if not is_hdf5(path):
        return None
    try:
        with open_contained(str(path), path) as opened:
            value = opened.attrs.get(name)
    except (ImportError, ModelError, *_DAMAGE):
        return None
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return value if isinstance(value, str) else None


def _damaged(source: str, error: BaseException) -> ModelError:
    reason = " ".join(str(error).split())
    return ModelError(f"'{source}' is truncated or not an HDF5 file ({reason})")
