"""Golden files made anew take the place of old ones only where they say something else.

What changes from run to run says nothing: dates, versions, addresses of objects, byte code with the
path it was compiled at, the last bit of a sum. So a second run leaves the tree as it was, and what
``git diff`` shows after a run is a change of some library.
"""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import onnx

_TRANSIENT = frozenset(
    ["made_with", "transformers_version", "keras_version", "date_saved", "shared_object_id"]
)
_BYTE_CODE = "4w"  # how marshalled code begins in base 64

# TensorFlow's graphs name their nodes anew each time; what is read of a SavedModel is variables.
_UNCOMPARED = (".pb", ".index")

# Of the largest value of an array: processors sum in different orders.
_ROUNDING = 1e-6


def renew(fresh: Path, golden: Path) -> list[str]:
    """Moves what is new, cases and single files, from one folder into another.

    Returns:
        The names of those that were replaced or added.
    """
    renewed = []
    for made in sorted(fresh.iterdir()):
        old = golden / made.name
        if old.exists() and _says_the_same(made, old):
            continue
        renewed.append(made.name)
        if old.is_dir():
            shutil.rmtree(old)
        shutil.move(made, old)
    return renewed


def _says_the_same(made: Path, old: Path) -> bool:
    if made.is_file():
        return old.is_file() and _equal(_content(made), _content(old))
    files, others = (
        {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
        for folder in (made, old)
    )
    return files == others and all(_says_the_same(made / name, old / name) for name in files)


def _content(path: Path) -> Any:
    """What a file says, as JSON with arrays in it."""
    data = path.read_bytes()
    match path.suffix:
        case ".json":
            return _lasting(json.loads(data))
        case ".npz":
            with np.load(path) as arrays:
                return {name: _described(arrays[name]) for name in arrays}
        case ".keras":
            with zipfile.ZipFile(path) as archive:
                config = _lasting(json.loads(archive.read("config.json")))
                return [config, _hdf5(archive.read("model.weights.h5"))]
        case ".h5":
            return _hdf5(data)
        case ".onnx":
            model = onnx.load_model_from_string(data)
            model.producer_version = ""
            return model.SerializeToString(deterministic=True)
        case suffix if suffix in _UNCOMPARED:
            return b""
    return data


def _described(array: np.ndarray) -> Any:
    """An array, or the JSON that some golden files hold as bytes."""
    if array.dtype == np.uint8 and array.ndim == 1 and array.tobytes()[:1] == b"{":
        return _lasting(json.loads(array.tobytes()))
    return array


def _hdf5(data: bytes) -> Any:
    arrays: dict[str, Any] = {}
    with h5py.File(io.BytesIO(data)) as file:
        for name, node in _nodes(file):
            if isinstance(node, h5py.Dataset):
                arrays[name] = node[()]
            for key, value in node.attrs.items():
                text = value.decode() if isinstance(value, bytes) else value
                if key.endswith("_config"):
                    text = _lasting(json.loads(text))
                if key not in _TRANSIENT:
                    arrays[f"{name}@{key}"] = text
    return arrays


def _nodes(group: Any) -> Iterator[tuple[str, Any]]:
    yield group.name, group
    for node in group.values():
        if isinstance(node, h5py.Group):
            yield from _nodes(node)
        else:
            yield node.name, node


def _lasting(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _lasting(inner) for key, inner in value.items() if key not in _TRANSIENT}
    if isinstance(value, list):
        return [_lasting(inner) for inner in value]
    return "" if isinstance(value, str) and value.startswith(_BYTE_CODE) else value


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_equal(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_equal, one, other))
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        if one.shape != other.shape or one.dtype != other.dtype:
            return False
        if one.dtype.kind != "f" or not one.size:
            return bool(np.array_equal(one, other))
        return bool(np.abs(one - other).max() <= _ROUNDING * np.abs(other).max())
    return type(one) is type(other) and bool(one == other)
