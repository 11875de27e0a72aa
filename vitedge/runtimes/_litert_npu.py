"""What LiteRT needs for an NPU, and what of it is here.

Its wheel has compilers for five vendors and one dispatcher, Intel's, which loads the libraries of
one exact release of OpenVINO. The other vendors' dispatchers come with their devices.
"""

from __future__ import annotations

import ctypes
import re
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from vitedge.runtimes import Availability, Readiness

_OTHER_VENDORS = ("qualcomm", "mediatek", "google_tensor", "samsung")
_OPENVINO_LIBRARY = re.compile(r"libopenvino\.so\.(\d\d)(\d)(\d)")


def npu_availability(found: str) -> Availability:
    """Whether Intel's NPU, or its compiler and dispatcher on the CPU, can run here.

    Args:
        found: The LiteRT package and its version, for the words.
    """
    found = "; ".join(words for words in (found, _compiling_words()) if words)
    vendors = _package_folder("ai_edge_litert") / "vendors"
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


def sdk_fault(vendor: str) -> str:
    """What is wrong with a vendor's package for compiling ahead of time; empty when nothing is.

    Those packages are installed "successfully" and empty when their own download fails.

    Args:
        vendor: ``qualcomm``, ``mediatek``, ``google_tensor`` or ``samsung``.
    """
    package = f"ai-edge-litert-sdk-{vendor.replace('_', '-')}"
    try:
        release = version(package)
    except PackageNotFoundError:
        return f"{package} is not installed"
    if (_package_folder(package.replace("-", "_")) / "data").is_dir():
        return ""
    return (
        f"{package} {release} is installed but empty: its own download failed; "
        f"run with a connection: pip install --force-reinstall --no-cache-dir {package}"
    )


def _compiling_words() -> str:
    """Which other vendors' compilers could be used ahead of time, and what each lacks."""
    faults = {vendor: sdk_fault(vendor) for vendor in _OTHER_VENDORS}
    ready = [vendor for vendor, fault in faults.items() if not fault]
    broken = [fault for fault in faults.values() if "empty" in fault]
    words = [f"compiles ahead of time for {', '.join(ready)}"] if ready else []
    return "; ".join([*words, *broken])


def _openvino_remedy(error: str) -> str:
    wanted = _OPENVINO_LIBRARY.search(error)
    release = "==20{}.{}.{}".format(*wanted.groups()) if wanted else ""
    return f"In an environment of its own run: pip install ai-edge-litert openvino{release}"


def _package_folder(name: str) -> Path:
    spec = find_spec(name)
    return Path(spec.origin).parent if spec is not None and spec.origin else Path()
