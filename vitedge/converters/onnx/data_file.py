"""The file beside a model for weights that one protobuf message cannot hold: over 2 GiB."""

from __future__ import annotations

from pathlib import Path


def data_file(path: Path) -> Path:
    """The file beside an ONNX model, whether it exists or not."""
    return path.with_name(f"{path.name}.data")
