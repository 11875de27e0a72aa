"""TFLite flatbuffers, table by table, so that what is changed is well formed everywhere else."""

from __future__ import annotations

import struct
from random import Random
from typing import Any

import numpy as np

from tests.support.fuzz.mutate.raw import INTEGERS, mutate_bytes

_MARK = b"TFL3"


def mutate_tflite(data: bytes, rng: Random) -> bytes:
    """Changes one to three fields of the model's tables, or bytes."""
    if rng.random() < 0.5:
        return mutate_bytes(data, rng)
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(data))
    for _ in range(rng.choice((1, 1, 2, 3))):
        holder, name = rng.choice(list(_fields(model)))
        _change(holder, name, rng)
    builder = flatbuffers.Builder(len(data))
    try:
        builder.Finish(model.Pack(builder), _MARK)
    except (TypeError, ValueError, AttributeError, IndexError, OverflowError, struct.error):
        return mutate_bytes(data, rng)  # a value that the field's type does not hold
    return bytes(builder.Output())


def _fields(table: Any) -> Any:
    """Every table with the name of every field that is set."""
    for name, value in vars(table).items():
        if value is None:
            continue
        yield table, name
        if hasattr(value, "Pack"):
            yield from _fields(value)
        elif isinstance(value, list):
            for each in value:
                if hasattr(each, "Pack"):
                    yield from _fields(each)


def _change(holder: Any, name: str, rng: Random) -> None:
    value = getattr(holder, name)
    changed: Any = None
    if isinstance(value, bool):
        changed = not value
    elif isinstance(value, int):
        changed = rng.choice((*INTEGERS, value + 1, value - 1, value * 2))
    elif isinstance(value, float):
        changed = rng.choice((0.0, float("nan"), float("inf"), -value, 1e38))
    elif isinstance(value, bytes | bytearray):
        changed = mutate_bytes(bytes(value), rng)
    elif isinstance(value, np.ndarray) and value.size:
        changed = _array(value, rng)
    elif isinstance(value, list) and value:
        changed = list(value)
        at = rng.randrange(len(changed))
        match rng.randrange(3):
            case 0:
                del changed[at]
            case 1:
                changed.append(changed[at])
            case 2:
                changed[at] = rng.choice(changed)
    setattr(holder, name, changed)


def _array(values: np.ndarray, rng: Random) -> np.ndarray:
    match rng.randrange(4):
        case 0:
            return values[: rng.randrange(len(values))].copy()
        case 1:
            return np.concatenate([values, values[:1]])
    changed = values.copy()
    at = rng.randrange(len(changed))
    if changed.dtype.kind in "iu":
        wrapped = np.array([rng.choice(INTEGERS) % 2**64], np.uint64).astype(changed.dtype)
        changed[at] = wrapped[0]
    elif changed.dtype.kind == "f":
        changed[at] = rng.choice((0.0, np.nan, np.inf, -1.0))
    return changed
