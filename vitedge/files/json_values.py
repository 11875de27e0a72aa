"""JSON from files that anybody may have written, and its values by type.

All functions raise ``ValueError`` with a message of one line; whoever opens a file says which.
"""

from __future__ import annotations

import json
import math
import reprlib
from collections.abc import Mapping
from typing import Any, NoReturn

# No format here counts beyond 64 bits. Values that nobody reads may be greater, such as the
# 10^30 of Hugging Face's tokenizers.
_LARGEST = 2**63
_MOST_DIGITS = 100


def parse_json(content: str | bytes) -> Any:
    """Parses JSON as its standard has it: no NaN, no infinity, no number of hundreds of digits.

    Args:
        content: The text, or its UTF-8.

    Raises:
        ValueError: ``content`` is not such JSON, or is nested too deeply to parse.
    """
    text = content.decode("utf-8-sig") if isinstance(content, bytes) else content
    try:
        values = json.loads(
            text, parse_constant=_refuse_constant, parse_float=_finite, parse_int=_bounded
        )
    except RecursionError as error:
        raise ValueError("its JSON is nested too deeply") from error
    if "\\ud" in text or "\\uD" in text:
        # Halves of surrogate pairs are JSON, but no text that could be printed or written.
        json.dumps(values, ensure_ascii=False).encode()
    return values


def parse_object(content: str | bytes) -> Mapping[str, Any]:
    """Parses JSON that must be an object.

    Raises:
        ValueError: ``content`` is not an object, or ``parse_json`` refuses it.
    """
    values = parse_json(content)
    if not isinstance(values, dict):
        raise ValueError(f"{shown(values)} is not a JSON object")
    return values


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a number of JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {shown(text)} is out of range")
    return value


def _bounded(text: str) -> int:
    # Python refuses to parse numbers of thousands of digits, which take it quadratic time.
    if len(text) > _MOST_DIGITS:
        raise ValueError(f"the number {shown(text)} is out of range")
    return int(text)


def text(values: Mapping[str, Any], key: str) -> str:
    """A text by its key."""
    value = _value(values, key)
    if not isinstance(value, str):
        raise ValueError(f"'{key}' is {shown(value)}, not a text")
    return value


def texts(values: Mapping[str, Any], key: str) -> tuple[str, ...]:
    """A list of texts by its key."""
    value = _value(values, key)
    if not isinstance(value, list | tuple) or not all(isinstance(each, str) for each in value):
        raise ValueError(f"'{key}' is {shown(value)}, not a list of texts")
    return tuple(value)


def whole(values: Mapping[str, Any], key: str, *, least: int = 0) -> int:
    """A whole number by its key."""
    return _whole(key, _value(values, key), least)


def wholes(values: Mapping[str, Any], key: str, *, least: int = 0) -> tuple[int, ...]:
    """A list of whole numbers by its key."""
    value = _value(values, key)
    if not isinstance(value, list | tuple):
        raise ValueError(f"'{key}' is {shown(value)}, not a list of whole numbers")
    return tuple(_whole(key, each, least) for each in value)


def number(values: Mapping[str, Any], key: str) -> float:
    """A finite number by its key."""
    return _number(key, _value(values, key))


def numbers(values: Mapping[str, Any], key: str) -> tuple[float, ...]:
    """A list of finite numbers by its key."""
    value = _value(values, key)
    if not isinstance(value, list | tuple):
        raise ValueError(f"'{key}' is {shown(value)}, not a list of numbers")
    return tuple(_number(key, each) for each in value)


def mapping(values: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """An object by its key."""
    value = _value(values, key)
    if not isinstance(value, Mapping):
        raise ValueError(f"'{key}' is {shown(value)}, not an object")
    return value


def objects(values: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    """A list of objects by its key."""
    value = _value(values, key)
    if not isinstance(value, list) or not all(isinstance(each, Mapping) for each in value):
        raise ValueError(f"'{key}' is {shown(value)}, not a list of objects")
    return value


def text_mapping(values: Mapping[str, Any], key: str) -> dict[str, str]:
    """An object of texts by its key."""
    found = mapping(values, key)
    return {name: text(found, name) for name in found}


def shown(value: object) -> str:
    """A value in a message, shortened."""
    return reprlib.repr(value)


def _value(values: Mapping[str, Any], key: str) -> Any:
    if key not in values:
        raise ValueError(f"'{key}' is missing")
    return values[key]


def _whole(key: str, value: object, least: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value < _LARGEST:
        raise ValueError(f"'{key}' is {shown(value)}, not a whole number of at least {least}")
    return value


def _number(key: str, value: object) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value):  # type: ignore[arg-type]
        raise ValueError(f"'{key}' is {shown(value)}, not a finite number")
    return float(value)  # type: ignore[arg-type]
