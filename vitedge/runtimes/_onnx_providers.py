"""ONNX Runtime's execution providers: one row for each target."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from vitedge.runtimes import Availability, Readiness
from vitedge.runtimes._qnn import DEVICE_OPTIONS, qnn_availability, qnn_devices, qnn_options
from vitedge.runtimes._vulkan import vulkan_availability
from vitedge.targets.fits import (
    ALL_INTEGER,
    FLOATS,
    FOR_HALF,
    INT8_OR_FLOAT,
    DeviceLimits,
    Fit,
)
from vitedge.targets.precisions import Precision


def _in_this_package(found: str) -> Availability:
    return Availability(Readiness.READY, found)


def _on_the_cpu(found: str) -> Availability:
    return Availability(Readiness.READY, f"{found} on the CPU")


def _on_a_gpu(found: str) -> Availability:
    # Elsewhere WebGPU comes with the system: Direct3D, Metal.
    return vulkan_availability(found) if platform.system() == "Linux" else _in_this_package(found)


@dataclass(frozen=True)
class Provider:
    """One execution provider and the device that it stands for.

    Attributes:
        name: The provider's name in ONNX Runtime.
        remedy: The command or action that brings it.
        fit: The fit of its device.
        options: Its options; what it calls a default is not always float32.
        probe: Whether its device is here, given package and version in words.
        plug_in: A package beside onnxruntime brings it, and ``qnn_devices`` finds it.
    """

    name: str
    remedy: str
    fit: Fit
    options: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    probe: Callable[[str], Availability] = _in_this_package
    plug_in: bool = False

    def availability(self, onnxruntime: Any) -> Availability:
        """Whether this installation of ONNX Runtime can run on the device."""
        found = f"onnxruntime {onnxruntime.__version__}"
        present = onnxruntime.get_available_providers()
        if not self.plug_in and self.name not in present:
            detail = f"{found} has only {', '.join(present)}"
            return Availability(Readiness.MISSING, detail, self.remedy)
        state = self.probe(found)
        if state.readiness is Readiness.MISSING and not state.remedy:
            return Availability(state.readiness, state.detail, self.remedy)
        return state

    def add_to(self, session_options: Any, onnxruntime: Any) -> list[tuple[str, dict[str, str]]]:
        """Adds a plug-in to the options; returns the ``providers`` argument for all others."""
        if not self.plug_in:
            return [(self.name, dict(self.options))]
        devices = qnn_devices(onnxruntime)
        options = dict(self.options) | qnn_options(devices)
        session_options.add_provider_for_devices(devices[:1], options)
        return []


PROVIDERS: Mapping[str, Provider] = MappingProxyType(
    {
        "cpu": Provider(
            "CPUExecutionProvider",
            "Run: pip install 'vitedge[onnx]'",
            Fit((*INT8_OR_FLOAT, *ALL_INTEGER, Precision.INT4)),
        ),
        "cuda": Provider(
            "CUDAExecutionProvider",
            "On a machine with an NVIDIA GPU, in an environment of its own, run: "
            "pip install onnxruntime-gpu",
            Fit(FLOATS),
            # TensorFloat-32 has ten bits of mantissa: not what an fp32 artefact promises.
            {"use_tf32": "0"},
        ),
        "webgpu": Provider(
            "WebGpuExecutionProvider",
            "In an environment of its own run: pip install onnxruntime-webgpu",
            Fit(FLOATS),
            probe=_on_a_gpu,
        ),
        "qnn": Provider(
            "QNNExecutionProvider",
            "Run: pip install 'vitedge[qnn]'",
            Fit((*ALL_INTEGER, *FLOATS), DeviceLimits.HTP, FOR_HALF),
            DEVICE_OPTIONS,
            probe=qnn_availability,
            plug_in=True,
        ),
        "openvino": Provider(
            "OpenVINOExecutionProvider",
            "In an environment of its own run: pip install onnxruntime-openvino",
            Fit((*INT8_OR_FLOAT, *ALL_INTEGER)),
            # ACCURACY keeps the model's own precision; the default is what the device likes best.
            {"device_type": "CPU", "precision": "ACCURACY"},
            probe=_on_the_cpu,
        ),
        "coreml": Provider(
            "CoreMLExecutionProvider",
            "On macOS run: pip install onnxruntime",
            Fit(FLOATS, rewrites=FOR_HALF),
            {"ModelFormat": "MLProgram", "RequireStaticInputShapes": "1"},
        ),
        "xnnpack": Provider(
            "XnnpackExecutionProvider",
            "No wheel has it: build onnxruntime with --use_xnnpack, or use onnx-cpu or tflite-cpu",
            Fit((Precision.FP32, Precision.FP16)),
        ),
    }
)
