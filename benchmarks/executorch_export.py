"""Writes the ViT of ``engine_graph``'s graph as ExecuTorch's program for XNNPACK.

``python executorch_export.py planes.onnx out.pte [--dynamic | --static planes.npy]``: a process of
its own, because the export takes minutes on a busy machine, most of them for imports, and must end
some time. It prints how many calls of XNNPACK the program has, and which operators are left to
ExecuTorch's own kernels.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np


def main() -> None:
    """Parses the command line and exports."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("graph", type=Path)
    parser.add_argument("output", type=Path)
    quantized = parser.add_mutually_exclusive_group()
    quantized.add_argument("--dynamic", action="store_true", help="int8, ranges at run time")
    quantized.add_argument("--static", type=Path, help="int8, ranges of these planes")
    options = parser.parse_args()
    options.output.write_bytes(exported(options.graph, options.dynamic, options.static))


def exported(graph: Path, dynamic: bool, static: Path | None) -> bytes:
    """The program, in float32 or int8 by ExecuTorch's own quantizer."""
    import torch
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower
    from torch_vit import vit_of

    module = vit_of(graph, fused=False)
    shape = _input_shape(graph)
    samples = np.zeros((1, *shape), np.float32) if static is None else np.load(static)
    examples = [(torch.from_numpy(each).unsqueeze(0),) for each in samples]
    found = torch.export.export(module, examples[0])
    if dynamic or static is not None:
        made = _quantized(found.module(), examples, dynamic=dynamic)
        found = torch.export.export(made, examples[0])
    edge = to_edge_transform_and_lower(found, partitioner=[XnnpackPartitioner()])
    _say_what_is_delegated(edge.exported_program())
    program: bytes = edge.to_executorch().buffer
    return program


def _input_shape(graph: Path) -> tuple[int, ...]:
    import onnx

    planes = onnx.load(graph, load_external_data=False).graph.input[0].type.tensor_type
    return tuple(each.dim_value for each in planes.shape.dim[1:])


def _quantized(module: Any, examples: list[tuple[Any, ...]], *, dynamic: bool) -> Any:
    import torch
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
        XNNPACKQuantizer,
        get_symmetric_quantization_config,
    )
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    config = get_symmetric_quantization_config(is_per_channel=True, is_dynamic=dynamic)
    prepared = prepare_pt2e(module, XNNPACKQuantizer().set_global(config))
    with torch.no_grad():
        for each in examples:
            prepared(*each)
    return convert_pt2e(prepared)


def _say_what_is_delegated(program: Any) -> None:
    calls = [
        str(node.target.__name__) for node in program.graph.nodes if node.op == "call_function"
    ]
    counts = Counter(each for each in calls if each != "getitem")
    print(", ".join(f"{name} {count}" for name, count in counts.most_common()))


if __name__ == "__main__":
    main()
