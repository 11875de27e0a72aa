"""JSON files beside weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vitedge.errors import ModelError, SizeError
from vitedge.files.json_values import parse_object
from vitedge.files.limits import refuse_long_text


def read_json(path: Path) -> Mapping[str, Any]:
    """Reads a JSON object.

    Raises:
        ModelError: The file is missing, truncated or holds something else.
        SizeError: The text is too long.
    """
    try:
        refuse_long_text(f"'{path}'", path.stat().st_size)
        return parse_object(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ModelError(f"'{path}' is not readable JSON ({error})") from error


def peek_json(path: Path) -> Mapping[str, Any]:
    """Reads JSON, but gives nothing if ``read_json`` would raise anything except ``SizeError``."""
    try:
        return read_json(path)
    except SizeError:
        raise
    except ModelError:
        return {}
