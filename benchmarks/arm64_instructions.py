"""How many instructions do our artefacts and other engines run on arm64, by emulation?

Run: ``python benchmarks/arm64_instructions.py --folder FOLDER --tools TOOLS`` with the folder that
``engines.py --model two-blocks --folder FOLDER`` filled; TOOLS keeps downloads. Every file runs
under QEMU's emulation of a Cortex-A76 (a Raspberry Pi 5: dot products of int8, no i8mm), on one
thread, in a Python for arm64 with the engines' own wheels. Each runs three times and once; half the
difference is one inference.

Instructions are not time: a multiplication of vectors counts as much as a load that misses the
cache. They tell which engine does less, and are the same on every machine.

It needs Debian, gcc, and for ExecuTorch's programs g++-aarch64-linux-gnu. tract has no wheel for
arm64; OpenVINO was not tried.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from contenders import say

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.support.raspberry_pi import (  # noqa: E402  (the tests are no package that is installed)
    CPU,
    RELEASES,
    EmulatedPi,
    Unobtainable,
    emulated_pi,
)

# Debian's packages of QEMU that takes plug-ins, and what they need beside a usual system.
_QEMU = ("qemu-user", "libcapstone4", "liburing2")
_WHEELS = ("numpy", "ai-edge-litert", "onnxruntime", "MNN", "ncnn")
_COMPILER = "aarch64-linux-gnu-g++"

_FILES = {
    "ours, TFLite int8": "ours.int8.tflite",
    "ours, TFLite fp32": "ours.fp32.tflite",
    "ours, ONNX int8": "ours.int8.onnx",
    "ours, ONNX fp32": "ours.fp32.onnx",
    "MNN 8-bit weights, dynamic": "mnn8.mnn",
    "MNN fp32": "mnn.mnn",
    "ncnn fp32": "ncnn/planes.ncnn.param",
    "ExecuTorch int8, dynamic": "executorchdynamic.pte",
    "ExecuTorch int8, static": "executorchstatic.pte",
    "ExecuTorch fp32": "executorch.pte",
}
_BASELINE = "ours, TFLite fp32"

_RUNS = (3, 1)


@dataclass(frozen=True)
class Row:
    """One file.

    Attributes:
        name: The engine and the precision.
        millions: Instructions of one inference, in millions.
        ratio: Those over our float32 TFLite file's.
    """

    name: str
    millions: float
    ratio: float


def main() -> None:
    """Parses the command line, counts, and prints a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True, help="of engines.py")
    parser.add_argument("--tools", type=Path, required=True, help="where tools stay")
    parser.add_argument("--side", type=int, default=224, help="pixels of the input's sides")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    tools = _Tools(options.tools.resolve())
    counted = {}
    for name, file in _FILES.items():
        path = (options.folder / file).resolve()
        if not path.exists():
            say(f"{name}: not counted: there is no {file}")
            continue
        try:
            more, fewer = (tools.instructions(path, options.side, runs) for runs in _RUNS)
        except (Unobtainable, RuntimeError) as error:
            say(f"{name}: not counted: {error}")
            continue
        counted[name] = (more - fewer) / (_RUNS[0] - _RUNS[1]) / 1e6
        say(f"{name}: {counted[name]:.1f} million")
    base = counted.get(_BASELINE, float("nan"))
    rows = [Row(name, each, each / base) for name, each in counted.items()]
    if options.json:
        print(json.dumps([asdict(each) for each in rows]))
        return
    print("| engine | million instructions | ratio |\n|---|--:|--:|")
    for each in sorted(rows, key=lambda row: row.millions):
        print(f"| {each.name} | {each.millions:.1f} | {each.ratio:.2f} |")


class _Tools:
    """QEMU, the plug-in, a Python for arm64 and the runner of ExecuTorch, in one folder."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._pi: EmulatedPi = emulated_pi(RELEASES[0])
        self._site = folder / "site"
        if not self._site.is_dir():
            self._pi.install(self._site, _WHEELS)
        self._qemu = folder / "qemu"
        if not self._qemu.is_dir():
            _called("apt-get", "-qq", "-oAPT::Sandbox::User=root", "download", *_QEMU, cwd=folder)
            for package in folder.glob("*.deb"):
                _called("dpkg", "-x", str(package), str(self._qemu))
        self._plugin = folder / "instruction_count.so"
        source = Path(__file__).with_name("instruction_count.c")
        _called("gcc", "-shared", "-fPIC", "-O2", str(source), "-o", str(self._plugin))

    def instructions(self, path: Path, side: int, runs: int) -> int:
        """Instructions of a process that opens a file and runs it so many times.

        Raises:
            Unobtainable: A compiler or a package is not to be had.
            RuntimeError: The process failed.
        """
        library = next(self._qemu.glob("usr/lib/*-linux-gnu"))
        command = ["env", f"LD_LIBRARY_PATH={library}", str(self._qemu / "usr/bin/qemu-aarch64")]
        command += ["-plugin", str(self._plugin), "-cpu", CPU, "-L", str(self._pi.root)]
        if path.suffix == ".pte":
            runner = self._executorch_runner()
            inside = {"LD_LIBRARY_PATH": str(self._executorch / "lib")}
            program = [str(runner)]
        else:
            inside = {"PYTHONHOME": "/usr", "PYTHONPATH": str(self._site)}
            inside |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "LD_LIBRARY_PATH": ""}
            program = [str(self._pi.root / "usr/bin" / f"python{self._pi.release.python}")]
            program += [str(Path(__file__).with_name("arm64_program.py"))]
        for name, value in inside.items():
            command += ["-E", f"{name}={value}"]
        said = _called(*command, *program, str(path), str(side), str(runs))
        found = re.search(r"^instructions (\d+)$", said, re.MULTILINE)
        if found is None:
            raise RuntimeError("the plug-in counted nothing")
        return int(found[1])

    @property
    def _executorch(self) -> Path:
        return self._folder / "executorch-site" / "executorch"

    def _executorch_runner(self) -> Path:
        """The runner, linked with the libraries of ExecuTorch's package for arm64."""
        runner = self._folder / "executorch_runner"
        if runner.exists():
            return runner
        site = self._executorch.parent
        if not site.is_dir():
            self._pi.install(site, ["--no-deps", "executorch"])
        include = self._executorch / "include"
        words = [_COMPILER, "-std=c++17", "-O1", "-w", "-DC10_USING_CUSTOM_GENERATED_MACROS"]
        words += [f"-I{include}", f"-I{include}/executorch/runtime/core/portable_type/c10"]
        words += [str(Path(__file__).with_name("executorch_runner.cpp")), "-o", str(runner)]
        words += [f"-L{self._executorch}/lib", "-Wl,--no-as-needed"]
        libraries = ("", "_kernels_optimized", "_kernels_quantized", "_backend_xnnpack")
        words += [f"-lexecutorch{name}" for name in (*libraries, "_threadpool")]
        _called(*words, "-Wl,--unresolved-symbols=ignore-in-shared-libs")
        return runner


def _called(*command: str, cwd: Path | None = None) -> str:
    """What a command writes to stderr.

    Raises:
        RuntimeError: It failed.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd)
    except OSError as error:
        raise RuntimeError(f"{command[0]} cannot run: {error}") from error
    if done.returncode:
        last = (done.stderr.strip() or "no words").splitlines()[-1]
        raise RuntimeError(f"{Path(command[0]).name} failed with {done.returncode}: {last}")
    return done.stderr


if __name__ == "__main__":
    main()
