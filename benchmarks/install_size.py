"""What vitedge costs a device: size on disk and seconds to import, for each extra.

Run: ``python benchmarks/install_size.py [--extras tflite onnx openvino] [--json]``.
Each extra is installed from nothing into an environment of its own. Size is what lies in
site-packages afterwards, less pip, without compiled bytecode, here and as a Raspberry Pi with OS 12
gets it (arm64 wheels, which need no emulator to be unpacked). Times are the wall time of fresh
processes here with warm file caches: ``vitedge.load`` imported, and then a loaded and warmed-up
model (the built-in digits), which is mostly the engine's import.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import venv
from dataclasses import asdict, dataclass
from pathlib import Path

from vitedge.remote.wheel import write_wheel

SUFFIXES = {"tflite": ".tflite", "onnx": ".onnx", "openvino": ".xml"}
RUNS = 7

PROGRAM = """\
import time; start = time.perf_counter()
import vitedge; vitedge.load
imported = time.perf_counter()
from vitedge import builtin
path = next(each for each in builtin.artifacts() if each.suffix == {suffix!r})
begun = time.perf_counter()
vitedge.load(path)
print(imported - start, time.perf_counter() - begun)
"""


@dataclass(frozen=True)
class Cost:
    """One extra: megabytes (10^6 bytes) on disk and seconds; medians of ``n`` processes."""

    extra: str
    installed_mb: float
    raspberry_pi_mb: float
    packages: dict[str, float]
    import_s: float
    load_s: float
    n: int


def measure(extra: str, wheel: Path, folder: Path) -> Cost:
    """Installs one extra and measures it."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    install = [python, "-m", "pip", "install", "--quiet", "--no-compile", f"{wheel}[{extra}]"]
    subprocess.run(install, check=True)
    (site,) = folder.glob("lib/python*/site-packages")
    packages = {
        path.name: size_mb(path)
        for path in site.iterdir()
        if not path.name.startswith(("pip", "setuptools", "_distutils", "distutils"))
    }
    program = PROGRAM.format(suffix=SUFFIXES[extra])
    times = []
    for _ in range(RUNS + 1):
        done = subprocess.run(
            [python, "-c", program], capture_output=True, text=True, check=True, cwd=folder
        )
        times.append([float(value) for value in done.stdout.split()])
    warm = times[1:]  # the first compiles bytecode and fills the caches
    return Cost(
        extra=extra,
        installed_mb=sum(packages.values()),
        raspberry_pi_mb=raspberry_pi_mb(extra, wheel, folder / "arm64"),
        packages=dict(sorted(packages.items(), key=lambda item: -item[1])[:6]),
        import_s=statistics.median(each[0] for each in warm),
        load_s=statistics.median(each[1] for each in warm),
        n=RUNS,
    )


def raspberry_pi_mb(extra: str, wheel: Path, site: Path) -> float:
    """Size of one extra's wheels for a Raspberry Pi with OS 12: Python 3.11, glibc 2.36, arm64."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-compile", "--target", site]
    command += ["--python-version", "3.11", "--only-binary", ":all:"]
    for minor in range(17, 37):
        command += ["--platform", f"manylinux_2_{minor}_aarch64"]
    subprocess.run([*command, f"{wheel}[{extra}]"], check=True)
    return size_mb(site)


def size_mb(path: Path) -> float:
    """Size of a file, or of all files of a folder but compiled ones."""
    files = [path] if path.is_file() else path.rglob("*")
    return (
        sum(each.lstat().st_size for each in files if each.is_file() and each.suffix != ".pyc")
        / 1e6
    )


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--extras", nargs="*", choices=SUFFIXES, default=list(SUFFIXES))
    parser.add_argument("--json", action="store_true", help="one JSON list instead of a table")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        wheel = write_wheel(Path(folder))
        costs = [measure(extra, wheel, Path(folder) / extra) for extra in arguments.extras]
    if arguments.json:
        print(json.dumps([asdict(cost) for cost in costs], indent=1))
        return
    print(f"{platform.machine()}, Python {platform.python_version()}, median of {RUNS} processes")
    print("extra      installed MB   on a Pi   import s   load s   largest here")
    for cost in costs:
        largest = ", ".join(f"{name} {size:.0f}" for name, size in list(cost.packages.items())[:4])
        sizes = f"{cost.installed_mb:>12.0f}  {cost.raspberry_pi_mb:>10.0f}"
        print(f"{cost.extra:9}  {sizes}  {cost.import_s:>9.2f}  {cost.load_s:>7.2f}   {largest}")


if __name__ == "__main__":
    main()
