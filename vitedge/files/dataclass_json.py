"""Makes frozen dataclasses of the JSON that was made of them."""

from __future__ import annotations

import reprlib
import types
import typing
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any, TypeVar, get_args, get_origin

from vitedge.targets.open_names import OpenName
from vitedge.targets.target import Target

T = TypeVar("T")


def from_plain(kind: type[T], values: Mapping[str, Any]) -> T:
    """Builds a dataclass from what ``dataclasses.asdict`` and JSON made of one.

    Fields that the class does not have are left out, and those that the JSON does not have take
    their defaults: the two sides may be a version apart.

    Raises:
        ValueError: A field without a default is missing, or a value is of another kind.
    """
    if not isinstance(values, Mapping):
        raise ValueError(f"{reprlib.repr(values)} is no {kind.__name__}")
    known = typing.get_type_hints(kind)
    found = {
        each.name: _value(known[each.name], values[each.name])
        for each in fields(kind)  # type: ignore[arg-type]  # any dataclass
        if each.name in values
    }
    try:
        return kind(**found)
    except TypeError as error:
        raise ValueError(f"this is no {kind.__name__}: {error}") from error


def _value(hint: Any, value: Any) -> Any:
    if hint is Target:
        return Target.parse(value) if isinstance(value, str) else Target(**value)
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None:
            return None
        (inner,) = [each for each in arguments if each is not type(None)]
        return _value(inner, value)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise ValueError(f"{reprlib.repr(value)} is not a list")
        return tuple(_value(arguments[0], each) for each in value)
    if origin in (Mapping, dict):
        return {str(key): _value(arguments[1], each) for key, each in dict(value).items()}
    if isinstance(hint, type):
        if is_dataclass(hint):
            return from_plain(hint, value)
        if issubclass(hint, Enum | OpenName):
            return hint(value)
        expected = (int, float) if hint is float else hint
        if not isinstance(value, expected) or (isinstance(value, bool) and hint is not bool):
            raise ValueError(f"{reprlib.repr(value)} is no {hint.__name__}")
    return value
