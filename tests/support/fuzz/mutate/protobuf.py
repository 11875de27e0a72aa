"""Protobuf messages of any schema, field by field."""

from __future__ import annotations

from random import Random
from typing import Any

from tests.support.fuzz.mutate.raw import INTEGERS, mutate_bytes

_TEXTS = (
    "",
    "a",
    "../x",
    "/etc/passwd",
    "x" * 70_000,
    "\x1b[31m",
    "Loop",
    "If",
    "MatMul",
    "PyFunc",
)
_FLOATS = (0.0, -1.0, float("nan"), float("inf"), 1e38, 1e-38)


def mutate_message(message: Any, rng: Random) -> None:
    """Changes one to four fields anywhere in a message."""
    for _ in range(rng.choice((1, 1, 2, 4))):
        holders = list(_messages(message))
        holder = rng.choice(holders)
        fields = holder.ListFields()
        if fields:
            field, value = rng.choice(fields)
            try:
                _change(holder, field, value, holders, rng)
            except (TypeError, ValueError):  # a number that the field's type does not hold
                holder.ClearField(field.name)


def _messages(message: Any) -> Any:
    yield message
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        if not field.is_repeated:
            yield from _messages(value)
        elif not field.message_type.GetOptions().map_entry:
            for each in value:
                yield from _messages(each)
        elif field.message_type.fields_by_name["value"].message_type is not None:
            for each in value.values():
                yield from _messages(each)


def _change(holder: Any, field: Any, value: Any, holders: list[Any], rng: Random) -> None:
    is_map = field.message_type is not None and field.message_type.GetOptions().map_entry
    if rng.random() < 0.15:
        holder.ClearField(field.name)
    elif is_map:
        del value[rng.choice(list(value))]
    elif field.message_type is not None:
        _change_messages(holder, field, value, holders, rng)
    elif field.is_repeated:
        at = rng.randrange(len(value))
        match rng.randrange(4):
            case 0:
                del value[at]
            case 1:
                value.append(value[at])
            case _:
                value[at] = _scalar(value[at], rng)
    else:
        setattr(holder, field.name, _scalar(value, rng))


def _change_messages(holder: Any, field: Any, value: Any, holders: list[Any], rng: Random) -> None:
    """Removes a message, or puts another of its type in its place."""
    others = [each for each in holders if each.DESCRIPTOR is field.message_type]
    if not field.is_repeated:
        value.CopyFrom(_copy(rng.choice(others)))
        return
    at = rng.randrange(len(value))
    match rng.randrange(4):
        case 0:
            del value[at]
        case 1:
            value.append(_copy(value[at]))
        case 2:
            value[at].CopyFrom(_copy(rng.choice(others)))
        case 3:
            other = rng.randrange(len(value))
            first, second = _copy(value[at]), _copy(value[other])
            value[at].CopyFrom(second)
            value[other].CopyFrom(first)


def _copy(message: Any) -> Any:
    copy = type(message)()
    copy.CopyFrom(message)
    return copy


def _scalar(value: Any, rng: Random) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return rng.choice((*INTEGERS, value + 1, value - 1, value * 2, -value))
    if isinstance(value, float):
        return rng.choice(_FLOATS)
    if isinstance(value, str):
        return rng.choice((*_TEXTS, value + "x", value[1:]))
    return mutate_bytes(value, rng)
