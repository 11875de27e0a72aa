"""LiteRT (formerly TensorFlow Lite): CPU through XNNPACK, GPU through WebGPU, Intel's NPU.

On the CPU it takes whichever package is installed: ``ai-edge-litert``, its predecessor
``tflite-runtime``, or full TensorFlow's ``tf.lite``, in that order.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from vitedge.artifacts.integer_values import dequantize_output, quantize_input
from vitedge.errors import ModelError, UnavailableError, first_line, missing_package
from vitedge.files.tflite_verifier import demand_sound
from vitedge.runtimes import Availability, Placement, Readiness, no_features, only_input
from vitedge.runtimes._litert_aot import CHIPS, compile_for_qualcomm, compiler_availability
from vitedge.runtimes._litert_compiled import CompiledSession, gpu_options, npu_options
from vitedge.runtimes._litert_npu import npu_availability
from vitedge.runtimes._vulkan import vulkan_availability
from vitedge.targets.fits import (
    ALL_INTEGER,
    FLOATS,
    FOR_HALF,
    INT8_OR_FLOAT,
    DeviceLimits,
    Fit,
)
from vitedge.targets.formats import Format
from vitedge.targets.precisions import Precision
from vitedge.terminal.silence import quiet

# Package, module that holds Interpreter. TensorFlow comes last: importing it takes seconds.
_PACKAGES = (
    ("ai-edge-litert", "ai_edge_litert.interpreter"),
    ("tflite-runtime", "tflite_runtime.interpreter"),
    ("tensorflow", "tensorflow.lite.python.interpreter"),
)
# CompiledModel takes options for each accelerator since this release.
_ACCELERATORS_SINCE = (2, 3)
_REMEDY = "Run: pip install 'vitedge[tflite]'"

_FITS: Mapping[str, Fit] = MappingProxyType(
    {
        "cpu": Fit((*INT8_OR_FLOAT, *ALL_INTEGER, Precision.INT4)),
        "gpu": Fit((*FLOATS, Precision.INT8), DeviceLimits.TFLITE_DELEGATE, FOR_HALF),
        "npu": Fit((*FLOATS, *ALL_INTEGER), DeviceLimits.TFLITE_DELEGATE, FOR_HALF),
    }
)


@dataclass(frozen=True)
class LiteRT:
    """The adapter to LiteRT."""

    name: str = "tflite"
    format: Format = Format.TFLITE
    devices: tuple[str, ...] = ("cpu", "gpu", "npu")

    def fit(self, device: str) -> Fit | None:
        """See ``SaysWhatFits``."""
        return _FITS.get(device)

    def availability(self, device: str) -> Availability:
        """See ``Runtime``."""
        package = _installed_package()
        if package is None:
            names = ", ".join(name for name, _ in _PACKAGES)
            return Availability(Readiness.MISSING, f"none of {names} is installed", _REMEDY)
        found = f"{package} {version(package)}"
        if device == "cpu":
            return Availability(Readiness.READY, found)
        if package != "ai-edge-litert":
            detail = f"{found} has no accelerators"
            return Availability(Readiness.MISSING, detail, "Run: pip install ai-edge-litert")
        if _release(package) < _ACCELERATORS_SINCE:
            remedy = "Run: pip install --upgrade ai-edge-litert"
            return Availability(Readiness.MISSING, f"{found} is too old for accelerators", remedy)
        return npu_availability(found) if device == "npu" else vulkan_availability(found)

    def open(
        self, path: Path, device: str, *, threads: int | None = None
    ) -> LiteRTSession | CompiledSession:
        """See ``Runtime``."""
        state = self.availability(device)
        if state.readiness is Readiness.MISSING:
            raise UnavailableError(f"tflite-{device} cannot run here: {state.detail}", state.remedy)
        if not path.is_file():
            raise ModelError(f"there is no artefact '{path}'")
        demand_sound(path)
        if device == "cpu":
            return LiteRTSession(path, threads)
        if device == "gpu":
            return CompiledSession(path, device, gpu_options(path))
        is_emulated = state.readiness is Readiness.EMULATED
        return CompiledSession(path, device, npu_options(emulated=is_emulated))

    def compiled_forms(self, device: str) -> tuple[str, ...]:
        """See ``AheadOfTime``: Qualcomm's chips."""
        return CHIPS if device == "npu" else ()

    def compiler(self, device: str) -> Availability:
        """See ``AheadOfTime``."""
        package = _installed_package()
        if package != "ai-edge-litert" or _release(package) < _ACCELERATORS_SINCE:
            return self.availability("npu")
        return compiler_availability(f"{package} {version(package)}")

    def compile(self, path: Path, device: str, form: str, output: Path) -> None:
        """See ``AheadOfTime``."""
        state = self.compiler(device)
        if state.readiness is Readiness.MISSING:
            raise UnavailableError(state.detail, state.remedy)
        demand_sound(path)
        compile_for_qualcomm(path, form, output)


def _installed_package() -> str | None:
    for package, _ in _PACKAGES:
        try:
            version(package)
        except PackageNotFoundError:
            continue
        return package
    return None


def _release(package: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version(package).split(".")[:2])


def _refusal(package: str, path: Path, error: Exception) -> ModelError:
    words = f"{package} {version(package)} cannot load '{path}': {first_line(error)}"
    if package == "tflite-runtime":
        # It ended with version 2.14 of 2023; per-channel int8 weights came in 2024.
        words += " ai-edge-litert is newer and reads it; run: pip install ai-edge-litert"
    return ModelError(words)


class LiteRTSession:
    """A model in LiteRT's interpreter on the CPU; see ``Session``."""

    def __init__(self, path: Path, threads: int | None) -> None:
        package = _installed_package()
        try:
            with quiet():
                module = importlib.import_module(dict(_PACKAGES)[str(package)])
        except ImportError as error:
            raise missing_package(str(package), "tflite") from error
        self._path = path
        try:
            with quiet():
                self._interpreter: Any = module.Interpreter(str(path), num_threads=threads)
                self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise _refusal(str(package), path, error) from error
        outputs = self._interpreter.get_output_details()
        self._input = only_input(path, self._interpreter.get_input_details(), outputs)
        self._output, *self._others = outputs
        if len(self._input["shape"]) != 4:
            shape = list(self._input["shape"])
            raise ModelError(f"'{path}' takes {shape}; vitedge runs (N, H, W, C) inputs")

    @property
    def input_shape(self) -> tuple[int, int, int, int]:
        """See ``Session``."""
        n, height, width, channels = (int(size) for size in self._input["shape"])
        return n, height, width, channels

    def run(self, pixels: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """See ``Session``."""
        try:
            self._set_input(pixels)
            self._interpreter.invoke()
        except (ValueError, RuntimeError) as error:
            raise ModelError(f"LiteRT failed on '{self._path}': {first_line(error)}") from error
        return self._read(self._output)

    def _set_input(self, pixels: npt.NDArray[Any]) -> None:
        """Writes pixels into the input; as floats straight into the engine's own memory."""
        index = self._input["index"]
        inside = self._interpreter.tensor(index)()
        if inside.dtype == np.float32 and inside.shape == pixels.shape:
            inside[...] = pixels
            return
        values = quantize_input(pixels, self._input["dtype"], *self._input["quantization"])
        self._interpreter.set_tensor(index, values)

    def features(self, pixels: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """See ``FeatureSession``."""
        if not self._others:
            raise no_features(self._path)
        self.run(pixels)
        return self._read(self._others[0])

    @property
    def outputs(self) -> tuple[str, ...]:
        """See ``NamedSession``."""
        return tuple(self._named)

    def output(self, name: str, pixels: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """See ``NamedSession``."""
        details = self._named[name]
        self.run(pixels)
        return self._read(details)

    @cached_property
    def _named(self) -> dict[str, Any]:
        """The outputs' details by the names of the file's signature, the main one first."""
        ordered = [self._output, *self._others]
        try:
            signed = self._interpreter.get_signature_runner().get_output_details()
        except ValueError:  # a file without signatures
            return {str(each["name"]): each for each in ordered}
        names = {int(each["index"]): str(name) for name, each in signed.items()}
        return {names.get(int(each["index"]), str(each["name"])): each for each in ordered}

    def _read(self, output: Any) -> npt.NDArray[np.float32]:
        raw = self._interpreter.get_tensor(output["index"])
        return dequantize_output(raw, *output["quantization"])

    def placement(self) -> Placement | None:
        """See ``Session``."""
        try:
            nodes = self._interpreter._get_ops_details()
        except AttributeError:
            return None
        # XNNPACK's DELEGATE nodes stand beside the nodes that they replace.
        total = sum(node["op_name"] != "DELEGATE" for node in nodes)
        return Placement(total, total)

    def close(self) -> None:
        """See ``Session``."""
        self._interpreter = None


PLUGIN = LiteRT()
