"""The tensors inside a TFLite file, as LiteRT computes them."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vitedge.artifacts.integer_values import dequantize_output, quantize_input
from vitedge.network.operators import Array


def inner_tensors(
    path: Path, names: Collection[str], pixels: npt.NDArray[np.uint8]
) -> dict[str, Array]:
    """See ``FormatTools``."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.interpreter import Interpreter

    model = schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0)
    (graph,) = model.subgraphs
    numbers = {
        tensor.name.decode(): number
        for number, tensor in enumerate(graph.tensors)
        if tensor.name.decode() in names
    }
    graph.outputs = np.asarray(list(numbers.values()), np.int32)
    model.signatureDefs = []
    builder = flatbuffers.Builder(path.stat().st_size)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    interpreter = Interpreter(model_content=bytes(builder.Output()))
    interpreter.allocate_tensors()
    (taken,) = interpreter.get_input_details()
    values = quantize_input(pixels, taken["dtype"], *taken["quantization"])
    interpreter.set_tensor(taken["index"], values)
    interpreter.invoke()
    return {
        given["name"]: dequantize_output(
            interpreter.get_tensor(given["index"]), *given["quantization"]
        )
        for given in interpreter.get_output_details()
    }
