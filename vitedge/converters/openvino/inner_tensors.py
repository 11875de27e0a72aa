"""The tensors inside an OpenVINO file, as its CPU plug-in computes them."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vitedge.artifacts.metadata import read_metadata
from vitedge.network.operators import Array


def inner_tensors(
    path: Path, names: Collection[str], pixels: npt.NDArray[np.uint8]
) -> dict[str, Array]:
    """See ``FormatTools``."""
    import openvino

    from vitedge.runtimes.openvino_runtime import exact_products

    core = openvino.Core()
    model: Any = core.read_model(str(path))
    wanted = [each for each in model.get_ordered_ops() if each.get_friendly_name() in names]
    # What is an output already is not added twice.
    model.add_outputs([operation.output(0) for operation in wanted])
    made_by = [
        output.get_node().input(0).get_source_output().get_node().get_friendly_name()
        for output in model.outputs
    ]
    config = {"INFERENCE_PRECISION_HINT": "f32"}
    metadata = read_metadata(path)
    if metadata is not None:
        config |= exact_products(metadata)
    compiled = core.compile_model(model, "CPU", config)
    request = compiled.create_infer_request()
    request.infer({0: pixels.astype(np.float32)})
    return {
        name: np.array(request.get_output_tensor(number).data)
        for number, name in enumerate(made_by)
        if name in names
    }
