"""The inputs and outputs of an ONNX file, and who else takes it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from vitedge.artifacts.contents import Interface, Port
from vitedge.artifacts.metadata import (
    CHANNELS_FIRST_PIXELS,
    LOGITS_SCALE_KEY,
    LOGITS_ZERO_POINT_KEY,
    Metadata,
)
from vitedge.converters.model_info import model_api_needs
from vitedge.errors import ModelError, missing_package
from vitedge.network.tasks import Task


def read_interface(path: Path) -> Interface:
    """See ``FormatTools``."""
    try:
        import onnx
    except ImportError as error:
        raise missing_package("onnx", "convert") from error
    try:
        model = onnx.load(path, load_external_data=False)
        held = {each.name for each in model.graph.initializer}
        props = {each.key: each.value for each in model.metadata_props}
        inputs = tuple(_port(each) for each in model.graph.input if each.name not in held)
        outputs = tuple(map(_port, model.graph.output))
        if LOGITS_SCALE_KEY in props and outputs:
            scale, zero = float(props[LOGITS_SCALE_KEY]), int(props[LOGITS_ZERO_POINT_KEY])
            outputs = (replace(outputs[0], scale=scale, zero_point=zero), *outputs[1:])
    except Exception as error:  # onnx and protobuf raise errors without a common base
        raise ModelError(f"'{path}' is truncated or not an ONNX file") from error
    return Interface(inputs, outputs, frozenset(key.partition(" ")[0] for key in props))


def _port(value: Any) -> Port:
    import onnx

    tensor = value.type.tensor_type
    shape = tuple(
        int(each.dim_value) if each.HasField("dim_value") else -1 for each in tensor.shape.dim
    )
    dtype = onnx.TensorProto.DataType.Name(tensor.elem_type).lower()
    return Port(value.name, shape, {"float": "float32", "double": "float64"}.get(dtype, dtype))


def client_needs(found: Interface, metadata: Metadata | None) -> dict[str, str]:
    """See ``FormatTools``."""
    given = [port.name for port in found.inputs] == [CHANNELS_FIRST_PIXELS]
    missing = "" if given else "other names and configs: convert with --layout huggingface"
    if metadata is not None and metadata.task not in (Task.CLASSES, Task.EMBEDDING, Task.MAP):
        missing = f"a model of classes, an embedding or a map, not {metadata.task.words}"
    return {**model_api_needs(found, metadata), "transformers.js and Optimum": missing}
