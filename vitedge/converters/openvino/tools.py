"""Tools that write and dissect OpenVINO files."""

from __future__ import annotations

from vitedge.converters.openvino.converter import OpenVINOConverter
from vitedge.converters.openvino.generic import openvino_candidates
from vitedge.converters.openvino.inner_tensors import inner_tensors
from vitedge.converters.openvino.interface import client_needs, read_interface
from vitedge.converters.openvino.operators import read_operators
from vitedge.converters.openvino.tail import with_tail
from vitedge.converters.tools import RMS_NORM, FormatTools, Variant
from vitedge.quantize import Activations
from vitedge.targets.precisions import Precision


def _variants(precision: Precision) -> tuple[Variant, ...]:
    per_token = Variant("inputs per token", activations=Activations.PER_TOKEN)
    return (RMS_NORM, per_token) if precision.rounds_inputs else (RMS_NORM,)


TOOLS = FormatTools(
    converter=OpenVINOConverter(),
    package="openvino",
    read_operators=read_operators,
    read_interface=read_interface,
    inner_tensors=inner_tensors,
    generic=openvino_candidates,
    client_needs=client_needs,
    with_tail=with_tail,
    variants=_variants,
)
