"""Qualcomm's HTP through the plug-in ``onnxruntime-qnn``, or the emulator that comes with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
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


def qnn_devices(onnxruntime: Any) -> Sequence[Any]:
    """The plug-in's devices; registers it first where that has not been done.

    Raises:
        ImportError: ``onnxruntime-qnn`` is not installed.
        RuntimeError: It does not fit this onnxruntime or system; the message is the loader's.
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
        devices: What ``qnn_devices`` returned.
        chip: A name in ``SOC_MODELS`` to compile for.
    """
    import onnxruntime_qnn

    options = {"backend_path": str(onnxruntime_qnn.get_qnn_htp_path())}
    if chip is not None or is_emulator(devices):
        options["soc_model"] = SOC_MODELS[chip or _EMULATED_CHIP]
    return options


def is_emulator(devices: Sequence[Any]) -> bool:
    """Whether the HTP is emulated: its plug-in then offers the CPU as its device."""
    return not any(device.device.type.name == "NPU" for device in devices)


def _registered_devices(onnxruntime: Any) -> list[Any]:
    return [device for device in onnxruntime.get_ep_devices() if device.ep_name == PROVIDER]
