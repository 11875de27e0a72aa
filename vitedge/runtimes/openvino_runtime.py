"""OpenVINO: Intel CPUs, GPUs and NPUs, and Arm CPUs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from vitedge.artifacts.metadata import Metadata, files_of, read_metadata
from vitedge.errors import (
    ModelError,
    UnavailableError,
    first_line,
    load_remedy,
    missing_package,
)
from vitedge.files.weights_digest import unreplaced
from vitedge.machine.processor import processor_flags, products_saturate
from vitedge.runtimes import Availability, Placement, Readiness, no_features, only_input
from vitedge.targets.fits import FOR_HALF, INT8_OR_FLOAT, Fit
from vitedge.targets.formats import Format
from vitedge.targets.precisions import Precision

_REMEDIES = {
    "cpu": "Run: pip install 'vitedge[openvino]'",
    "gpu": "Install Intel's GPU driver (Debian: apt install intel-opencl-icd)",
    "npu": "Install Intel's NPU driver (https://github.com/intel/linux-npu-driver)",
}

_FITS: Mapping[str, Fit] = MappingProxyType(
    {
        "cpu": Fit((*INT8_OR_FLOAT, Precision.INT4)),
        "gpu": Fit(INT8_OR_FLOAT, rewrites=FOR_HALF),
        "npu": Fit(INT8_OR_FLOAT, rewrites=FOR_HALF),
    }
)

_LIBRARY = re.compile(r'Cannot load library "[^"]*": (?:/\S+: )?')


@dataclass(frozen=True)
class OpenVINORuntime:
    """The adapter to ``openvino``."""

    name: str = "openvino"
    format: Format = Format.OPENVINO
    devices: tuple[str, ...] = ("cpu", "gpu", "npu")

    def fit(self, device: str) -> Fit | None:
        """See ``SaysWhatFits``."""
        return _FITS.get(device)

    def availability(self, device: str) -> Availability:
        """See ``Runtime``."""
        try:
            import openvino
        except ImportError as error:
            remedy = load_remedy(str(error), _REMEDIES["cpu"])
            return Availability(Readiness.MISSING, first_line(error), remedy)
        release = f"openvino {openvino.__version__.split('-')[0]}"
        core, name = openvino.Core(), device.upper()
        # GPU.0, GPU.1 where there are several; a plug-in that loads is not a device yet.
        present = core.available_devices
        if not any(found.split(".")[0] == name for found in present):
            listed = ", ".join(present) or "no device at all"
            words = f"{release} finds {listed}, not {name}: {_drivers_words(core, name)}"
            return Availability(Readiness.MISSING, words, load_remedy(words, _REMEDIES[device]))
        found = core.get_property(name, "FULL_DEVICE_NAME")
        return Availability(Readiness.READY, f"{release} on {found}")

    def open(self, path: Path, device: str, *, threads: int | None = None) -> OpenVINOSession:
        """See ``Runtime``."""
        try:
            import openvino
        except ImportError as error:
            raise missing_package("openvino", "openvino") from error
        state = self.availability(device)
        if state.readiness is Readiness.MISSING:
            raise UnavailableError(
                f"openvino-{device} cannot run here: {state.detail}", state.remedy
            )
        with unreplaced(files_of(path)):
            return OpenVINOSession(_compiled(openvino, path, device, threads), path)


def _compiled(openvino: Any, path: Path, device: str, threads: int | None) -> Any:
    metadata = read_metadata(path)
    config: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY"}
    # Left to itself the CPU plug-in computes float layers in bfloat16 where the processor has
    # it: 34 dB instead of 110. What was asked for as float must not lose that silently.
    if metadata is not None and metadata.precision.is_float:
        config["INFERENCE_PRECISION_HINT"] = "f32" if device == "cpu" else "f16"
        if metadata.precision is Precision.FP32:
            config["INFERENCE_PRECISION_HINT"] = "f32"
    elif metadata is not None and device == "cpu" and metadata.multiplies_rounding:
        config["INFERENCE_PRECISION_HINT"] = "f32"
    if threads is not None and device == "cpu":
        config["INFERENCE_NUM_THREADS"] = threads
    exact = exact_products(metadata) if device == "cpu" and metadata is not None else {}
    core = openvino.Core()
    try:
        model = _with_float_weights(core, path) if exact else str(path)
        return core.compile_model(model, device.upper(), config | exact)
    except RuntimeError as error:
        raise ModelError(
            f"OpenVINO cannot load '{path}' on {device}: {_last_line(error)}"
        ) from error


def exact_products(metadata: Metadata) -> dict[str, str]:
    """The property of the CPU plug-in that an artefact needs against saturated sums, if any.

    On x86 without VNNI the CPU plug-in adds products of uint8 and int8 in 16 bits: DeiT-tiny's int8
    file has 14 dB in place of 29. Without its low-precision transformations it multiplies the same
    rounded numbers as floats, which takes 0.94 of the time (AMD EPYC with AVX2). NNCF's files need
    it, too: NNCF leaves a bit free in their first layers alone.
    """
    is_needed = not metadata.precision.is_float and products_saturate(processor_flags())
    return {"LP_TRANSFORMS_MODE": "NO"} if is_needed else {}


def _with_float_weights(core: Any, path: Path) -> Any:
    """A model whose integer weights are floats already.

    What multiplies as floats would turn them into floats for every inference: DeiT-tiny's take an
    eighth of its time. They take four times as much memory.
    """
    from openvino.passes import ConstantFolding, Manager

    model = core.read_model(str(path))
    passes = Manager()
    passes.register_pass(ConstantFolding())
    passes.run_passes(model)
    return model


class OpenVINOSession:
    """A model compiled by OpenVINO; see ``Session``."""

    def __init__(self, model: Any, path: Path) -> None:
        self._model, self._path = model, path
        self._request = model.create_infer_request()
        self._input = only_input(path, model.inputs, model.outputs)
        self._dtype = self._input.get_element_type().to_dtype()
        if self._input.partial_shape.is_dynamic or len(self._input.shape) != 4:
            raise ModelError(
                f"'{path}' takes {self._input.partial_shape}; vitedge runs static (N, H, W, C)"
            )

    @property
    def input_shape(self) -> tuple[int, int, int, int]:
        """See ``Session``."""
        n, height, width, channels = self._input.shape
        return int(n), int(height), int(width), int(channels)

    def run(self, pixels: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """See ``Session``."""
        return self._infer(pixels, 0)

    def features(self, pixels: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """See ``FeatureSession``."""
        if len(self._model.outputs) < 2:
            raise no_features(self._path)
        return self._infer(pixels, 1)

    @property
    def outputs(self) -> tuple[str, ...]:
        """See ``NamedSession``."""
        return tuple(map(_name_of, self._model.outputs))

    def output(self, name: str, pixels: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """See ``NamedSession``."""
        return self._infer(pixels, self.outputs.index(name))

    def _infer(self, pixels: npt.NDArray[Any], output: int) -> npt.NDArray[np.float32]:
        given = [np.ascontiguousarray(pixels, self._dtype)]
        try:
            # Both live until the numbers are copied below, so OpenVINO need not copy them, too.
            results = self._request.infer(given, share_inputs=True, share_outputs=True)
        except RuntimeError as error:
            raise ModelError(f"OpenVINO failed on '{self._path}': {_last_line(error)}") from error
        return np.array(results[output], np.float32)

    def placement(self) -> Placement | None:
        """OpenVINO compiles for one device or fails: every executed node is on it."""
        total = len(self._model.get_runtime_model().get_ops())
        return Placement(total, total)

    def close(self) -> None:
        """See ``Session``."""
        self._request = self._model = None


def _name_of(output: Any) -> str:
    """The name of an output; its tensor has those of all outputs that show it."""
    own = output.get_node().get_friendly_name()
    return str(own if own in output.names else min(output.names, default=""))


def _drivers_words(core: Any, name: str) -> str:
    """The reason why a device cannot be used: only asking it to compile something brings it out."""
    import openvino
    from openvino import opset13

    value = opset13.parameter([1], np.float32)
    model = openvino.Model([opset13.result(opset13.relu(value))], [value], "nothing")
    try:
        core.compile_model(model, name)
    except RuntimeError as error:
        lines = [_LIBRARY.sub("", line).strip() for line in str(error).splitlines()]
        spoken = [line.split(" Error: Exception from")[0] for line in lines if line]
        return next((line for line in spoken if not line.startswith("Exception from")), spoken[-1])
    return "it gives no reason"


def _last_line(error: Exception) -> str:
    # OpenVINO's messages begin with source locations and end with what happened.
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


PLUGIN = OpenVINORuntime()
