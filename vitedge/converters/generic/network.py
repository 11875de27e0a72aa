"""Graphs that take raw pixels and give logits, which the generic path needs of a source."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from vitedge.errors import ConversionError, first_line, missing_package
from vitedge.importers.lift import Probe
from vitedge.importers.lift.embedding import channels_first
from vitedge.importers.lift.ending import Ending
from vitedge.importers.lift.graph import Graph
from vitedge.importers.lift.input_range import InputRange
from vitedge.network.tasks import Task
from vitedge.terminal.silence import overheard

PIXELS = "pixels"
"""What every artefact calls its input."""


@dataclass(frozen=True)
class Answer:
    """The output of an artefact in place of the source's.

    Attributes:
        name: The name of the output in artefacts.
        shape: The shape for one image in the source, without axes of size 1.
        axes: The order of those axes in artefacts; empty where it stays.
        is_before_activation: Artefacts give what the source's softmax or sigmoid reads.
    """

    name: str
    shape: tuple[int, ...]
    axes: tuple[int, ...] = ()
    is_before_activation: bool = False

    @classmethod
    def of_model(
        cls, ending: Ending, shape: Sequence[int], image_shape: tuple[int, int, int]
    ) -> Answer:
        """The answer of a model that ends so; maps get their channels last, as images are here.

        Args:
            ending: The end of the model.
            shape: The shape of its output for one image.
            image_shape: The shape of the image, as the model takes it: maps have the same layout.
        """
        kept = tuple(size for size in shape if size > 1) or (1,)
        turned = ending.task is Task.MAP and len(kept) == 3 and channels_first(image_shape)
        axes = (1, 2, 0) if turned else ()
        return cls(ending.task.output, kept, axes, ending.before is not None)

    @property
    def shape_given(self) -> tuple[int, ...]:
        """The shape of one image's output in artefacts."""
        return tuple(self.shape[axis] for axis in self.axes) or self.shape

    def of(self, made: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """An artefact's values in place of these of the source, ``(N, ...)``."""
        shaped = made.reshape(-1, *self.shape)
        return shaped.transpose(self.order) if self.axes else shaped

    @property
    def order(self) -> tuple[int, ...]:
        """``axes`` behind the batch axis."""
        return (0, *(axis + 1 for axis in self.axes))


class Network(Protocol):
    """A source as each format's own converter takes it.

    Every graph maps ``pixels`` ``(batch, H, W, C)``, float32 0..255, to ``logits``
    ``(batch, classes)`` or what ``answer`` says; its shapes are constant, and normalisation lies
    inside.

    Attributes:
        answer: The changes to the output; set before a graph is asked for.
    """

    answer: Answer

    @property
    def probe(self) -> Probe:
        """The source in its own engine."""
        ...

    @property
    def parameters(self) -> int:
        """Number of weights."""
        ...

    @property
    def left_out(self) -> Sequence[str]:
        """Names of the source's outputs that are not converted."""
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


def read_into_openvino(read: Callable[[Any], Any], answer: Answer) -> Any:
    """The model as one of OpenVINO's frontends reads it, with our names.

    Args:
        read: Given the module ``openvino``, returns an ``openvino.Model``.
        answer: The name of its output.

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
    model.outputs[0].get_tensor().set_names({answer.name})
    return model


def _reason(error: Exception) -> str:
    """The operators that have no rule, where a report of many lines names them."""
    lines = [line.strip() for line in str(error).splitlines()]
    return next((line for line in lines if "No conversion rule" in line), first_line(error))
