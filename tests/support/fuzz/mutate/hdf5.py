"""HDF5 files: their bytes, data sets, links and attributes."""

from __future__ import annotations

import io
from random import Random
from typing import Any

import numpy as np

from tests.support.fuzz.mutate.json_text import mutate_json
from tests.support.fuzz.mutate.raw import mutate_bytes

_TYPES = ("i1", "f2", "f8", "c8", "S4", "u8", ">f4", "b1", "V4", "O")
_SHAPES = ((), (0,), (2**40,), (2**20, 2**20), (2**62,), (0, 2**40), (1,) * 30)


def mutate_hdf5(data: bytes, rng: Random) -> bytes:
    """Changes objects by way of h5py, or bytes without."""
    if rng.random() < 0.6:
        return mutate_bytes(data, rng)
    import h5py

    content = io.BytesIO(data)
    try:
        with h5py.File(content, "r+") as file:
            objects: list[Any] = [file]
            file.visititems(lambda _, node: objects.append(node))
            sets = [node.name for node in objects if isinstance(node, h5py.Dataset)]
            attributed = [node for node in objects if len(node.attrs)]
            if attributed and rng.random() < 0.35:
                _mutate_attribute(rng.choice(attributed).attrs, rng)
            elif sets:
                _mutate_set(file, rng.choice(sets), sets, rng)
    except (TypeError, ValueError, OSError, RuntimeError, KeyError, OverflowError):
        return mutate_bytes(data, rng)  # h5py does not write everything that can be asked for
    return content.getvalue()


def _mutate_set(file: Any, name: str, sets: list[str], rng: Random) -> None:
    import h5py

    values = file[name][()]
    del file[name]
    match rng.randrange(13):
        case 0:
            pass
        case 1:
            file[name] = values.T if values.ndim > 1 else np.resize(values, values.size + 1)
        case 2:
            file[name] = values.astype(rng.choice(_TYPES))
        case 3:
            file[name] = np.full_like(values, rng.choice((np.nan, np.inf, 0)))
        case 4:
            file.create_dataset(name, shape=rng.choice(_SHAPES), dtype="f4")
        case 5:
            shape = rng.choice(((2**31,), (2**20, 2**14)))
            file.create_dataset(name, shape=shape, dtype="f4", chunks=True, compression="gzip")
        case 6:
            file[name] = values
            file[name + "x"] = values
        case 7:
            file[name] = h5py.SoftLink(rng.choice(("/", "/nope", name, rng.choice(sets))))
        case 8:
            file[name] = h5py.ExternalLink("other.h5", "/x")
        case 9:
            size = max(values.nbytes, 1)
            file.create_dataset(
                name, values.shape, values.dtype, external=[("/etc/passwd", 0, size)]
            )
        case 10:
            layout = h5py.VirtualLayout(values.shape, values.dtype)
            layout[...] = h5py.VirtualSource("/etc/passwd", "x", values.shape)
            file.create_virtual_dataset(name, layout)
        case 11:
            file.create_group(name)
        case 12:
            file[name] = values
            parent = file[name].parent
            parent["cycle"] = parent


def _mutate_attribute(attributes: Any, rng: Random) -> None:
    name = rng.choice(list(attributes))
    value = attributes[name]
    match rng.randrange(4):
        case 0:
            del attributes[name]
        case 1 | 2 if isinstance(value, str | bytes):
            text = value.encode() if isinstance(value, str) else value
            try:
                changed = mutate_json(text, rng)
            except ValueError:
                changed = mutate_bytes(text, rng)
            attributes[name] = np.bytes_(changed[:60_000])
        case _:
            attributes[name] = rng.choice(
                (1, 1.5, "x", b"\xff", np.zeros(3), np.array([b"x" * 5] * 9), h5_empty())
            )


def h5_empty() -> Any:
    """HDF5's null, which is neither text nor number."""
    import h5py

    return h5py.Empty("f4")
