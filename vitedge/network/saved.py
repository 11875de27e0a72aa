"""A network as JSON and arrays by name, and back.

What is read is checked: operators, their parts and the types of these are an allow-list, and a
network whose shapes contradict each other is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from enum import StrEnum
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from vitedge.errors import ModelError
from vitedge.images.preprocess import Preprocessing
from vitedge.network.kinds import Activation, NormKind
from vitedge.network.network import Network, Value
from vitedge.network.operators import (
    Activate,
    Add,
    Concatenate,
    Constant,
    Convolution,
    Count,
    Linear,
    Match,
    Mean,
    Merge,
    Multiply,
    Norm,
    Operator,
    Pixels,
    Pool,
    PoolKind,
    Product,
    Reshape,
    Resize,
    ResizeKind,
    Softmax,
    Standardize,
    Take,
    Transpose,
)
from vitedge.network.tasks import Task

SCHEMA = 1
"""Raised when an older vitedge could no longer read what is written."""


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{value!r} is not a whole number")
    return value


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{value!r} is not a number")
    return float(value)


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{value!r} is neither true nor false")
    return value


def _tuple_of(read: Callable[[Any], Any]) -> Callable[[Any], tuple[Any, ...]]:
    return lambda value: tuple(read(each) for each in value)


_wholes, _numbers = _tuple_of(_whole), _tuple_of(_number)

# Every operator with its parts that are not arrays, and how each part is read from JSON.
_PARTS: Mapping[type[Operator], Mapping[str, Callable[[Any], Any]]] = MappingProxyType(
    {
        Pixels: {"height": _whole, "width": _whole, "channels": _whole},
        Constant: {},
        Standardize: {"mean": _numbers, "std": _numbers},
        Linear: {},
        Convolution: {"strides": _wholes, "padding": _tuple_of(_wholes), "groups": _whole},
        Norm: {"eps": _number, "kind": NormKind},
        Activate: {"kind": Activation},
        Add: {},
        Multiply: {},
        Product: {"transposed": _flag},
        Softmax: {},
        Reshape: {"to": _wholes},
        Transpose: {"axes": _wholes},
        Take: {"axis": _whole, "places": _wholes},
        Concatenate: {"axis": _whole},
        Mean: {"axis": _whole},
        Pool: {
            "kind": PoolKind,
            "window": _wholes,
            "strides": _wholes,
            "padding": _tuple_of(_wholes),
        },
        Resize: {"height": _whole, "width": _whole, "kind": ResizeKind},
        Match: {"merged": _whole, "fixed": _whole},
        Merge: {},
        Count: {},
    }
)

_BY_NAME = {kind.__name__: kind for kind in _PARTS}


def array_parts(operator: Operator) -> dict[str, npt.NDArray[Any]]:
    """The arrays of an operator by the names of its parts."""
    values = {part.name: getattr(operator, part.name) for part in fields(operator)}
    return {name: each for name, each in values.items() if isinstance(each, np.ndarray)}


def described(network: Network) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
    """All of a network, JSON-ready, and its arrays by ``<value>.<part>``."""
    numbers = {value: index for index, value in enumerate(network.values)}
    values: list[dict[str, Any]] = []
    arrays: dict[str, npt.NDArray[Any]] = {}
    for value in network.values:
        parts = array_parts(value.operator)
        arrays |= {f"{value.name}.{part}": array for part, array in parts.items()}
        values.append(
            {
                "name": value.name,
                "operator": type(value.operator).__name__,
                "inputs": [numbers[each] for each in value.inputs],
                **{part: getattr(value.operator, part) for part in _PARTS[type(value.operator)]},
            }
        )
    description = {
        "schema": SCHEMA,
        "values": _plain(values),
        "outputs": {name: numbers[value] for name, value in network.outputs.items()},
        "preprocessing": network.preprocessing.to_dict(),
        "labels": list(network.labels),
        "task": str(network.task),
    }
    return description, arrays


def restored(description: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]) -> Network:
    """The network that ``described`` wrote down.

    Raises:
        ModelError: The description is of a newer vitedge, names an operator or a type that is not
            known, lacks an array, or its shapes contradict each other.
    """
    try:
        if _whole(description["schema"]) > SCHEMA:
            raise ModelError("the model was saved by a newer vitedge; update vitedge to read it")
        values: list[Value] = []
        for each in description["values"]:
            operator = _operator(each, arrays)
            inputs = tuple(values[_place(place, values)] for place in each["inputs"])
            values.append(Value(str(each["name"]), operator, inputs))
        return Network(
            tuple(values),
            {
                str(name): values[_place(place, values)]
                for name, place in description["outputs"].items()
            },
            Preprocessing.from_dict(description["preprocessing"]),
            tuple(str(label) for label in description["labels"]),
            Task(description.get("task", Task.CLASSES)),  # files without it are classifiers
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise ModelError(f"the model's description and weights do not fit: {error}") from error


def _place(place: Any, values: list[Value]) -> int:
    if not 0 <= _whole(place) < len(values):
        raise ValueError(f"there is no value {place} before it")
    return _whole(place)


def _operator(each: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]) -> Operator:
    kind = _BY_NAME.get(str(each["operator"]))
    if kind is None:
        raise ValueError(f"'{each['operator']}' is not an operator of a network")
    read = _PARTS[kind]
    parts: dict[str, Any] = {part: read[part](each[part]) for part in read}
    for part in fields(kind):
        if part.name not in read:
            parts[part.name] = _array(arrays, f"{each['name']}.{part.name}", kind)
    return kind(**parts)


def _array(
    arrays: Mapping[str, npt.NDArray[Any]], name: str, kind: type[Operator]
) -> npt.NDArray[Any]:
    if name not in arrays:
        raise ValueError(f"the array '{name}' is missing")
    array = arrays[name]
    wanted = (np.float32, np.float64) if kind is Constant else (np.float32,)
    if array.dtype not in wanted:
        raise ValueError(f"the array '{name}' is {array.dtype}, expected float32")
    return array


def _plain(value: Any) -> Any:
    """The value as JSON holds it: lists for tuples, and names for kinds."""
    match value:
        case StrEnum():
            return str(value)
        case dict():
            return {name: _plain(each) for name, each in value.items()}
        case list() | tuple():
            return [_plain(each) for each in value]
        case _:
            return value
