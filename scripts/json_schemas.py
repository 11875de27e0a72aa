"""Writes the JSON schemas of what vitedge writes for programs, out of the dataclasses themselves.

``python scripts/json_schemas.py`` writes ``docs/schemas/``; a test compares it with the classes, so
that a schema never says anything else than the code.
"""

from __future__ import annotations

import inspect
import json
import re
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any, get_args, get_origin

from vitedge.artifacts.metadata import SCHEMA_VERSION, Metadata
from vitedge.report.results import Report
from vitedge.targets.open_names import OpenName
from vitedge.targets.target import Target

FOLDER = Path(__file__).parents[1] / "docs" / "schemas"
_DIALECT = "https://json-schema.org/draft/2020-12/schema"

_PLAIN = {str: "string", bool: "boolean", int: "integer", float: "number"}


def main() -> None:
    """Writes all schemas."""
    FOLDER.mkdir(exist_ok=True)
    for name, text in schemas().items():
        (FOLDER / name).write_text(text, "utf-8")


def schemas() -> dict[str, str]:
    """Each schema by the name of its file."""
    metadata = _document(Metadata, "What lies inside an artefact, under the key 'vitedge'")
    metadata["properties"] = {
        "schema": {
            "enum": list(range(1, SCHEMA_VERSION + 1)),
            "description": "2 where 'task' is not 'classes'.",
        }
    } | metadata["properties"]
    metadata["required"] = ["schema", *metadata["required"]]
    report = _document(Report, "What 'vitedge bench --json' and 'vitedge pick --json' write")
    found = {"metadata.schema.json": metadata, "report.schema.json": report}
    return {name: json.dumps(each, indent=2) + "\n" for name, each in found.items()}


def _document(kind: type, title: str) -> dict[str, Any]:
    inner: dict[str, Any] = {}
    return {
        "$schema": _DIALECT,
        "title": title,
        # Later versions may add keys; see docs/stability.md.
        **_object(kind, inner),
        "$defs": dict(sorted(inner.items())),
    }


def _object(kind: type, inner: dict[str, Any]) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    words = _attributes(kind)
    properties = {
        each.name: _of(hints[each.name], inner) | _described(words.get(each.name))
        for each in fields(kind)
    }
    required = [
        each.name
        for each in fields(kind)
        if each.default is MISSING and each.default_factory is MISSING
    ]
    return {"type": "object", "properties": properties, "required": required}


def _of(hint: Any, inner: dict[str, Any]) -> dict[str, Any]:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return {"anyOf": [_of(each, inner) for each in arguments]}
    if hint is type(None):
        return {"type": "null"}
    if origin in (tuple, Sequence, list):
        return _array(arguments, inner)
    if origin in (Mapping, dict):
        return {"type": "object", "additionalProperties": _of(arguments[1], inner)}
    if hint in _PLAIN:
        return {"type": _PLAIN[hint]}
    if hint is Target or issubclass(hint, OpenName):
        return {"type": "string"}  # packages outside may add some
    if issubclass(hint, Enum):
        return {"enum": [each.value for each in hint]}
    if is_dataclass(hint):
        if hint.__name__ not in inner:
            inner[hint.__name__] = {}  # in case it holds itself
            inner[hint.__name__] = _object(hint, inner)
        return {"$ref": f"#/$defs/{hint.__name__}"}
    raise TypeError(f"{hint} has no JSON schema yet")


def _array(arguments: tuple[Any, ...], inner: dict[str, Any]) -> dict[str, Any]:
    if len(arguments) == 1 or arguments[-1] is Ellipsis:
        return {"type": "array", "items": _of(arguments[0], inner)}
    return {
        "type": "array",
        "prefixItems": [_of(each, inner) for each in arguments],
        "minItems": len(arguments),
        "maxItems": len(arguments),
    }


def _described(words: str | None) -> dict[str, str]:
    return {} if words is None else {"description": words}


def _attributes(kind: type) -> dict[str, str]:
    """What a Google-style docstring says of each attribute, without its markup."""
    _, _, listed = (inspect.getdoc(kind) or "").partition("Attributes:\n")
    found = re.findall(r"^    (\w+): (.*(?:\n        .*)*)", listed, re.MULTILINE)
    return {name: _plain(words) for name, words in found}


def _plain(words: str) -> str:
    """Words about Python as words about JSON."""
    return re.sub(r"\bNone\b", "null", re.sub(r"\s+", " ", words).replace("``", "'"))


if __name__ == "__main__":
    main()
