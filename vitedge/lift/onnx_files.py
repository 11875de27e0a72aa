"""Opens ONNX files for lifting: their image, their logits, and their weights apart."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from vitedge.errors import ModelError, first_line, missing_package
from vitedge.lift.probe import refuse_large_images

if TYPE_CHECKING:
    import onnx

_SMALL = 1024
"""Constants up to so many elements stay in the graph: among them are all shapes and axes."""

_LOGITS = "logits"


def load_onnx(path: Path) -> onnx.ModelProto:
    """Reads a file, external weights included, with its functions written out.

    Raises:
        ModelError: It is truncated or no ONNX file.
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
    _refuse_nan(path, model)
    import onnx.inliner

    return onnx.inliner.inline_local_functions(model) if model.functions else model


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
    """The only input that is no weight.

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
    path: Path, image: onnx.ValueInfoProto, image_size: tuple[int, int] | None
) -> tuple[int | None, tuple[int, int, int]]:
    """The fixed batch size, or None, and the shape of one image.

    Raises:
        ModelError: Sizes are open, or it is no image.
        SizeError: It is too large an image.
    """
    given_dims = (dim.dim_value for dim in image.type.tensor_type.shape.dim)
    dims: list[int | None] = [size if size > 0 else None for size in given_dims]
    if len(dims) == 4:
        batch, *known = dims
        if image_size is not None:
            given = (*image_size, None) if known[2] in (1, 3) else (None, *image_size)
            known = [size or other for size, other in zip(known, given, strict=True)]
        first, second, third = known
        if first is not None and second is not None and third is not None:
            sizes = (first, second, third)
            refuse_large_images(f"'{path}'", batch, sizes)
            return batch, sizes
    raise ModelError(f"'{path}' takes {dims}; give --image-size if height and width are open")


def add_logits(path: Path, model: onnx.ModelProto) -> str:
    """The name of the logits: the output of that name, the only one, or the mean of two.

    DeiT's class and distillation heads are averaged, as its paper does for inference
    (arXiv:2012.12877, 5.2).
    """
    import onnx

    outputs = list(model.graph.output)
    if any(output.name == _LOGITS for output in outputs):
        return _LOGITS
    if len(outputs) > 1:
        outputs = [item for item in outputs if len(item.type.tensor_type.shape.dim) == 2]
    if len(outputs) == 1:
        return str(outputs[0].name)
    widths = {item.type.tensor_type.shape.dim[1].dim_value for item in outputs}
    if len(outputs) == 2 and len(widths) == 1:
        name = "mean of both heads"
        names = [item.name for item in outputs]
        model.graph.node.append(onnx.helper.make_node("Mean", names, [name], name))
        return name
    names = [item.name for item in model.graph.output]
    raise ModelError(f"'{path}' has the outputs {names}; which one holds the logits?")


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
        if int(np.prod(item.dims)) > _SMALL:
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
    """
    import onnx

    model = onnx.ModelProto()
    model.CopyFrom(skeleton)
    model.graph.name = "types"
    model.graph.input.append(image)
    for name, array in weights.items():
        kind = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
        model.graph.input.append(onnx.helper.make_tensor_value_info(name, kind, array.shape))
    try:
        inferred = onnx.shape_inference.infer_shapes(model).graph
    except Exception as error:  # onnx's errors share no base
        raise ModelError(f"the ONNX graph contradicts itself: {first_line(error)}") from error
    items = [*inferred.input, *inferred.value_info, *inferred.output]
    return {item.name: item.type.tensor_type.elem_type for item in items}
