"""LiteRT's needs for an NPU, and the parts of them that are here.

Its wheel has compilers for five vendors and one dispatcher, Intel's, which loads the libraries of
one exact release of OpenVINO. The other vendors' dispatchers come with their devices.
"""

from __future__ import annotations

import ctypes
import re
from dataclasses import replace

from vitedge.runtimes import Availability, Readiness
from vitedge.runtimes._litert_aot import compiler_availability
from vitedge.runtimes._litert_vendors import package_folder, sdk_fault

_OTHER_VENDORS = ("mediatek", "google_tensor", "samsung")
_OPENVINO_LIBRARY = re.compile(r"libopenvino\.so\.(\d\d)(\d)(\d)")


def npu_availability(found: str) -> Availability:
    """Whether Intel's NPU, or its compiler and dispatcher on the CPU, can run here.

    Args:
        found: The LiteRT package and its version, for the words.
    """
    state = _on_intel(found)
    return replace(state, detail=f"{state.detail}; {_compiling_words()}")


def _on_intel(found: str) -> Availability:
    vendors = package_folder("ai_edge_litert") / "vendors"
    plugin = vendors / "intel_openvino" / "compiler" / "libLiteRtCompilerPlugin_IntelOpenvino.so"
    if not plugin.is_file():
        detail = f"{found} has no NPU dispatcher for this system"
        return Availability(Readiness.MISSING, detail, "It has one for x86-64 Linux (Intel)")
    try:
        ctypes.CDLL(str(plugin))
    except OSError as error:
        return Availability(Readiness.MISSING, f"{found}: {error}", _openvino_remedy(str(error)))
    import openvino

    devices = openvino.Core().available_devices
    if any(device.startswith("NPU") for device in devices):
        return Availability(Readiness.READY, f"{found}, Intel's NPU through OpenVINO")
    words = f"{found}, Intel's compiler and dispatcher on the CPU: OpenVINO finds "
    words += ", ".join(devices) or "no device at all"
    return Availability(Readiness.EMULATED, words)


def _compiling_words() -> str:
    """The vendors to compile for ahead of time, and the packages that are not what they seem."""
    compiling = compiler_availability("it")
    words = [compiling.detail]
    if compiling.remedy:
        words[0] += f" ({compiling.remedy[0].lower()}{compiling.remedy[1:]})"
    faults = (sdk_fault(vendor) for vendor in _OTHER_VENDORS)
    return "; ".join([*words, *(fault for fault in faults if "empty" in fault)])


def _openvino_remedy(error: str) -> str:
    wanted = _OPENVINO_LIBRARY.search(error)
    release = "==20{}.{}.{}".format(*wanted.groups()) if wanted else ""
    return f"In an environment of its own run: pip install ai-edge-litert openvino{release}"
