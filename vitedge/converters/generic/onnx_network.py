"""ONNX files for the generic path: the same graph, from raw pixels to what artefacts give."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vitedge.converters.generic.network import PIXELS, Answer, read_into_openvino
from vitedge.converters.generic.onnx_graph import mended, rename
from vitedge.errors import ConversionError, ModelError
from vitedge.files.onnx_apart import convert_opset
from vitedge.importers.lift.embedding import channels_first
from vitedge.importers.lift.input_range import InputRange
from vitedge.importers.lift.onnx_files import add_logits, image_of, open_onnx
from vitedge.importers.lift.onnx_probe import OnnxProbe
from vitedge.network.tasks import Task

if TYPE_CHECKING:
    import onnx

# What may stand between a softmax and the end without changing a value.
_MOVES = frozenset(["Identity", "Cast", "Reshape", "Flatten", "Squeeze"])

# Per-channel QuantizeLinear begins there.
_LEAST_OPSET = 13


class OnnxNetwork:
    """An ONNX file; see ``Network``."""

    def __init__(
        self,
        path: Path,
        *,
        image_size: tuple[int, int] | None = None,
        logits: tuple[str, ...] = (),
    ) -> None:
        self.answer = Answer(Task.CLASSES.output, (-1,))
        self._path, self._logits = path, logits
        self.probe = OnnxProbe(path, image_size=image_size, logits=logits)
        self.parameters, self.left_out = self.probe.parameters, self.probe.left_out

    def to_tensorflow(self, taken: InputRange, batch: int) -> Any:
        """No package that installs beside the others here translates ONNX; see ``Network``."""
        raise ConversionError(
            f"TFLite files are made of ONNX models that lift, and '{self._path}' does not: give "
            "the Keras model or SavedModel that it was exported from; --format onnx and "
            "--format openvino need neither"
        )

    def to_onnx(self, taken: InputRange, batch: int) -> Any:
        """See ``Network``."""
        import onnx

        fixed = self.probe.batch
        if fixed is not None and fixed != batch:
            raise ConversionError(
                f"the model takes {fixed} images at once: export it for one image, which may lift, "
                f"or give --batch {fixed} with --format onnx and --format openvino"
            )
        model = _current(open_onnx(self._path).model)
        answer, graph = self.answer, model.graph
        taken_names = {name: f"source {name}" for name in (PIXELS, answer.name)}
        rename(graph, taken_names)
        image = image_of(self._path, model)
        wanted = tuple(taken_names.get(name, name) for name in self._logits)
        output = add_logits(self._path, model, wanted)
        if answer.is_before_activation:
            output = _without_activation(model, output)
        kind = image.type.tensor_type.elem_type
        shape = self.probe.image_shape
        before = _from_pixels(model, image.name, kind, shape, taken)
        if channels_first(shape):
            shape = (*shape[1:], shape[0])
        pixels = onnx.helper.make_tensor_value_info(PIXELS, onnx.TensorProto.FLOAT, (batch, *shape))
        made = tuple(answer.shape[axis] for axis in answer.axes) or answer.shape
        result = onnx.helper.make_tensor_value_info(
            answer.name, onnx.TensorProto.FLOAT, (batch, *made)
        )
        nodes = [*before, *graph.node, *_answered(model, output, batch, answer)]
        for field, items in (("node", nodes), ("input", [pixels]), ("output", [result])):
            del getattr(graph, field)[:]
            getattr(graph, field).extend(items)
        return mended(model)

    def to_openvino(self, taken: InputRange, batch: int) -> Any:
        """See ``Network``; OpenVINO's ONNX frontend."""
        content = io.BytesIO(self.to_onnx(taken, batch).SerializeToString())
        return read_into_openvino(lambda openvino: openvino.Core().read_model(content), self.answer)


def _current(model: onnx.ModelProto) -> onnx.ModelProto:
    """A model of at least the opset that quantizers need."""
    version = next(item.version for item in model.opset_import if not item.domain)
    if version >= _LEAST_OPSET:
        return model
    try:
        return convert_opset(model, _LEAST_OPSET)
    except ModelError as error:
        raise ConversionError(
            f"the model is of opset {version} and cannot be raised to {_LEAST_OPSET}: {error}"
        ) from error


def _without_activation(model: onnx.ModelProto, output: str) -> str:
    """The tensor of logits; see ``read_ending``."""
    producers = {name: node for node in model.graph.node for name in node.output}
    name = output
    while name in producers and producers[name].op_type in _MOVES:
        name = producers[name].input[0]
    if name in producers and producers[name].op_type in ("Softmax", "Sigmoid"):
        return str(producers[name].input[0])
    return output


def _from_pixels(
    model: onnx.ModelProto,
    image: str,
    kind: int,
    shape: tuple[int, int, int],
    taken: InputRange,
) -> list[onnx.NodeProto]:
    """Nodes from raw pixels ``(N, H, W, C)`` to what the model takes."""
    import onnx

    nodes: list[onnx.NodeProto] = []

    def add(operator: str, inputs: list[str], **attributes: Any) -> str:
        name = f"pixels {len(nodes)}"
        nodes.append(onnx.helper.make_node(operator, inputs, [name], name, **attributes))
        return name

    def constant(name: str, values: Any) -> str:
        array = np.asarray(values, np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
        return name

    value = PIXELS
    if not taken.raw:
        std = np.float32(255) * np.asarray(taken.std, np.float32)
        mean = np.asarray(taken.mean, np.float32) / np.asarray(taken.std, np.float32)
        value = add("Div", [value, constant("pixels std", std)])
        value = add("Sub", [value, constant("pixels mean", mean)])
    if channels_first(shape):
        value = add("Transpose", [value], perm=[0, 3, 1, 2])
    value = add("Cast", [value], to=kind)
    nodes[-1].output[0] = image
    return nodes


def _answered(
    model: onnx.ModelProto, output: str, batch: int, answer: Answer
) -> list[onnx.NodeProto]:
    """Nodes from the model's output to float32 ``(batch, *shape)``, in the order of axes wanted."""
    import onnx

    name, last = answer.name, "source answer" if answer.axes else answer.name
    shape = onnx.numpy_helper.from_array(
        np.asarray([batch, *answer.shape], np.int64), f"{name} shape"
    )
    model.graph.initializer.append(shape)
    cast = f"{name} cast"
    nodes = [
        onnx.helper.make_node("Cast", [output], [cast], to=onnx.TensorProto.FLOAT),
        onnx.helper.make_node("Reshape", [cast, shape.name], [last], last),
    ]
    if answer.axes:
        nodes.append(
            onnx.helper.make_node("Transpose", [last], [name], name, perm=list(answer.order))
        )
    return nodes
