"""An ONNX model on the disk: one file, or two where one cannot hold it.

A protobuf message ends at 2 GiB. Weights beyond that lie in ``NAME.onnx.data`` beside the model,
where every ONNX library looks for them (``TensorProto.external_data``).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vitedge.artifacts.metadata import METADATA_KEY, Metadata
from vitedge.converters.model_info import SECTION, model_info
from vitedge.converters.onnx.data_file import data_file

PRODUCER = "vitedge"

PROTOBUF_LIMIT = 2**31 - 1
"""Bytes of the largest message that protobuf reads and writes."""

# What the nodes, names and metadata of the deepest ViT stay well below.
_ROOM_FOR_THE_GRAPH = 16 << 20

# ONNX Runtime maps the file; pages of large tensors are 64 KiB on Windows (onnx.proto).
_ALIGNMENT = 1 << 16

# Smaller tensors are shapes and scales, which tools read while they look at the graph.
_LEAST_EXTERNAL = 1 << 10


def write_onnx(model: Any, path: Path, metadata: Metadata, *, limit: int = PROTOBUF_LIMIT) -> None:
    """Writes a ``ModelProto``, which stays unchanged.

    Args:
        model: The model; its initializers keep their values in ``raw_data``.
        path: The ``.onnx`` file; the weights go beside it when they must.
        metadata: The metadata for ``vitedge.artifacts.metadata``, and for other clients.
        limit: Largest message in bytes.
    """
    import onnx

    weights = sum(len(tensor.raw_data) for tensor in model.graph.initializer)
    finished = onnx.ModelProto()
    if weights + _ROOM_FOR_THE_GRAPH <= limit:
        finished.CopyFrom(model)
    else:
        _copy_fields(model, finished, but="graph")
        _copy_fields(model.graph, finished.graph, but="initializer")
        _write_weights(model.graph, finished.graph, data_file(path))
    # Whatever wrote the graph before, the file is ours.
    finished.producer_name = PRODUCER
    finished.producer_version = metadata.versions.get(PRODUCER, "")
    finished.metadata_props.add(key=METADATA_KEY, value=metadata.to_json())
    for key, value in model_info(metadata).items():
        finished.metadata_props.add(key=f"{SECTION} {key}", value=value)
    path.write_bytes(finished.SerializeToString())


def _copy_fields(source: Any, target: Any, *, but: str) -> None:
    # Copying a whole message would take its weights along, and those are over the limit.
    for field, value in source.ListFields():
        if field.name == but:
            continue
        if hasattr(value, "extend"):
            getattr(target, field.name).extend(value)
        elif field.message_type is not None:
            getattr(target, field.name).CopyFrom(value)
        else:
            setattr(target, field.name, value)


def _write_weights(source: Any, target: Any, path: Path) -> None:
    with path.open("wb") as stream:
        for tensor in source.initializer:
            if len(tensor.raw_data) < _LEAST_EXTERNAL:
                target.initializer.add().CopyFrom(tensor)
                continue
            stream.seek(-stream.tell() % _ALIGNMENT, 1)
            offset, length = stream.tell(), stream.write(tensor.raw_data)
            known = target.initializer.add(
                name=tensor.name, data_type=tensor.data_type, dims=tensor.dims
            )
            known.data_location = known.EXTERNAL
            where = {"location": path.name, "offset": str(offset), "length": str(length)}
            for key, value in where.items():
                known.external_data.add(key=key, value=value)
