"""The file formats that runtimes execute."""

from __future__ import annotations

from enum import StrEnum


class Format(StrEnum):
    """A file format that a runtime executes."""

    TFLITE = "tflite"
    ONNX = "onnx"
    OPENVINO = "openvino"

    @property
    def suffix(self) -> str:
        """The extension of the artefact's (main) file, with its dot."""
        return ".xml" if self is Format.OPENVINO else f".{self}"
