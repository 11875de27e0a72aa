"""The tensors inside an ONNX file, as ONNX Runtime computes them."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vitedge.files.temporary import temporary_folder
from vitedge.network.operators import Array


def inner_tensors(
    path: Path, names: Collection[str], pixels: npt.NDArray[np.uint8]
) -> dict[str, Array]:
    """See ``FormatTools``."""
    import onnx
    import onnxruntime

    from vitedge.runtimes.onnx_runtime import multiply_exactly

    model = onnx.load(str(path))
    made = [output for node in model.graph.node for output in node.output if output in names]
    shown = {output.name for output in model.graph.output}
    further = [name for name in made if name not in shown]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in further)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    multiply_exactly(options)
    with temporary_folder() as folder:
        copy = folder / "model.onnx"
        onnx.save(model, str(copy), save_as_external_data=model.ByteSize() > 1 << 30)
        session = onnxruntime.InferenceSession(
            str(copy), options, providers=["CPUExecutionProvider"]
        )
    (taken,) = session.get_inputs()
    dtype = np.uint8 if "uint8" in taken.type else np.float32
    return dict(zip(made, session.run(made, {taken.name: pixels.astype(dtype)}), strict=True))
