"""onnx's own C++ on graphs that nobody vouches for, in a process of its own.

Its shape inference ends the process on some malformed graphs, without a word that Python could
catch. In a child, the same is an error. The child costs an import of onnx, 0.2 s.
"""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np

from vitedge.errors import ModelError, first_line

if TYPE_CHECKING:
    import onnx

SMALL = 1024
"""Constants up to so many elements tell of shapes and axes; the values of larger ones stay here."""

PROGRAM = """
import sys
import onnx, onnx.inliner, onnx.shape_inference, onnx.version_converter
work = {
    "infer": onnx.shape_inference.infer_shapes,
    "inline": onnx.inliner.inline_local_functions,
    "convert": lambda model: onnx.version_converter.convert_version(model, int(sys.argv[2])),
}[sys.argv[1]]
try:
    result = work(onnx.load_model_from_string(sys.stdin.buffer.read()))
except Exception as error:
    sys.exit(str(error))
sys.stdout.buffer.write(result.SerializeToString())
"""
"""What the child runs."""


def infer_types(model: onnx.ModelProto) -> onnx.GraphProto:
    """The graph with the types and shapes of its tensors; its large constants became inputs.

    Raises:
        ModelError: The graph contradicts itself.
    """
    try:
        light = _without_large_constants(model)
    except Exception as error:  # a name that is no text, say: protobuf's errors share no base
        raise ModelError(first_line(error)) from error
    return _apart(light, "infer").graph


def inline_functions(model: onnx.ModelProto) -> onnx.ModelProto:
    """A model without functions of its own.

    Raises:
        ModelError: The graph contradicts itself.
    """
    return _apart(model, "inline")


def convert_opset(model: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    """A model in the operators of another opset.

    Raises:
        ModelError: onnx cannot convert it.
    """
    return _apart(model, "convert", str(opset))


def _without_large_constants(model: onnx.ModelProto) -> onnx.ModelProto:
    import onnx

    light = onnx.ModelProto(ir_version=model.ir_version)
    light.opset_import.extend(model.opset_import)
    light.functions.extend(model.functions)
    light.graph.name = "types"
    light.graph.node.extend(model.graph.node)
    light.graph.input.extend(model.graph.input)
    light.graph.output.extend(model.graph.output)
    light.graph.value_info.extend(model.graph.value_info)
    known = {item.name for item in model.graph.input}
    for item in model.graph.initializer:
        if int(np.prod(item.dims)) <= SMALL:
            light.graph.initializer.append(item)
        elif item.name not in known:
            kind = onnx.helper.make_tensor_value_info(item.name, item.data_type, item.dims)
            light.graph.input.append(kind)
    return light


def _apart(model: onnx.ModelProto, *work: str) -> onnx.ModelProto:
    import onnx

    # -P: no module of the current folder takes the place of an installed one.
    command = [sys.executable, "-P", "-c", PROGRAM, *work]
    try:
        content = model.SerializeToString()
    except Exception as error:  # over 2 GiB, say
        raise ModelError(first_line(error)) from error
    done = subprocess.run(command, check=False, input=content, capture_output=True)
    if done.returncode < 0:
        raise ModelError(
            f"the ONNX graph is malformed: onnx dies of it (signal {-done.returncode})"
        )
    if done.returncode:
        raise ModelError(first_line(Exception(done.stderr.decode(errors="replace"))))
    result = onnx.ModelProto()
    result.ParseFromString(done.stdout)
    return result
