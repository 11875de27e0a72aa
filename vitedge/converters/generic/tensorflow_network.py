"""Keras models and SavedModels for the generic path: one frozen graph for all formats.

Keras's own exporters each trace the model anew, and fail in their own ways ("never called" on a
model that was just loaded, operators left as they are). Here the model is traced once with
constant shapes, its variables become constants, and what depends on shapes only is computed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from vitedge.converters.generic.network import PIXELS, Answer, read_into_openvino
from vitedge.converters.generic.onnx_graph import mended, rename
from vitedge.errors import ConversionError, first_line, missing_package
from vitedge.importers.lift.embedding import channels_first
from vitedge.importers.lift.input_range import InputRange
from vitedge.importers.lift.keras_files import LoadedModel
from vitedge.importers.lift.tensorflow_probe import TensorFlowProbe
from vitedge.importers.lift.tensorflow_trace import trace, with_constants
from vitedge.network.tasks import Task
from vitedge.terminal.silence import overheard, quiet

# The newest that tf2onnx 1.17 writes, and the first in which ReduceMean takes axes as an input.
_OPSET = 18

# What may stand between a softmax and the end without changing a value.
_MOVES = frozenset(["Identity", "Cast", "Reshape", "Squeeze"])

# tf2onnx tries all permutations of an einsum's axes, for up to half a minute, and still leaves
# products that no quantizer recognises; `einsums_as_products` knows them by their shapes.
_HIDDEN_EINSUM = "HiddenEinsum"

_FOLDING = ("constfold", "function", "constfold", "dependency")
"""Grappler's passes that inline functions and compute what depends on shapes only."""


class TensorFlowNetwork:
    """A loaded Keras model or SavedModel; see ``Network``."""

    def __init__(self, loaded: LoadedModel) -> None:
        self._loaded = loaded
        self.answer = Answer(Task.CLASSES.output, (-1,))
        self.parameters = loaded.parameters
        self._frozen: tuple[InputRange, int, Any] | None = None
        self._exported: tuple[InputRange, int, Any] | None = None

    @property
    def left_out(self) -> Sequence[str]:
        """See ``Network``."""
        return self._loaded.left_out

    @cached_property
    def probe(self) -> TensorFlowProbe:
        """See ``Network``."""
        return self._loaded.probe()

    def to_tensorflow(self, taken: InputRange, batch: int) -> Any:
        """See ``Network``; frozen once, as all formats start from it."""
        if self._frozen is None or self._frozen[:2] != (taken, batch):
            self._frozen = (taken, batch, self._freeze(taken, batch))
        return self._frozen[2]

    def to_onnx(self, taken: InputRange, batch: int) -> Any:
        """See ``Network``; by tf2onnx, once, with what it leaves undone."""
        try:
            with quiet():
                import tf2onnx
        except ImportError as error:
            raise missing_package("tf2onnx", "generic") from error
        if self._exported is not None and self._exported[:2] == (taken, batch):
            return self._exported[2]
        definition, name = self.to_tensorflow(taken, batch), self.answer.name
        try:
            with overheard():  # operators that it does not know; `mended` names those that remain
                model, _ = tf2onnx.convert.from_graph_def(
                    definition,
                    opset=_OPSET,
                    input_names=[f"{PIXELS}:0"],
                    output_names=[f"{name}:0"],
                    custom_op_handlers={"Einsum": (_hide, [])},
                )
        except Exception as error:  # tf2onnx raises whatever its handlers do
            raise ConversionError(
                f"tf2onnx cannot convert the model: {first_line(error)}"
            ) from error
        rename(model.graph, {f"{PIXELS}:0": PIXELS, f"{name}:0": name})
        for node in model.graph.node:
            if node.op_type == _HIDDEN_EINSUM:
                node.op_type = "Einsum"
        self._exported = (taken, batch, mended(model))
        return self._exported[2]

    def to_openvino(self, taken: InputRange, batch: int) -> Any:
        """See ``Network``; OpenVINO's TensorFlow frontend."""
        definition = self.to_tensorflow(taken, batch)
        return read_into_openvino(lambda openvino: openvino.convert_model(definition), self.answer)

    def _freeze(self, taken: InputRange, batch: int) -> Any:
        import tensorflow as tf

        fixed = self.probe.batch
        if fixed is not None and fixed != batch:
            raise ConversionError(f"the model takes {fixed} images at once; give --batch {fixed}")
        shape = self._loaded.image_shape
        if channels_first(shape):
            shape = (*shape[1:], shape[0])
        specification = tf.TensorSpec((batch, *shape), tf.float32, name=PIXELS)
        try:
            traced = trace(self._from_pixels(taken), specification)
        except (TypeError, ValueError) as error:
            raise ConversionError(
                f"TensorFlow cannot trace the model for {batch} images at once: {first_line(error)}"
            ) from error
        folded = _folded(with_constants(traced), self.answer.name)
        if self.answer.is_before_activation:
            # An exported model has it in a function, which is open now.
            _drop_activation(folded, self.answer.name)
        return folded

    def _from_pixels(self, taken: InputRange) -> Callable[[Any], Any]:
        import tensorflow as tf

        answer = self.answer

        def outputs(pixels: Any) -> Any:
            image = pixels
            if not taken.raw:
                std = np.float32(255) * np.asarray(taken.std, np.float32)
                mean = np.asarray(taken.mean, np.float32) / np.asarray(taken.std, np.float32)
                image = pixels / std - mean
            if channels_first(self._loaded.image_shape):
                image = tf.transpose(image, (0, 3, 1, 2))
            result = self._loaded.logits(tf.cast(image, self._loaded.dtype))
            made = tf.reshape(tf.cast(result, tf.float32), (pixels.shape[0], *answer.shape))
            made = tf.transpose(made, answer.order) if answer.axes else made
            return tf.identity(made, answer.name)

        return outputs


def _drop_activation(definition: Any, output: str) -> None:
    """Lets a softmax or sigmoid at the end pass its input on; see ``read_ending``."""
    nodes = {node.name: node for node in definition.node}
    node = nodes[output]
    while node.op in _MOVES:
        node = nodes[node.input[0].partition(":")[0]]
    if node.op in ("Softmax", "Sigmoid"):
        node.op = "Identity"


def _folded(definition: Any, output: str) -> Any:
    """The graph after Grappler has computed whatever depends on shapes alone."""
    import tensorflow as tf
    from tensorflow.core.protobuf import config_pb2
    from tensorflow.python.grappler import tf_optimizer

    graph = tf.Graph()
    with graph.as_default():
        tf.import_graph_def(definition, name="")
    meta = tf.compat.v1.train.export_meta_graph(graph_def=definition, graph=graph)
    meta.collection_def["train_op"].node_list.value.extend([PIXELS, output])
    config = config_pb2.ConfigProto()
    rewrites = config.graph_options.rewrite_options
    rewrites.optimizers.extend(_FOLDING)
    rewrites.min_graph_nodes = -1  # small graphs, too
    try:
        return tf_optimizer.OptimizeGraph(config, meta)
    except Exception as error:  # TensorFlow's own kinds
        raise ConversionError(f"TensorFlow cannot fold the model: {first_line(error)}") from error


def _hide(_context: Any, node: Any, _name: str, _arguments: Any) -> Any:
    """Keeps tf2onnx's optimizer off an einsum."""
    node.type = _HIDDEN_EINSUM
    for name in set(node.attr) - {"equation"}:  # TensorFlow's own
        del node.attr[name]
    return node
