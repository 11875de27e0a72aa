"""Opens ONNX files for lifting: their image, their logits, and their weights apart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from vitedge.errors import ModelError, first_line, missing_package
from vitedge.files.onnx_apart import SMALL, infer_types, inline_functions
from vitedge.importers.lift.claims import refuse_large_tensors
from vitedge.importers.lift.embedding import CHANNELS, channels_first
from vitedge.importers.lift.onnx_float32 import widen
from vitedge.importers.lift.onnx_fused import write_out
from vitedge.importers.lift.onnx_order import put_in_order
from vitedge.importers.lift.onnx_quantized import dequantize_weights
from vitedge.importers.lift.probe import refuse_large_images
from vitedge.importers.lift.quantized import refuse_quantized_operations

if TYPE_CHECKING:
    import onnx

_LOGITS = "logits"

# What onnx and NumPy raise on graphs whose parts contradict each other.
_DAMAGE = (ValueError, TypeError, LookupError, MemoryError, AttributeError)

_ANY_TYPE = ("Identity", "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten")
"""Operators that move values of any type."""


@dataclass(frozen=True, eq=False)
class OnnxSource:
    """A file that was read, in standard operators and float32.

    Attributes:
        model: The graph.
        takes_integers: The image was of an integer type; now it is float32.
        changed: Operators were written out, or other floats widened.
    """

    model: onnx.ModelProto
    takes_integers: bool
    changed: bool


def open_onnx(path: Path) -> OnnxSource:
    """Reads a file, and writes out what engines fuse and round.

    Raises:
        ModelError: The file is truncated, computes in integers, or is not an ONNX file.
        UnavailableError: onnx or ONNX Runtime is missing.
    """
    model = load_onnx(path)
    try:
        dequantize_weights(model)
        refuse_quantized_operations((node.op_type, node.name, ()) for node in model.graph.node)
        widened, written_out = widen(model), write_out(model)
        integers = _take_floats(path, model)
    except _DAMAGE as error:
        raise ModelError(f"'{path}' is damaged ({first_line(error)})") from error
    return OnnxSource(model, integers, widened or written_out)


def _take_floats(path: Path, model: onnx.ModelProto) -> bool:
    """Makes an integer image float32, in place, where the graph soon casts it to floats anyway.

    Returns:
        Whether the image was of an integer type.
    """
    from onnx import TensorProto

    image = image_of(path, model)
    kind = image.type.tensor_type.elem_type
    integers = (TensorProto.UINT8, TensorProto.INT8, TensorProto.INT32, TensorProto.INT64)
    if kind not in integers:
        return False
    moved = {image.name}
    for node in model.graph.node:
        first, rest = node.input[:1], node.input[1:]
        if node.op_type == "Cast" or not moved.intersection(node.input):
            continue
        if node.op_type not in _ANY_TYPE or moved.intersection(rest) or first[0] not in moved:
            return True
        moved.update(node.output)
    if any(item.name in moved for item in model.graph.output):
        return True
    del model.graph.value_info[:]
    image.type.tensor_type.elem_type = TensorProto.FLOAT
    return True


def load_onnx(path: Path) -> onnx.ModelProto:
    """Reads a file, external weights included, with its functions written out.

    Raises:
        ModelError: The file is truncated or not an ONNX file.
        UnavailableError: onnx or ONNX Runtime is missing.
    """
    try:
        import onnx
        import onnxruntime  # noqa: F401  # better now than after loading
    except ImportError as error:
        raise missing_package(str(error.name), "convert") from error
    try:
        model = onnx.load(path)
    except Exception as error:  # protobuf's and onnx's errors share no base
        raise ModelError(f"'{path}' is truncated or not an ONNX file ({error})") from error
    if not model.graph.node:
        raise ModelError(f"'{path}' is truncated or not an ONNX file (it has no nodes)")
    if not all(isinstance(text, str) for text in _texts(model.graph)):
        raise ModelError(f"'{path}' is damaged: a name in its graph is not text in UTF-8")
    _refuse_nan(path, model)
    try:
        model = inline_functions(model) if model.functions else model
    except ModelError as error:
        raise ModelError(f"the functions of '{path}' cannot be written out: {error}") from error
    put_in_order(model.graph)
    return model


def _texts(message: Any) -> Iterator[str | bytes]:
    """All names in a part of a graph; protobuf gives bytes for what is not UTF-8."""
    import onnx
    from google.protobuf.message import Message

    if isinstance(message, onnx.TensorProto):  # asking for its fields would copy the numbers
        yield message.name
        return
    for field, value in message.ListFields():
        if field.name in ("doc_string", "metadata_props"):
            continue
        values = [value] if isinstance(value, (str, bytes, Message)) else value
        if field.type == field.TYPE_STRING:
            yield from values
        elif field.type == field.TYPE_MESSAGE:
            for each in values:
                yield from _texts(each)


def _refuse_nan(path: Path, model: onnx.ModelProto) -> None:
    """Refuses weights that are NaN; infinity may be the constant of an attention mask."""
    from onnx import numpy_helper

    for item in model.graph.initializer:
        try:
            array = numpy_helper.to_array(item)
        except (ValueError, TypeError, KeyError, MemoryError) as error:
            raise ModelError(f"'{item.name}' in '{path}' is damaged ({error})") from error
        if array.dtype.kind == "f" and np.isnan(array).any():
            raise ModelError(
                f"'{item.name}' in '{path}' holds NaN: the training that made it diverged, or the "
                "file is damaged"
            )


def image_of(path: Path, model: onnx.ModelProto) -> onnx.ValueInfoProto:
    """The only input that is not a weight.

    Raises:
        ModelError: There are several.
    """
    initialized = {item.name for item in model.graph.initializer}
    inputs = [item for item in model.graph.input if item.name not in initialized]
    if len(inputs) != 1:
        names = ", ".join(item.name for item in inputs)
        raise ModelError(f"'{path}' has the inputs ({names}); one, the image, is needed")
    return inputs[0]


def shape_of(
    path: Path, model: onnx.ModelProto, image_size: tuple[int, int] | None
) -> tuple[int | None, tuple[int, int, int]]:
    """The fixed batch size, or None, and the shape of one image.

    Raises:
        ModelError: Height and width are open and nobody gave them, or it is not an image.
        SizeError: The model takes images that are too large.
    """
    image = image_of(path, model)
    given_dims = (dim.dim_value for dim in image.type.tensor_type.shape.dim)
    dims: list[int | None] = [size if size > 0 else None for size in given_dims]
    if len(dims) != 4:
        raise ModelError(
            f"'{path}' takes {dims}; an image (batch, channels, height, width) is needed"
        )
    batch, *sizes = dims
    last = sizes[2] in CHANNELS and not channels_first(sizes)
    height, width = image_size or (None, None)
    channels = _channels_read(model, image.name)
    given = (height, width, channels) if last else (channels, height, width)
    sizes = [size or other for size, other in zip(sizes, given, strict=True)]
    first, second, third = sizes
    if first is not None and second is not None and third is not None:
        known = (first, second, third)
        refuse_large_images(f"'{path}'", batch, known)
        return batch, known
    words = "x".join("?" if size is None else str(size) for size in sizes)
    raise ModelError(
        f"'{path}' takes images of {words}, whose height and width are open; give --image-size"
    )


def _channels_read(model: onnx.ModelProto, image: str) -> int | None:
    """Channels of an image, told by the convolution that reads it; None where none does."""
    shapes = {item.name: tuple(item.dims) for item in model.graph.initializer}
    reached = {image}
    for node in model.graph.node:
        if not reached.intersection(node.input):
            continue
        if node.op_type == "Conv" and len(shapes.get("".join(node.input[1:2]), ())) == 4:
            groups = next((each.i for each in node.attribute if each.name == "group"), 1)
            return int(shapes[node.input[1]][1] * groups)
        reached.update(node.output)
    return None


def add_logits(
    path: Path, model: onnx.ModelProto, wanted: Sequence[str] = (), beside: Sequence[str] = ()
) -> str:
    """The name of the logits: the output of that name, the only one, or the mean of two.

    DeiT's class and distillation heads are averaged, as its paper does for inference
    (arXiv:2012.12877, 5.2).

    Args:
        path: The file, for messages.
        model: Its graph; a node for the mean is added where one is needed.
        wanted: Names that the user gave; several are averaged.
        beside: Names of further outputs, which hold no logits.

    Raises:
        ModelError: An output is unknown, or it is unclear which of several holds the logits.
    """
    outputs = [item for item in model.graph.output if item.name not in beside]
    names = [item.name for item in outputs]
    if wanted:
        unknown = [name for name in wanted if name not in names]
        if unknown:
            raise ModelError(f"'{path}' has no output '{unknown[0]}', but {_quoted(names)}")
        outputs = [item for item in outputs if item.name in wanted]
    elif _LOGITS in names:
        return _LOGITS
    elif len(outputs) > 1:
        outputs = [item for item in outputs if _may_be_logits(item)]
    if len(outputs) == 1:
        return str(outputs[0].name)
    widths = {item.type.tensor_type.shape.dim[1].dim_value for item in outputs}
    if outputs and len(widths) == 1 and (wanted or len(outputs) == 2):
        return _mean(model, [item.name for item in outputs])
    raise ModelError(
        f"'{path}' has the outputs {_quoted(names)}; say with --logits NAME which one holds the "
        "logits, and with --beside NAME which others to give, too"
    )


def _may_be_logits(output: onnx.ValueInfoProto) -> bool:
    """Whether an output is a vector of floats for each image, and not of the places of some."""
    from onnx import TensorProto

    floats = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE)
    kind = output.type.tensor_type
    return len(kind.shape.dim) == 2 and kind.elem_type in floats


def _mean(model: onnx.ModelProto, names: Sequence[str]) -> str:
    import onnx

    name = "mean of both heads"
    model.graph.node.append(onnx.helper.make_node("Mean", list(names), [name], name))
    return name


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)


def count_weights(model: onnx.ModelProto) -> int:
    """Number of floating-point constants."""
    import onnx

    floats = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE)
    items = [item for item in model.graph.initializer if item.data_type in floats]
    return int(sum(np.prod(item.dims) for item in items))


def without_weights(
    model: onnx.ModelProto,
) -> tuple[onnx.ModelProto, dict[str, npt.NDArray[Any]]]:
    """A copy of the graph with its small constants, and the large ones apart."""
    import onnx
    from onnx import numpy_helper

    skeleton = onnx.ModelProto(ir_version=model.ir_version)
    skeleton.opset_import.extend(model.opset_import)
    skeleton.graph.node.extend(model.graph.node)
    weights = {}
    for item in model.graph.initializer:
        if int(np.prod(item.dims)) > SMALL:
            weights[item.name] = numpy_helper.to_array(item)
        else:
            skeleton.graph.initializer.append(item)
    return skeleton, weights


def element_types(
    skeleton: onnx.ModelProto, weights: dict[str, npt.NDArray[Any]], image: onnx.ValueInfoProto
) -> dict[str, int]:
    """ONNX's number of each tensor's element type, as far as it can be inferred.

    Raises:
        ModelError: The graph contradicts itself.
        SizeError: One of its tensors would not fit into memory.
    """
    import onnx

    model = onnx.ModelProto()
    model.CopyFrom(skeleton)
    model.graph.input.append(image)
    for name, array in weights.items():
        kind = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
        model.graph.input.append(onnx.helper.make_tensor_value_info(name, kind, array.shape))
    try:
        inferred = infer_types(model)
    except ModelError as error:
        raise ModelError(f"the ONNX graph contradicts itself: {error}") from error
    items = [*inferred.input, *inferred.value_info, *inferred.output]
    refuse_large_tensors(
        (item.name, [size.dim_value for size in item.type.tensor_type.shape.dim])
        for item in inferred.value_info
    )
    return {item.name: item.type.tensor_type.elem_type for item in items}
