"""ONNX artefacts: see ``converter`` for which graph, and why."""

from vitedge.converters.onnx.converter import PLUGIN

__all__ = ["PLUGIN"]
