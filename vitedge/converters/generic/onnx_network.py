"""ONNX files for the generic path: the same graph, from raw pixels to logits."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vitedge.converters.generic.network import LOGITS, PIXELS, read_into_openvino
from vitedge.converters.generic.onnx_graph import mended, rename
from vitedge.errors import ConversionError, ModelError
from vitedge.files.onnx_apart import convert_opset
from vitedge.importers.lift.embedding import channels_first
from vitedge.importers.lift.input_range import InputRange
from vitedge.importers.lift.onnx_files import add_logits, image_of, open_onnx
from vitedge.importers.lift.onnx_probe import OnnxProbe

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
        self._path, self._logits = (
            path,
            tuple(f"source {name}" if name in (PIXELS, LOGITS) else name for name in logits),
        )
        self.probe = OnnxProbe(path, image_size=image_size, logits=logits)
        self.parameters = self.probe.parameters

    def to_tensorflow(self, taken: InputRange, batch: int) -> Any:
        """No package that installs beside the others here translates ONNX; see ``Network``."""
        raise ConversionError(
            f"TFLite files are made of ONNX models that lift, and '{self._path}' does not: give "
            "the Keras model or SavedModel that it was exported from, or leave TFLite out with "
            "--format onnx --format openvino"
        )

    def to_onnx(self, taken: InputRange, batch: int) -> Any:
        """See ``Network``."""
        import onnx

        fixed = self.probe.batch
        if fixed is not None and fixed != batch:
            raise ConversionError(f"the model takes {fixed} images at once; give --batch {fixed}")
        model = _current(open_onnx(self._path).model)
        rename(model.graph, {name: f"source {name}" for name in (PIXELS, LOGITS)})
        image = image_of(self._path, model)
        logits = _without_softmax(model, add_logits(self._path, model, self._logits))
        graph = model.graph
        kind = image.type.tensor_type.elem_type
        shape = self.probe.image_shape
        before = _from_pixels(model, image.name, kind, shape, taken)
        if channels_first(shape):
            shape = (*shape[1:], shape[0])
        pixels = onnx.helper.make_tensor_value_info(PIXELS, onnx.TensorProto.FLOAT, (batch, *shape))
        result = onnx.helper.make_tensor_value_info(LOGITS, onnx.TensorProto.FLOAT, (batch, None))
        nodes = [*before, *graph.node, *_rows(model, logits, batch)]
        for field, items in (("node", nodes), ("input", [pixels]), ("output", [result])):
            del getattr(graph, field)[:]
            getattr(graph, field).extend(items)
        return mended(model)

    def to_openvino(self, taken: InputRange, batch: int) -> Any:
        """See ``Network``; OpenVINO's ONNX frontend."""
        content = io.BytesIO(self.to_onnx(taken, batch).SerializeToString())
        return read_into_openvino(lambda openvino: openvino.Core().read_model(content))


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


def _without_softmax(model: onnx.ModelProto, output: str) -> str:
    """The tensor of logits; see ``softmax_at_end``."""
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


def _rows(model: onnx.ModelProto, logits: str, batch: int) -> list[onnx.NodeProto]:
    """Nodes from the model's logits to float32 ``(batch, classes)``."""
    import onnx

    shape = onnx.numpy_helper.from_array(np.asarray([batch, -1], np.int64), "logits shape")
    model.graph.initializer.append(shape)
    return [
        onnx.helper.make_node("Cast", [logits], ["logits cast"], to=onnx.TensorProto.FLOAT),
        onnx.helper.make_node("Reshape", ["logits cast", shape.name], [LOGITS], LOGITS),
    ]
