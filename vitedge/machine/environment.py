"""The machine as far as it can be read: what a time means nothing without."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_PACKAGES = (
    *("vitedge", "numpy", "pillow"),
    *("ai-edge-litert", "tflite-runtime", "ethos-u-vela", "openvino"),
    *("onnxruntime", "onnxruntime-gpu", "onnxruntime-qnn"),
    *("onnxruntime-webgpu", "onnxruntime-openvino"),
)
_CPU_FOLDER = Path("/sys/devices/system/cpu")
# https://www.raspberrypi.com/documentation/computers/os.html#get_throttled: what is so now; 16 bits
# further on, what has been since the start.
_THROTTLED = Path("/sys/devices/platform/soc/soc:firmware/get_throttled")
_THROTTLING = {
    0: "under-voltage",
    1: "frequency capped",
    2: "throttled",
    3: "soft temperature limit",
}
_STEADY_GOVERNOR = "performance"
# Beyond this load something else competes for the processors.
_BUSY_SHARE = 0.5
_CGROUP_QUOTA = Path("/sys/fs/cgroup/cpu.max")


@dataclass(frozen=True)
class Environment:
    """The machine of a bench; None or an empty string where the system does not tell.

    Attributes:
        cpu: Model name.
        machine: Instruction set.
        cores: Logical processors that this process may use.
        physical_cores: The cores without hyper-threads, and within the container's quota.
        threads: CPU threads that each artefact was given.
        governor: Frequency governors in use.
        max_frequency_mhz: Highest clock frequency of any processor.
        temperature_c: Hottest thermal zone before the bench, in degrees Celsius.
        memory_mb: Physical memory in 10^6 bytes.
        load_before: Processes running or waiting, averaged over the minute before.
        os: Operating system.
        python: Version.
        versions: Installed engines and packages.
        started: Date and time, ISO 8601, UTC.
        throttling: The reason why a Raspberry Pi's processor was slowed down, or empty.
        warnings: The reasons why times taken here may not repeat, in words.
    """

    cpu: str
    machine: str
    cores: int
    physical_cores: int
    threads: int
    governor: str
    max_frequency_mhz: float | None
    temperature_c: float | None
    memory_mb: float | None
    load_before: float | None
    os: str
    python: str
    versions: Mapping[str, str]
    started: str
    throttling: str = ""
    warnings: tuple[str, ...] = ()


def read_environment(threads: int) -> Environment:
    """Reads the machine; loads no engine."""
    from datetime import UTC, datetime

    governor, load, slowed = _governor(), _load(), throttling()
    return Environment(
        cpu=_cpu_model(),
        machine=platform.machine(),
        cores=len(_usable_processors()),
        physical_cores=physical_cores(),
        threads=threads,
        governor=governor,
        max_frequency_mhz=_max_frequency_mhz(),
        temperature_c=temperature_c(),
        memory_mb=_memory_mb(),
        load_before=load,
        os=_os_name(),
        python=platform.python_version(),
        versions=_versions(),
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        throttling=slowed,
        warnings=unsteadiness(governor, load, len(_usable_processors()), slowed),
    )


def unsteadiness(
    governor: str, load: float | None, cores: int, slowed: str = ""
) -> tuple[str, ...]:
    """The reasons why times on such a machine may not repeat, in words.

    Args:
        governor: Frequency governors in use, or empty.
        load: Processes running or waiting before the bench, or None.
        cores: Logical processors.
        slowed: The text of ``throttling``.
    """
    found = []
    if governor not in ("", _STEADY_GOVERNOR):
        found.append(
            f"the frequency governor is '{governor}', so clocks rise and fall while measuring; "
            f"'{_STEADY_GOVERNOR}' repeats better"
        )
    if load is not None and load > _BUSY_SHARE * cores:
        found.append(f"the machine was busy before: {load:g} processes on {cores} processors")
    if slowed:
        found.append(f"the processor was slowed down, {slowed}")
    return tuple(found)


def _load() -> float | None:
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def physical_cores() -> int:
    """Cores that this process may use: hyper-threads count once, a container's quota limits."""
    processors = _usable_processors()
    siblings = {
        _read(_CPU_FOLDER / f"cpu{number}/topology/thread_siblings_list") or str(number)
        for number in processors
    }
    quota = _read(_CGROUP_QUOTA).split()
    allowed = len(siblings)
    if len(quota) == 2 and quota[0].isdecimal():
        allowed = min(allowed, math.ceil(int(quota[0]) / int(quota[1])))
    return max(1, allowed)


def _usable_processors() -> list[int]:
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _read(path: Path) -> str:
    """The file's text; empty where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip("\0\n ")
    except OSError:
        return ""


def _cpu_model() -> str:
    for line in _read(Path("/proc/cpuinfo")).splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("model name", "Model"):
            return value.strip()
    # Boards with Arm processors name themselves in the device tree.
    return _read(Path("/proc/device-tree/model")) or platform.processor() or platform.machine()


def _governor() -> str:
    found = {_read(path) for path in _CPU_FOLDER.glob("cpu[0-9]*/cpufreq/scaling_governor")}
    return ", ".join(sorted(found - {""}))


def _max_frequency_mhz() -> float | None:
    found = [_read(path) for path in _CPU_FOLDER.glob("cpu[0-9]*/cpufreq/cpuinfo_max_freq")]
    return max((int(khz) / 1000 for khz in found if khz.isdecimal()), default=None)


def mean_frequency_mhz() -> float | None:
    """Clock frequency now, averaged over the processors; None where nothing tells it."""
    found = [_read(path) for path in _CPU_FOLDER.glob("cpu[0-9]*/cpufreq/scaling_cur_freq")]
    known = [int(khz) / 1000 for khz in found if khz.isdecimal()]
    return sum(known) / len(known) if known else None


def temperature_c() -> float | None:
    """The hottest thermal zone now; None where nothing tells it."""
    zones = Path("/sys/class/thermal").glob("thermal_zone*/temp")
    found = [_read(path) for path in zones]
    return max((int(milli) / 1000 for milli in found if milli.isdecimal()), default=None)


def throttling(flags: Path = _THROTTLED) -> str:
    """The cause that slows a Raspberry Pi's processor, now or since it started; empty elsewhere."""
    try:
        value = int(_read(flags), 16)
    except ValueError:
        return ""
    now = [words for bit, words in _THROTTLING.items() if value >> bit & 1]
    since = [words for bit, words in _THROTTLING.items() if value >> (bit + 16) & 1]
    parts = [f"now: {', '.join(now)}"] if now else []
    return "; ".join(parts + ([f"since its start: {', '.join(since)}"] if since else []))


def _memory_mb() -> float | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e6
    except (AttributeError, ValueError, OSError):
        return None


def _os_name() -> str:
    try:
        return f"{platform.freedesktop_os_release()['PRETTY_NAME']}, {platform.release()}"
    except (OSError, KeyError):
        return f"{platform.system()} {platform.release()}"


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
