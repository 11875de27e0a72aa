"""Tools that write and dissect ONNX files."""

from __future__ import annotations

from vitedge.converters.onnx.converter import OnnxConverter
from vitedge.converters.onnx.generic import onnx_candidates
from vitedge.converters.onnx.inner_tensors import inner_tensors
from vitedge.converters.onnx.interface import client_needs, read_interface
from vitedge.converters.onnx.limits import LIMITS
from vitedge.converters.onnx.operators import read_operators
from vitedge.converters.onnx.tail import with_tail
from vitedge.converters.tools import RMS_NORM, FormatTools, Variant
from vitedge.quantize import Activations
from vitedge.targets.precisions import Precision


def _variants(precision: Precision) -> tuple[Variant, ...]:
    static = Variant("static inputs", activations=Activations.STATIC)
    return (RMS_NORM, static) if precision.rounds_inputs else (RMS_NORM,)


TOOLS = FormatTools(
    converter=OnnxConverter(),
    package="onnx",
    read_operators=read_operators,
    read_interface=read_interface,
    inner_tensors=inner_tensors,
    generic=onnx_candidates,
    client_needs=client_needs,
    with_tail=with_tail,
    variants=_variants,
    limits=LIMITS,
)
