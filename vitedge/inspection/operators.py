"""The operators that an artefact consists of, and the numbers that they compute with.

Read from the file itself, so that "int8" is what the graph says and not what a name promises.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from vitedge.artifacts.contents import Operator
from vitedge.artifacts.metadata import format_of
from vitedge.converters.tools import tools_of
from vitedge.errors import ModelError


def read_operators(path: Path) -> Counter[Operator]:
    """Counts the operators of an artefact, whoever wrote it.

    Raises:
        UsageError: The extension is none of an artefact's.
        ModelError: The file is missing or cannot be read.
        UnavailableError: The format's package is not installed.
    """
    tools = tools_of(format_of(path))
    if not path.is_file():
        raise ModelError(f"there is no file '{path}'")
    return Counter(tools.read_operators(path))
