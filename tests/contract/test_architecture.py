"""What the shape of the package promises."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

import vitedge
from vitedge.bench import builtin
from vitedge.targets.formats import all_formats

ROOT = Path(__file__).parents[2]
ENGINES = {
    *("tensorflow", "keras", "onnx", "onnxruntime", "openvino", "nncf", "ai_edge_litert"),
    *("torch", "scipy", "sklearn", "h5py", "flatbuffers", "safetensors", "click", "rich"),
}


def modules() -> list[str]:
    found = pkgutil.walk_packages(vitedge.__path__, "vitedge.")
    # Keras's layers can only be defined where Keras is; __main__ runs the command.
    left_out = ("vitedge.in_keras.", "vitedge.__main__")
    return [each.name for each in found if not each.name.startswith(left_out)]


def loaded_after(program: str) -> set[str]:
    command = [sys.executable, "-c", f"{program}\nimport sys; print(*sys.modules)"]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return {name.split(".")[0] for name in output.split()}


def test_importing_the_package_loads_neither_an_engine_nor_numpy() -> None:
    assert not (ENGINES | {"numpy", "PIL"}) & loaded_after("import vitedge")


def test_importing_every_module_loads_no_engine() -> None:
    program = "\n".join(f"import {name}" for name in modules() if not name.endswith(".cli"))
    assert not (ENGINES - {"click", "rich"}) & loaded_after(program)


@pytest.mark.parametrize("name", modules())
def test_every_public_name_is_documented(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__doc__, name
    for public, value in vars(module).items():
        written_here = getattr(value, "__module__", None) == name
        is_definition = getattr(value, "__qualname__", None) == public
        if written_here and is_definition and not public.startswith("_"):
            assert value.__doc__, f"{name}.{public}"


def test_no_module_is_named_like_a_package_it_uses() -> None:
    formats = {f"vitedge.converters.{each}" for each in all_formats()}  # each has a folder
    taken = ENGINES | {"numpy", "PIL"}
    assert not {name.rpartition(".")[2] for name in {*modules()} - formats} & taken


@pytest.mark.slow
def test_the_device_side_installs_and_runs_without_tensorflow(tmp_path: Path) -> None:
    environment = tmp_path / "venv"
    venv.create(environment, with_pip=True)
    python = environment / "bin" / "python"
    install = [python, "-m", "pip", "install", "--quiet", f"{ROOT}[tflite]"]
    subprocess.run(install, check=True)
    program = (
        "import sys; from vitedge import load\n"
        "heavy = {'tensorflow', 'keras', 'ai_edge_litert', 'onnxruntime', 'openvino', 'rich'}\n"
        "loaded = heavy & set(sys.modules)\n"
        "from vitedge.bench import builtin\n"
        "path = next(each for each in builtin.artifacts() if each.suffix == '.tflite')\n"
        "images = builtin.images().samples\n"
        "with load(path) as model:\n"
        "    right = sum(model.classify(s.image)[0][0] == str(s.label) for s in images)\n"
        "print(right / len(images), *loaded)\n"
    )
    accuracy, *loaded = subprocess.run(
        [python, "-c", program], capture_output=True, text=True, check=True, cwd=tmp_path
    ).stdout.split()
    installed = subprocess.run(
        [python, "-m", "pip", "list", "--format=freeze"], capture_output=True, text=True, check=True
    ).stdout.lower()
    assert float(accuracy) >= 0.97
    assert not any(heavy in installed for heavy in ("tensorflow", "keras", "torch", "scipy"))
    assert not loaded  # an engine is loaded with the first artefact, so that the import is quick
    onnx = next(each for each in builtin.artifacts() if each.suffix == ".onnx")
    absent = subprocess.run(
        [environment / "bin" / "vitedge", "predict", onnx, "digit.png"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert absent.returncode == 1
    assert len(absent.stderr.splitlines()) == 1
    assert "pip install 'vitedge[onnx]'" in absent.stderr
    for command in ("targets", "bench --runs 5 --target tflite-cpu"):
        subprocess.run(
            [environment / "bin" / "vitedge", *command.split()], check=True, cwd=tmp_path
        )
