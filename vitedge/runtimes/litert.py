"""LiteRT (formerly TensorFlow Lite): CPU through XNNPACK, GPU through the WebGPU accelerator.

On the CPU it takes whichever package is installed: ``ai-edge-litert``, its predecessor
``tflite-runtime``, or full TensorFlow's ``tf.lite``, in that order.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vitedge.chatter import quiet
from vitedge.errors import ModelError, UnavailableError, first_line
from vitedge.runtimes import Availability, Placement, Readiness
from vitedge.runtimes._vulkan import VulkanDevice, vulkan_devices
from vitedge.spec import Format

# Package, module that holds Interpreter. TensorFlow comes last: importing it takes seconds.
_PACKAGES = (
    ("ai-edge-litert", "ai_edge_litert.interpreter"),
    ("tflite-runtime", "tflite_runtime.interpreter"),
    ("tensorflow", "tensorflow.lite"),
)
_REMEDY = "Run: pip install 'vitedge[tflite]'"
_GPU_REMEDY = (
    "Install the GPU's Vulkan driver and loader (Debian: apt install libvulkan1 and the "
    "vendor's or Mesa's driver)"
)


@dataclass(frozen=True)
class LiteRT:
    """The adapter to LiteRT."""

    name: str = "tflite"
    format: Format = Format.TFLITE
    devices: tuple[str, ...] = ("cpu", "gpu")

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
            detail = f"{found} has no GPU accelerator"
            return Availability(Readiness.MISSING, detail, "Run: pip install ai-edge-litert")
        try:
            devices = vulkan_devices()
        except OSError as error:
            return Availability(Readiness.MISSING, str(error), _GPU_REMEDY)
        return _gpu_availability(found, devices)

    def open(
        self, path: Path, device: str, *, threads: int | None = None
    ) -> LiteRTSession | LiteRTGpuSession:
        """See ``Runtime``."""
        state = self.availability(device)
        if state.readiness is Readiness.MISSING:
            raise UnavailableError(f"tflite-{device} cannot run here: {state.detail}", state.remedy)
        return LiteRTGpuSession(path) if device == "gpu" else LiteRTSession(path, threads)


def _installed_package() -> str | None:
    for package, _ in _PACKAGES:
        try:
            version(package)
        except PackageNotFoundError:
            continue
        return package
    return None


def _gpu_availability(found: str, devices: tuple[VulkanDevice, ...]) -> Availability:
    if not devices:
        return Availability(Readiness.MISSING, "Vulkan finds no device", _GPU_REMEDY)
    hardware = [device for device in devices if not device.is_software]
    names = ", ".join(device.name for device in hardware or devices)
    readiness = Readiness.READY if hardware else Readiness.EMULATED
    return Availability(readiness, f"{found} on {names}")


class LiteRTSession:
    """A model in LiteRT's interpreter on the CPU; see ``Session``."""

    def __init__(self, path: Path, threads: int | None) -> None:
        package = _installed_package()
        with quiet():
            module = importlib.import_module(dict(_PACKAGES)[str(package)])
        self._path = path
        try:
            with quiet():
                self._interpreter: Any = module.Interpreter(str(path), num_threads=threads)
                self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise ModelError(f"{package} cannot load '{path}': {first_line(error)}") from error
        (self._input,) = self._interpreter.get_input_details()
        self._output = self._interpreter.get_output_details()[0]
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
        values = quantize_input(pixels, self._input["dtype"], *self._input["quantization"])
        try:
            self._interpreter.set_tensor(self._input["index"], values)
            self._interpreter.invoke()
        except (ValueError, RuntimeError) as error:
            raise ModelError(f"LiteRT failed on '{self._path}': {first_line(error)}") from error
        raw = self._interpreter.get_tensor(self._output["index"])
        return dequantize_output(raw, *self._output["quantization"])

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


class LiteRTGpuSession:
    """A model compiled by LiteRT's GPU accelerator alone, no CPU behind it; see ``Session``."""

    def __init__(self, path: Path) -> None:
        from ai_edge_litert.compiled_model import CompiledModel
        from ai_edge_litert.hardware_accelerator import HardwareAccelerator

        self._path = path
        try:
            self._model: Any = CompiledModel.from_file(str(path), HardwareAccelerator.GPU)
        except (ValueError, RuntimeError) as error:
            raise ModelError(
                f"LiteRT's GPU accelerator cannot compile '{path}': {first_line(error)}"
            ) from error
        if not self._model.is_fully_accelerated():
            raise ModelError(f"LiteRT left nodes of '{path}' off the GPU")
        (self._details,) = self._model.get_input_tensor_details(0).values()
        (self._output,) = self._model.get_output_tensor_details(0).values()
        self._inputs = self._model.create_input_buffers(0)
        self._outputs = self._model.create_output_buffers(0)

    @property
    def input_shape(self) -> tuple[int, int, int, int]:
        """See ``Session``."""
        n, height, width, channels = (int(size) for size in self._details["shape"])
        return n, height, width, channels

    def run(self, pixels: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """See ``Session``."""
        shape = tuple(int(size) for size in self._output["shape"])
        try:
            self._inputs[0].write(np.ascontiguousarray(pixels, np.float32))
            self._model.run_by_index(0, self._inputs, self._outputs)
            raw = self._outputs[0].read(int(np.prod(shape)), np.float32)
        except (ValueError, RuntimeError) as error:
            raise ModelError(
                f"LiteRT's GPU failed on '{self._path}': {first_line(error)}"
            ) from error
        return np.array(raw, np.float32).reshape(shape)

    def placement(self) -> Placement | None:
        """LiteRT tells only that every node is accelerated, which the constructor demanded."""
        return None

    def close(self) -> None:
        """See ``Session``."""
        for buffer in (*self._inputs, *self._outputs):
            buffer.destroy()
        self._inputs, self._outputs = [], []
        if self._model is not None:
            self._model.close()
            self._model = None


def quantize_input(
    pixels: npt.NDArray[Any], dtype: type[np.generic], scale: float, zero_point: int
) -> npt.NDArray[Any]:
    """Pixels as the dtype that the graph takes; integers by its scale and zero point."""
    if dtype == np.float32 or (dtype == np.uint8 and scale in (0.0, 1.0)):
        return np.ascontiguousarray(pixels, dtype)
    limits = np.iinfo(np.dtype(dtype))
    scaled = np.rint(pixels.astype(np.float32) / np.float32(scale)) + zero_point
    values: npt.NDArray[Any] = np.clip(scaled, limits.min, limits.max).astype(dtype)
    return values


def dequantize_output(
    raw: npt.NDArray[Any], scale: float, zero_point: int
) -> npt.NDArray[np.float32]:
    """Logits as float32."""
    if np.issubdtype(raw.dtype, np.floating):
        return np.asarray(raw, np.float32)
    return (raw.astype(np.float32) - np.float32(zero_point)) * np.float32(scale)


PLUGIN = LiteRT()
