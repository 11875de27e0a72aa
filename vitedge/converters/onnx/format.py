"""ONNX as a format."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from vitedge.converters.onnx.data_file import data_file
from vitedge.targets.formats import FormatRecord
from vitedge.targets.target import Target


def _beside(path: Path) -> tuple[Path, ...]:
    data = data_file(path)
    return (data,) if data.exists() else ()


def _read_texts(path: Path) -> Mapping[str, str]:
    from vitedge.converters.onnx.texts import read_texts

    return read_texts(path)


def _name_weights(main: bytes, digest: str) -> bytes:
    from vitedge.converters.onnx.texts import name_weights

    return name_weights(main, digest)


def _tools() -> object:
    from vitedge.converters.onnx.tools import TOOLS

    return TOOLS


PLUGIN = FormatRecord(
    name="onnx",
    order=2,
    suffix=".onnx",
    default_target=Target("onnx", "cpu"),
    extra="onnx",
    colour="#0072B2",  # as told in ``tflite.format``
    beside=_beside,
    read_texts=_read_texts,
    name_weights=_name_weights,
    tools=_tools,
)
