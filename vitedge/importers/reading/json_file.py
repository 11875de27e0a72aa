"""JSON files beside weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vitedge.errors import ModelError


def read_json(path: Path) -> Mapping[str, Any]:
    """Reads a JSON object.

    Raises:
        ModelError: The file is missing, truncated or holds something else.
    """
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"'{path}' is not readable JSON ({error})") from error
    if not isinstance(content, dict):
        raise ModelError(f"'{path}' holds no JSON object")
    return content


def peek_json(path: Path) -> Mapping[str, Any]:
    """The same, but empty where ``read_json`` would raise."""
    try:
        return read_json(path)
    except ModelError:
        return {}
