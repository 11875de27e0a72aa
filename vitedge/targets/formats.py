"""The file formats that runtimes execute."""

from __future__ import annotations

from enum import StrEnum

from vitedge.targets.target import Target


class Format(StrEnum):
    """A file format that a runtime executes."""

    TFLITE = "tflite"
    ONNX = "onnx"
    OPENVINO = "openvino"

    @property
    def suffix(self) -> str:
        """The extension of the artefact's (main) file, with its dot."""
        return ".xml" if self is Format.OPENVINO else f".{self}"

    @property
    def default_target(self) -> Target:
        """Where its artefacts run unless somebody says otherwise: its own runtime, on the CPU.

        Whatever other runtimes are installed, artefacts are checked there and loaded there.
        """
        match self:
            case Format.TFLITE:
                return Target("tflite", "cpu")
            case Format.ONNX:
                return Target("onnx", "cpu")
            case Format.OPENVINO:
                return Target("openvino", "cpu")
