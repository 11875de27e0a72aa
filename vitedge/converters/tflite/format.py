"""TFLite as a format."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from vitedge.targets.formats import FormatRecord
from vitedge.targets.target import Target


def _read_texts(path: Path) -> Mapping[str, str]:
    from vitedge.converters.tflite.texts import read_texts

    return read_texts(path)


def _tools() -> object:
    from vitedge.converters.tflite.tools import TOOLS

    return TOOLS


PLUGIN = FormatRecord(
    name="tflite",
    order=1,
    suffix=".tflite",
    default_target=Target("tflite", "cpu"),
    extra="tflite",
    # Okabe and Ito's colours, told apart by colour-blind readers (https://jfly.uni-koeln.de/color/);
    # each has a contrast of at least 3 to the page's white and to its near-black.
    colour="#D55E00",
    read_texts=_read_texts,
    tools=_tools,
)
