"""OpenVINO as a format."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from vitedge.targets.formats import FormatRecord
from vitedge.targets.target import Target


def _beside(path: Path) -> tuple[Path, ...]:
    return (path.with_suffix(".bin"),)


def _read_texts(path: Path) -> Mapping[str, str]:
    from vitedge.converters.openvino.texts import read_texts

    return read_texts(path)


def _name_weights(main: bytes, digest: str) -> bytes:
    from vitedge.converters.openvino.texts import name_weights

    return name_weights(main, digest)


def _tools() -> object:
    from vitedge.converters.openvino.tools import TOOLS

    return TOOLS


PLUGIN = FormatRecord(
    name="openvino",
    order=3,
    suffix=".xml",
    default_target=Target("openvino", "cpu"),
    extra="openvino",
    colour="#009E73",  # as told in ``tflite.format``
    beside=_beside,
    read_texts=_read_texts,
    name_weights=_name_weights,
    tools=_tools,
)
