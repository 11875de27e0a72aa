"""LiteRT's compiled models: one accelerator alone, no CPU behind it.

LiteRT is told of the accelerator only. A set that holds the CPU too falls back to it without a
message, and says that it is fully accelerated. LiteRT writes the nodes that the accelerator cannot
run to stderr; its exception says nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vitedge.artifacts.integer_values import dequantize_output, quantize_input
from vitedge.artifacts.metadata import read_metadata
from vitedge.errors import ModelError, PlacementError, UnavailableError, first_line
from vitedge.runtimes import Placement, no_features, only_input
from vitedge.targets.precisions import Precision
from vitedge.terminal.silence import overheard, quiet

# As ai-edge-litert 2.3 logs them.
_GPU_SHARE = re.compile(
    r"(\d+) operations will run on the GPU, and the remaining (\d+) operations will run on the CPU"
)
_GPU_REASONS = "not supported by GPU delegate"
_NPU_SHARE = re.compile(r"selected (\d+) ops, from a total of (\d+) ops")
_NO_DEVICE = re.compile(
    r"No adapters found.*|Couldn't load Vulkan.*|Vulkan \w+ required.*"
    r"|VCL compiler loading failed.*|Could not find an NPU device.*"
)
_LOG_PREFIX = re.compile(r"^(?:[IWEF]\d{4} \S+ +\d+ \S+\] |(?:ERROR|WARNING|INFO): )")


class CompiledSession:
    """A model compiled for one accelerator; see ``Session``.

    Args:
        path: The artefact.
        device: ``gpu`` or ``npu``.
        options: ``ai_edge_litert.compiled_model.Options`` that name this accelerator alone.
    """

    def __init__(self, path: Path, device: str, options: Any) -> None:
        from ai_edge_litert.compiled_model import CompiledModel
        from ai_edge_litert.interpreter import Interpreter

        self._path, self._device = path, device
        failure: Exception | None = None
        with overheard() as said:
            try:
                self._model: Any = CompiledModel.from_file(str(path), options=options)
            except (ValueError, RuntimeError) as error:
                failure = error
        if failure is not None:
            raise _refusal(path, device, said, failure) from failure
        if not self._model.is_fully_accelerated():
            raise PlacementError(f"LiteRT left nodes of '{path}' off the {device}")
        self._share = next((match for line in said if (match := _NPU_SHARE.search(line))), None)
        # A compiled model does not tell scales and zero points; the interpreter reads them.
        with quiet():
            described = Interpreter(str(path))
        self._described = described.get_output_details()
        self._input = only_input(path, described.get_input_details(), self._described)
        if len(self._input["shape"]) != 4:
            shape = list(self._input["shape"])
            raise ModelError(f"'{path}' takes {shape}; vitedge runs (N, H, W, C) inputs")
        with quiet():
            self._inputs = self._model.create_input_buffers(0)
            self._outputs = self._model.create_output_buffers(0)

    @property
    def input_shape(self) -> tuple[int, int, int, int]:
        """See ``Session``."""
        n, height, width, channels = (int(size) for size in self._input["shape"])
        return n, height, width, channels

    def run(self, pixels: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """See ``Session``."""
        return self._infer(pixels, 0)

    def features(self, pixels: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """See ``FeatureSession``."""
        if len(self._described) < 2:
            raise no_features(self._path)
        return self._infer(pixels, 1)

    def _infer(self, pixels: npt.NDArray[Any], output: int) -> npt.NDArray[np.float32]:
        wanted = self._described[output]
        shape, dtype = tuple(wanted["shape"]), wanted["dtype"]
        values = quantize_input(pixels, self._input["dtype"], *self._input["quantization"])
        try:
            self._inputs[0].write(values)
            self._model.run_by_index(0, self._inputs, self._outputs)
            raw = self._outputs[output].read(int(np.prod(shape)), dtype)
        except (ValueError, RuntimeError) as error:
            raise ModelError(
                f"LiteRT's {self._device} failed on '{self._path}': {first_line(error)}"
            ) from error
        return dequantize_output(np.array(raw, dtype).reshape(shape), *wanted["quantization"])

    def placement(self) -> Placement | None:
        """The part of the graph that the NPU's compiler took; a GPU takes all or is refused."""
        if self._share is not None:
            return Placement(int(self._share[1]), int(self._share[2]))
        total = _operators_in(self._path)
        return Placement(total, total)

    def close(self) -> None:
        """See ``Session``."""
        with quiet():
            for buffer in (*self._inputs, *self._outputs):
                buffer.destroy()
            self._inputs, self._outputs = [], []
            if self._model is not None:
                self._model.close()
                self._model = None


def _operators_in(path: Path) -> int:
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAsModel(path.read_bytes(), 0)
    graphs = [model.Subgraphs(index) for index in range(model.SubgraphsLength())]
    return sum(graph.OperatorsLength() for graph in graphs)


def gpu_options(path: Path) -> Any:
    """The GPU alone; float32 artefacts compute in float32, others as the driver likes best."""
    from ai_edge_litert.compiled_model import Options
    from ai_edge_litert.hardware_accelerator import HardwareAccelerator

    metadata = read_metadata(path)
    options = Options(HardwareAccelerator.GPU)
    # The accelerator's default is half precision: right for whoever chose it, no one else.
    options.gpu_options.enforce_f32 = metadata is None or metadata.precision is Precision.FP32
    return options


def npu_options(*, emulated: bool) -> Any:
    """Intel's NPU alone, or in its place the CPU behind the same compiler and dispatcher.

    The CPU then computes floats in bfloat16 where it can, whatever one asks of it.
    """
    from ai_edge_litert.compiled_model import IntelOpenVinoOptions, Options
    from ai_edge_litert.hardware_accelerator import HardwareAccelerator

    backend = IntelOpenVinoOptions.GRAPH_BACKEND
    options = Options(HardwareAccelerator.NPU)
    options.intel_openvino_options.graph_backend = backend.CPU if emulated else backend.NPU
    return options


def _refusal(path: Path, device: str, said: Sequence[str], error: Exception) -> Exception:
    """The reason why LiteRT did not compile a file: its exception is the same for every reason."""
    lines = [_LOG_PREFIX.sub("", line).strip() for line in said]
    missing = next((match for line in lines if (match := _NO_DEVICE.search(line))), None)
    if missing is not None:
        return UnavailableError(f"tflite-{device} cannot run here: {missing[0]}")
    for number, line in enumerate(lines):
        if share := _GPU_SHARE.search(line):
            off = int(share[2])
            total = off + int(share[1])
            reasons = "; ".join(_reasons(lines[:number]))
            return PlacementError(
                f"{off} of {total} nodes of '{path}' cannot run on the GPU: {reasons}"
            )
        share = _NPU_SHARE.search(line)
        if share and share[1] != share[2]:
            off = int(share[2]) - int(share[1])
            return PlacementError(f"{off} of {share[2]} nodes of '{path}' cannot run on the NPU")
    words = next((line for line in lines if "rror" in line or "ailed" in line), first_line(error))
    return ModelError(f"LiteRT cannot compile '{path}' for the {device}: {words}")


def _reasons(lines: Sequence[str]) -> list[str]:
    """The operators that the GPU refuses and why, at most three."""
    begin = next((at for at, line in enumerate(lines) if _GPU_REASONS in line), len(lines))
    reasons = [line for line in lines[begin + 1 :] if line]
    return [*reasons[:3], f"and {len(reasons) - 3} more"] if len(reasons) > 3 else reasons
