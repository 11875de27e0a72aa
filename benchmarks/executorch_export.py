"""Writes the graph of ``engine_graph`` as ExecuTorch's program for XNNPACK.

``python executorch_export.py planes.onnx out.pte [--dynamic]``: a process of its own, because the
export takes minutes on a busy machine, most of them for imports, and must end some time.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def main() -> None:
    """Parses the command line and exports."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("graph", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--dynamic", action="store_true", help="int8 by ExecuTorch's own quantizer")
    options = parser.parse_args()
    options.output.write_bytes(exported(options.graph, dynamic=options.dynamic))


def exported(graph: Path, *, dynamic: bool) -> bytes:
    """The program, in float32 or with dynamic int8."""
    import onnx
    import torch
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower
    from torch_graph import module_of

    planes = onnx.load(graph, load_external_data=False).graph.input[0].type.tensor_type
    example = (torch.zeros(*(each.dim_value for each in planes.shape.dim)),)
    found = torch.export.export(module_of(graph), example)
    if dynamic:
        found = torch.export.export(_quantized(found.module(), example), example)
    edge = to_edge_transform_and_lower(found, partitioner=[XnnpackPartitioner()])
    program: bytes = edge.to_executorch().buffer
    return program


def _quantized(module: Any, example: tuple[Any, ...]) -> Any:
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
        XNNPACKQuantizer,
        get_symmetric_quantization_config,
    )
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    config = get_symmetric_quantization_config(is_per_channel=True, is_dynamic=True)
    prepared = prepare_pt2e(module, XNNPACKQuantizer().set_global(config))
    prepared(*example)
    return convert_pt2e(prepared)


if __name__ == "__main__":
    main()
