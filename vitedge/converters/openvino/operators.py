"""The operators of an OpenVINO file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from vitedge.artifacts.contents import Operator
from vitedge.errors import ModelError

# Where OpenVINO calls an element type otherwise than NumPy.
_NUMPY_NAMES = {
    "fp32": "float32",
    "fp16": "float16",
    "i4": "int4",
    "u4": "uint4",
    "i8": "int8",
    "u8": "uint8",
    "i32": "int32",
    "i64": "int64",
}


def read_operators(path: Path) -> Iterator[Operator]:
    """See ``FormatTools``."""
    try:
        network = ElementTree.parse(path).getroot()
    except (ElementTree.ParseError, LookupError, ValueError) as error:
        raise ModelError(f"'{path}' is truncated or not an OpenVINO file ({error})") from error
    for layer in network.iterfind("layers/layer"):
        if layer.get("type") in ("Const", "Parameter", "Result"):
            continue
        ports = {
            side: tuple(
                _numpy_name(port.get("precision") or "-") for port in layer.iterfind(f"{side}/port")
            )
            for side in ("input", "output")
        }
        yield Operator(layer.get("type") or "?", ports["input"], ports["output"])


def _numpy_name(element_type: str) -> str:
    return _NUMPY_NAMES.get(element_type.lower(), element_type.lower())
