"""TFLite drafts by LiteRT's own converter."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vitedge.artifacts.metadata import Metadata
from vitedge.converters.generic.candidate import Alternative, CalibrationImages
from vitedge.converters.generic.model import GenericModel
from vitedge.converters.generic.network import PIXELS
from vitedge.converters.tflite.metadata import append_labels
from vitedge.converters.tflite.model import aligned_buffer, describe, load_schema
from vitedge.errors import ConversionError, first_line
from vitedge.targets.precisions import Precision
from vitedge.terminal.silence import overheard

_VERSIONS = ("tensorflow", "ai-edge-litert")

_DYNAMIC = "8-bit per channel, inputs quantized as they come"
_STATIC = "8-bit per channel, activations 8-bit with calibrated ranges"


@dataclass(frozen=True)
class TFLiteDraft:
    """A converted flatbuffer; see ``Draft``."""

    content: bytes

    def save(self, path: Path, metadata: Metadata) -> None:
        """See ``Draft``."""
        import flatbuffers

        schema = load_schema()
        model = schema.ModelT.InitFromPackedBuf(self.content, 0)
        for index, buffer in enumerate(model.buffers):
            if buffer.data is not None:
                model.buffers[index] = aligned_buffer(np.asarray(buffer.data, np.uint8))
        _name_ends(schema, model, metadata.task.output)
        model.description = f"{metadata.source.name}, {metadata.precision}, by vitedge"
        describe(model, metadata, [metadata.task.output])
        builder = flatbuffers.Builder(len(self.content) + (1 << 20))
        builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
        path.write_bytes(bytes(builder.Output()))
        append_labels(path, metadata)


def _name_ends(schema: Any, model: Any, output: str) -> None:
    """Calls input and output what every artefact calls them; the converter makes up names."""
    graph = model.subgraphs[0]
    (pixels,), (made,) = graph.inputs, graph.outputs
    graph.tensors[pixels].name, graph.tensors[made].name = PIXELS, output

    def named(tensor: int, name: str) -> Any:
        entry = schema.TensorMapT()
        entry.name, entry.tensorIndex = name, tensor
        return entry

    signature = schema.SignatureDefT()
    signature.signatureKey = "serving_default"
    signature.inputs, signature.outputs = [named(pixels, PIXELS)], [named(made, output)]
    model.signatureDefs = [signature]


def tflite_candidates(
    model: GenericModel, precision: Precision, batch: int, images: CalibrationImages
) -> Iterator[Alternative]:
    """Drafts, the best bet first.

    Calibrated 8-bit activations are fast in convolutional networks. With attention they are not:
    norms, softmax and GELU have no integer kernels in the delegate, so the graph hops between
    integers and floats, and what is left of the accuracy is 3 dB.

    Raises:
        ConversionError: TFLite cannot express the model.
    """
    if precision is not Precision.INT8:
        words = {"weights": "float16"} if precision is Precision.FP16 else {}
        content = _convert(model, batch, half=precision is Precision.FP16, optimize=bool(words))
        yield Alternative(TFLiteDraft(content), words, False, _VERSIONS)
        return
    for calibrated in (False, True) if model.attends else (True, False):
        content = _convert(model, batch, optimize=True, images=images if calibrated else None)
        words = {"convolutions and dense layers": _STATIC if calibrated else _DYNAMIC}
        yield Alternative(TFLiteDraft(content), words, calibrated, _VERSIONS)


def _convert(
    model: GenericModel,
    batch: int,
    *,
    optimize: bool = False,
    half: bool = False,
    images: CalibrationImages | None = None,
) -> bytes:
    # Before TensorFlow starts, as what TensorFlow has not opened is refused here.
    definition, output = model.network.to_tensorflow(model.taken, batch), model.task.output
    import tensorflow as tf

    def outputs(pixels: Any) -> Any:
        return tf.import_graph_def(
            definition,
            input_map={f"{PIXELS}:0": pixels},
            return_elements=[f"{output}:0"],
            name="",
        )[0]

    preprocessing = model.preprocessing
    shape = (batch, *preprocessing.size, preprocessing.channels)
    function = tf.compat.v1.wrap_function(outputs, [tf.TensorSpec(shape, tf.float32, name=PIXELS)])
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], tf.Module())
    if optimize:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if half:
        converter.target_spec.supported_types = [tf.float16]
    if images is not None:
        converter.representative_dataset = lambda: ([each] for each in images.batches(batch))
    try:
        with overheard(), warnings.catch_warnings():
            # It misses statistics of inputs that are to stay float.
            warnings.simplefilter("ignore")
            return bytes(converter.convert())
    except Exception as error:  # the converter raises its own kinds
        raise ConversionError(f"TFLite cannot express the model: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """The line of a message of many that says which operators are missing."""
    lines = [line.strip() for line in str(error).splitlines()]
    telling = [line for line in lines if "custom ops" in line.lower() or "flex ops" in line.lower()]
    return telling[0] if telling else first_line(error)
