"""JSON whose values, keys and nesting are not what a parser expects."""

from __future__ import annotations

import copy
import json
from random import Random
from typing import Any

from tests.support.fuzz.mutate.raw import mutate_bytes


class Verbatim(str):
    """Text that goes into the JSON as it is."""

    __slots__ = ()


NASTY: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2, 3, 0.5, 1e-300, 1e300, 10**9, 2**31, 2**63, 2**64, 10**40),
    *(Verbatim("1e999"), Verbatim("-1e999"), Verbatim("NaN"), Verbatim("9" * 5000)),
    *(Verbatim("[" * 100_000), Verbatim("[" * 500 + "]" * 500), Verbatim('{"a":' * 100_000)),
    *("", "a", "9" * 5000, "x" * 70_000, "../x", "/etc/passwd", "\x00", "\ud800", "\x1b[31mred"),
    *("[/x]", "<script>", "=1+1", "float32", "int8", "complex64"),
    *([], {}, [0], [1, 2], [-1, -1], [[[]]], ["a"] * 3, {"a": 1}, {"0": 1}),
)


def mutate_json(text: bytes, rng: Random) -> bytes:
    """One to three changed values or keys; now and then damaged bytes or a key given twice."""
    if rng.random() < 0.2:
        return mutate_bytes(text, rng)
    try:
        return _mutated(json.loads(text), rng)
    except (ValueError, RecursionError):  # mutated before
        return mutate_bytes(text, rng)


def _mutated(value: Any, rng: Random) -> bytes:
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        places = list(_places(value))
        if places:
            holder, key = rng.choice(places)
            _change(holder, key, places, rng)
    written = _dumps(value)
    if rng.random() < 0.02 and written.startswith('{"'):
        written = f"{written[:-1]},{written[1:]}"
    return written.encode("utf-8", "surrogatepass")


def nasty(rng: Random) -> Any:
    """A value that few expect."""
    return copy.deepcopy(rng.choice(NASTY))


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Every container with every key or index of it."""
    found, waiting = [], [value]
    while waiting:
        holder = waiting.pop()
        if isinstance(holder, dict):
            keys: Any = list(holder)
        elif isinstance(holder, list):
            keys = range(len(holder))
        else:
            continue
        for key in keys:
            found.append((holder, key))
            waiting.append(holder[key])
    return found


def _change(holder: Any, key: Any, places: list[tuple[Any, Any]], rng: Random) -> None:
    old = holder[key]
    match rng.randrange(6):
        case 0:
            del holder[key]
        case 1 if isinstance(holder, dict):
            holder[str(nasty(rng))[:50]] = holder.pop(key)
        case 2:
            other, at = rng.choice(places)
            holder[key] = copy.deepcopy(other[at])  # a copy, so that no cycle arises
        case 3 | 4 if isinstance(old, int | float) and not isinstance(old, bool):
            holder[key] = rng.choice(
                (0, -1, old + 1, old - 1, old * 2, -old, old / 3, 10**12, 2**63, str(old))
            )
        case _:
            holder[key] = nasty(rng)


def _dumps(value: Any) -> str:
    if isinstance(value, Verbatim):
        return str(value)
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(k)}:{_dumps(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_dumps, value)) + "]"
    return json.dumps(value)
