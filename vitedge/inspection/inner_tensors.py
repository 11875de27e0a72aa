"""What an artefact computes on its way: its tensors by name, in its own runtime.

A copy of the file gets the wanted tensors as further outputs, so that what runs is what always
runs, fusions and all, but for those that the new outputs forbid.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vitedge.artifacts.integer_values import dequantize_output, quantize_input
from vitedge.artifacts.metadata import format_of
from vitedge.errors import ModelError, first_line, missing_package
from vitedge.files.temporary import temporary_folder
from vitedge.network.operators import Array
from vitedge.targets.formats import Format
from vitedge.terminal.silence import quiet


def intermediates(
    path: Path, names: Collection[str], pixels: npt.NDArray[np.uint8]
) -> dict[str, Array]:
    """Tensors of an artefact of batch 1, float32, the first axis that of the images.

    Args:
        path: The artefact.
        names: Tensors that are wanted; those that it does not have are left out.
        pixels: uint8 ``(N, H, W, C)``.

    Raises:
        UnavailableError: A package that the format needs is not installed.
        ModelError: Its engine cannot load or run it.
    """
    run = {
        Format.TFLITE: _in_litert,
        Format.ONNX: _in_onnx_runtime,
        Format.OPENVINO: _in_openvino,
    }[format_of(path)]
    try:
        with quiet():
            found = [run(path, names, image[None]) for image in pixels]
    except ImportError as error:
        raise missing_package(error.name or str(format_of(path)), "convert") from error
    except (RuntimeError, ValueError) as error:
        raise ModelError(f"cannot run '{path}' here: {first_line(error)}") from error
    return {name: np.stack([each[name] for each in found]) for name in found[0]}


def _in_litert(
    path: Path, names: Collection[str], pixels: npt.NDArray[np.uint8]
) -> dict[str, Array]:
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.interpreter import Interpreter

    model = schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0)
    (graph,) = model.subgraphs
    numbers = {
        tensor.name.decode(): number
        for number, tensor in enumerate(graph.tensors)
        if tensor.name.decode() in names
    }
    graph.outputs = np.asarray(list(numbers.values()), np.int32)
    model.signatureDefs = []
    builder = flatbuffers.Builder(path.stat().st_size)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    interpreter = Interpreter(model_content=bytes(builder.Output()))
    interpreter.allocate_tensors()
    (taken,) = interpreter.get_input_details()
    values = quantize_input(pixels, taken["dtype"], *taken["quantization"])
    interpreter.set_tensor(taken["index"], values)
    interpreter.invoke()
    return {
        given["name"]: dequantize_output(
            interpreter.get_tensor(given["index"]), *given["quantization"]
        )
        for given in interpreter.get_output_details()
    }


def _in_onnx_runtime(
    path: Path, names: Collection[str], pixels: npt.NDArray[np.uint8]
) -> dict[str, Array]:
    import onnx
    import onnxruntime

    model = onnx.load(str(path))
    made = [output for node in model.graph.node for output in node.output if output in names]
    shown = {output.name for output in model.graph.output}
    further = [name for name in made if name not in shown]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in further)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    with temporary_folder() as folder:
        copy = folder / "model.onnx"
        onnx.save(model, str(copy), save_as_external_data=model.ByteSize() > 1 << 30)
        session = onnxruntime.InferenceSession(
            str(copy), options, providers=["CPUExecutionProvider"]
        )
    (taken,) = session.get_inputs()
    dtype = np.uint8 if "uint8" in taken.type else np.float32
    return dict(zip(made, session.run(made, {taken.name: pixels.astype(dtype)}), strict=True))


def _in_openvino(
    path: Path, names: Collection[str], pixels: npt.NDArray[np.uint8]
) -> dict[str, Array]:
    import openvino

    core = openvino.Core()
    model: Any = core.read_model(str(path))
    wanted = [each for each in model.get_ordered_ops() if each.get_friendly_name() in names]
    # What is an output already is not added twice.
    model.add_outputs([operation.output(0) for operation in wanted])
    made_by = [
        output.get_node().input(0).get_source_output().get_node().get_friendly_name()
        for output in model.outputs
    ]
    compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    request = compiled.create_infer_request()
    request.infer({0: pixels.astype(np.float32)})
    return {
        name: np.array(request.get_output_tensor(number).data)
        for number, name in enumerate(made_by)
        if name in names
    }
