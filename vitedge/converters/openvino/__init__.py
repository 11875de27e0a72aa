"""OpenVINO artefacts: see ``converter`` for which graph, and why."""

from vitedge.converters.openvino.converter import PLUGIN

__all__ = ["PLUGIN"]
