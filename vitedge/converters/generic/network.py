"""What the generic path needs of a source: graphs that take raw pixels and give logits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from vitedge.errors import ConversionError, first_line, missing_package
from vitedge.importers.lift import Probe
from vitedge.importers.lift.graph import Graph
from vitedge.importers.lift.input_range import InputRange
from vitedge.terminal.silence import overheard

PIXELS, LOGITS = "pixels", "logits"
"""What every artefact calls its input and its output."""


class Network(Protocol):
    """A source as each format's own converter takes it.

    Every graph maps ``pixels`` ``(batch, H, W, C)``, float32 0..255, to ``logits``
    ``(batch, classes)``; its shapes are constant, and normalisation lies inside.
    """

    @property
    def probe(self) -> Probe:
        """The source in its own engine."""
        ...

    @property
    def parameters(self) -> int:
        """Number of weights."""
        ...

    def to_tensorflow(self, taken: InputRange, batch: int) -> Any:
        """A ``GraphDef`` without variables.

        Raises:
            ConversionError: This kind of source cannot become one, or not at this batch size.
        """
        ...

    def to_onnx(self, taken: InputRange, batch: int) -> Any:
        """An ``onnx.ModelProto``.

        Raises:
            ConversionError: ONNX cannot express the model, or not at this batch size.
        """
        ...

    def to_openvino(self, taken: InputRange, batch: int) -> Any:
        """An ``openvino.Model``.

        Raises:
            ConversionError: OpenVINO cannot express the model, or not at this batch size.
        """
        ...


def has_attention(graph: Graph) -> bool:
    """Whether the model multiplies two tensors that both depend on the image."""
    return any(graph.is_bilinear(node) for node in graph.live_nodes)


def read_into_openvino(read: Callable[[Any], Any]) -> Any:
    """What one of OpenVINO's frontends makes of a model, with our names.

    Args:
        read: Given the module ``openvino``, returns an ``openvino.Model``.

    Raises:
        ConversionError: The frontend cannot read the model.
        UnavailableError: OpenVINO is missing.
    """
    try:
        import openvino
    except ImportError as error:
        raise missing_package("openvino", "convert") from error
    try:
        with overheard():
            model = read(openvino)
    except Exception as error:  # each frontend raises its own kinds
        raise ConversionError(f"OpenVINO cannot convert the model: {_reason(error)}") from error
    model.inputs[0].get_tensor().set_names({PIXELS})
    model.outputs[0].get_tensor().set_names({LOGITS})
    return model


def _reason(error: Exception) -> str:
    """The operators that have no rule, where a report of many lines names them."""
    lines = [line.strip() for line in str(error).splitlines()]
    return next((line for line in lines if "No conversion rule" in line), first_line(error))
