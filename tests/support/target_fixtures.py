"""What targets need that no wheel of ours brings: fetched once, or the test is skipped with words.

It lies in ``.targets`` beside the tests, so that a second run starts at once.
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
import subprocess
import sys
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
FETCHED = ROOT / ".targets"

# What the device side of vitedge needs beside a runtime.
_BASE = ("numpy", "pillow", "click", "rich")
_FETCH_SECONDS = 900


@pytest.fixture
def software_vulkan(monkeypatch: pytest.MonkeyPatch) -> Path:
    """A software Vulkan driver, for processes that are started from now on."""
    fetched = _software_vulkan()
    if isinstance(fetched, str):
        pytest.skip(fetched)
    monkeypatch.setenv("LD_LIBRARY_PATH", str(fetched))
    monkeypatch.setenv("VK_ICD_FILENAMES", str(fetched / "vk_swiftshader_icd.json"))
    return fetched


@pytest.fixture
def htp_emulator() -> Path:
    """The Python that has Qualcomm's emulator: this one, or one of its own."""
    if find_spec("onnxruntime_qnn") is not None:
        return Path(sys.executable)
    return python_with("onnxruntime-qnn==2.7.0", "onnxruntime==1.32.0")


def python_with(*packages: str) -> Path:
    """The Python of an environment that has packages and what the device side needs.

    ``-m vitedge`` in it is this checkout, if ``PYTHONPATH`` is ``ROOT``.
    """
    made = _environment(packages)
    if isinstance(made, str):
        pytest.skip(made)
    return made


@cache
def _software_vulkan() -> Path | str:
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        return "software Vulkan comes from Debian's x86-64 packages"
    folder = FETCHED / "vulkan"
    with _lock("vulkan"):
        if (folder / "vk_swiftshader_icd.json").is_file():
            return folder
        fault = _run([ROOT / "scripts" / "software_vulkan.sh", folder])
    return f"Debian's chromium-common cannot be fetched: {fault}" if fault else folder


@cache
def _environment(packages: tuple[str, ...]) -> Path | str:
    name = "_".join(package.replace("==", "-") for package in packages)
    folder = FETCHED / f"{name}-python{sys.version_info[0]}.{sys.version_info[1]}"
    python = folder / "bin" / "python"
    with _lock(folder.name):
        if (folder / "complete").is_file():
            return python
        venv.create(folder, with_pip=True, clear=True)
        install = [python, "-m", "pip", "install", "--quiet", "--prefer-binary"]
        fault = _run([*install, *_BASE, *packages])
        if fault:
            return f"{' '.join(packages)} cannot be installed: {fault}"
        (folder / "complete").touch()
    return python


def _run(command: list[str | Path]) -> str:
    """Runs a command; why it failed, or nothing."""
    try:
        ended = subprocess.run(
            [str(part) for part in command],
            capture_output=True,
            text=True,
            check=False,
            timeout=_FETCH_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if not ended.returncode:
        return ""
    lines = ended.stderr.strip().splitlines() or [f"exit code {ended.returncode}"]
    return next((line for line in lines if "error" in line.lower()), lines[-1])


@contextmanager
def _lock(name: str) -> Iterator[None]:
    """Keeps parallel test processes from fetching the same thing twice."""
    FETCHED.mkdir(exist_ok=True)
    with (FETCHED / f"{name}.lock").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def run_python(python: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Runs a Python that sees this checkout."""
    return subprocess.run(
        [str(python), *(str(argument) for argument in arguments)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )


def bench_there(python: Path, artifact: Path, target: str, *options: str | Path) -> dict[str, Any]:
    """The row of an artefact, by the command line of the Python that has the target."""
    bench = ("-m", "vitedge", "bench", artifact, "--target", target)
    ended = run_python(python, *bench, "--threads", "1", "--json", "-", *options)
    assert ended.stdout, ended.stderr
    row: dict[str, Any]
    (row,) = json.loads(ended.stdout)["rows"]
    return row
