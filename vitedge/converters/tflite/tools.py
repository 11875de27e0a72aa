"""Tools that write and dissect TFLite files."""

from __future__ import annotations

from pathlib import Path
from zipfile import is_zipfile

from vitedge.artifacts.metadata import Metadata
from vitedge.converters.tflite.converter import TFLiteConverter
from vitedge.converters.tflite.generic import tflite_candidates
from vitedge.converters.tflite.inner_tensors import inner_tensors
from vitedge.converters.tflite.interface import client_needs, read_interface
from vitedge.converters.tflite.limits import LIMITS
from vitedge.converters.tflite.metadata import append_labels
from vitedge.converters.tflite.operators import read_operators
from vitedge.converters.tools import FormatTools, Variant
from vitedge.targets.precisions import Precision


def _variants(precision: Precision) -> tuple[Variant, ...]:
    return (Variant("LayerNorm", ()),)


def _finish_compiled(path: Path, metadata: Metadata) -> None:
    # Compilers keep what is inside the flatbuffer; the labels for other clients lie behind it.
    if not is_zipfile(path):
        append_labels(path, metadata)


TOOLS = FormatTools(
    converter=TFLiteConverter(),
    package="ai-edge-litert",
    read_operators=read_operators,
    read_interface=read_interface,
    inner_tensors=inner_tensors,
    generic=tflite_candidates,
    client_needs=client_needs,
    variants=_variants,
    limits=LIMITS,
    finish_compiled=_finish_compiled,
)
