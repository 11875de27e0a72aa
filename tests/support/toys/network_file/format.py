"""The toy as a format."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from vitedge.targets.formats import FormatRecord
from vitedge.targets.target import Target


def _read_texts(path: Path) -> Mapping[str, str]:
    from tests.support.toys.network_file.file import read_texts

    return read_texts(path)


def _tools() -> object:
    from tests.support.toys.network_file.tools import TOOLS

    return TOOLS


PLUGIN = FormatRecord(
    name="toy",
    order=9,
    suffix=".toy",
    default_target=Target("toy", "numpy"),
    extra="toy",
    colour="#CC79A7",
    read_texts=_read_texts,
    tools=_tools,
)
