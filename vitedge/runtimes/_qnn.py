"""Qualcomm's HTP through the plug-in ``onnxruntime-qnn``, or the emulator that comes with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import MappingProxyType
from typing import Any

from vitedge.runtimes import Availability, Readiness

PROVIDER = "QNNExecutionProvider"

# Chips by Qualcomm's numbers for them (QnnHtpDevice.h, ``soc_model``): Snapdragon 8 Gen 2, Gen 3,
# Elite and Elite Gen 5.
SOC_MODELS: Mapping[str, str] = MappingProxyType(
    {"sm8550": "43", "sm8650": "57", "sm8750": "69", "sm8850": "87"}
)

# The emulator's own default is a chip that can finalize neither float graphs nor Gelu.
_EMULATED_CHIP = "sm8550"


# The first and last (de)quantization belong to the device as well.
DEVICE_OPTIONS: Mapping[str, str] = MappingProxyType(
    {"offload_graph_io_quantization": "0", "htp_graph_finalization_optimization_mode": "3"}
)


def qnn_devices(onnxruntime: Any) -> Sequence[Any]:
    """The plug-in's devices; registers it first where that has not been done.

    Raises:
        ImportError: ``onnxruntime-qnn`` is not installed.
        RuntimeError: The plug-in does not fit this onnxruntime or system; the message is the
            loader's.
    """
    import onnxruntime_qnn

    found = _registered_devices(onnxruntime)
    if not found:
        # onnxruntime's errors share no base of their own.
        try:
            onnxruntime.register_execution_provider_library(
                PROVIDER, onnxruntime_qnn.get_library_path()
            )
        except Exception as error:
            raise RuntimeError(str(error)) from error
        found = _registered_devices(onnxruntime)
    return found


def qnn_availability(found: str) -> Availability:
    """Whether an HTP, or its emulator, can run here; see ``Provider.probe``."""
    import onnxruntime

    try:
        found = f"{found} with onnxruntime-qnn {version('onnxruntime-qnn')}"
        devices = qnn_devices(onnxruntime)
    except (PackageNotFoundError, ImportError):
        return Availability(Readiness.MISSING, f"{found} is without onnxruntime-qnn")
    except (AttributeError, RuntimeError) as error:
        return Availability(Readiness.MISSING, f"{found}: {str(error).splitlines()[0]}")
    if not devices:
        return Availability(Readiness.MISSING, f"{found} finds no device")
    if is_emulator(devices):
        return Availability(Readiness.EMULATED, f"{found}: Qualcomm's emulator of the HTP")
    return Availability(Readiness.READY, f"{found} on {devices[0].device.vendor}")


def qnn_options(devices: Sequence[Any], chip: str | None = None) -> dict[str, str]:
    """Options of the provider: the HTP, and the chip where the hardware does not tell.

    Args:
        devices: The result of ``qnn_devices``.
        chip: A name in ``SOC_MODELS`` to compile for.
    """
    import onnxruntime_qnn

    options = {"backend_path": str(onnxruntime_qnn.get_qnn_htp_path())}
    if chip is not None or is_emulator(devices):
        options["soc_model"] = SOC_MODELS[chip or _EMULATED_CHIP]
    return options


def compile_context(onnxruntime: Any, path: Path, chip: str, output: Path) -> None:
    """Writes an ONNX file whose one node holds the graph compiled for a chip.

    ONNX Runtime copies the metadata.

    Raises:
        Exception: ONNX Runtime's own, which share no base.
    """
    devices = qnn_devices(onnxruntime)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    for key, value in {
        "session.disable_cpu_ep_fallback": "1",
        "ep.context_enable": "1",
        "ep.context_embed_mode": "1",
        "ep.context_file_path": str(output),
    }.items():
        options.add_session_config_entry(key, value)
    chosen = dict(DEVICE_OPTIONS) | qnn_options(devices, chip)
    options.add_provider_for_devices(devices[:1], chosen)
    onnxruntime.InferenceSession(str(path), options, enable_fallback=0)


def is_emulator(devices: Sequence[Any]) -> bool:
    """Whether the HTP is emulated: its plug-in then offers the CPU as its device."""
    return not any(device.device.type.name == "NPU" for device in devices)


def _registered_devices(onnxruntime: Any) -> list[Any]:
    return [device for device in onnxruntime.get_ep_devices() if device.ep_name == PROVIDER]
