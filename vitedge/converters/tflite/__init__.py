"""TFLite artefacts: see ``converter`` for which graph, and why."""

from vitedge.converters.tflite.converter import PLUGIN

__all__ = ["PLUGIN"]
