"""Limits of devices that run ONNX files.

Each rule was seen in the vendor's own compiler or driver; where that is here, it has the last word.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

from vitedge.converters.tools import Rule
from vitedge.errors import missing_package
from vitedge.targets.fits import DeviceLimits

_FOREIGN_TO_HTP = {
    "Erf": "stays on the CPU and splits the graph; use Gelu",
    "DynamicQuantizeLinear": "its ranges come when it runs; the HTP needs them before",
    "MatMulInteger": "a product of dynamic integers; the HTP takes QuantizeLinear and MatMul",
}


def _refused_by_the_htp(path: Path) -> Iterator[tuple[str, str, str]]:
    try:
        import onnx
    except ImportError as error:
        raise missing_package("onnx", "convert") from error
    graph = onnx.load(str(path), load_external_data=False).graph
    is_quantized = any(node.op_type == "QuantizeLinear" for node in graph.node)
    for node in graph.node:
        name = node.name or node.output[0]
        if node.op_type in _FOREIGN_TO_HTP:
            yield node.op_type, name, _FOREIGN_TO_HTP[node.op_type]
        elif is_quantized and node.op_type in ("Sqrt", "Pow"):
            yield node.op_type, name, "a norm in parts, which the HTP gets wrong in integers"


LIMITS: Mapping[DeviceLimits, Rule] = MappingProxyType({DeviceLimits.HTP: _refused_by_the_htp})
