"""Every command and program of the README is run."""

from __future__ import annotations

import csv
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from safetensors.numpy import save_file

from tests.support.browsers import NPM
from tests.support.torch_files import timm_weights
from tests.unit.importers.lift.test_outputs_beside import detector

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()

# Photos of each kind, and classes, that stand in for the reader's hundreds.
PHOTOS = 12
CLASSES = ("ash", "beech", "birch", "elm", "lime")


def commands(prefix: str) -> list[str]:
    """The commands of all console blocks that begin so, in order, without their comments."""
    blocks = re.findall(r"```console\n(.*?)```", README, re.DOTALL)
    lines = [line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ ")]
    return [line.split("  #")[0].strip() for line in lines if line.startswith(prefix)]


def programs() -> list[str]:
    return re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def write_photos(folder: Path, seed: int) -> None:
    """Pictures of noise, with labels beside them."""
    folder.mkdir(parents=True)
    pictures = np.random.default_rng(seed).integers(0, 256, (PHOTOS, 64, 64, 3), np.uint8)
    for number, picture in enumerate(pictures):
        Image.fromarray(picture).resize((256, 256)).save(folder / f"{number}.jpg")
    rows = [("file", "label"), *((f"{n}.jpg", n % len(CLASSES)) for n in range(PHOTOS))]
    with (folder / "labels.csv").open("w") as stream:
        csv.writer(stream).writerows(rows)


def write_map_model(path: Path) -> None:
    """A small model of a map, for the reader's DINOv2-S of 97 MB."""
    model, _ = detector(path)
    model.graph.initializer.append(numpy_helper.from_array(np.asarray([1]), "channels"))
    model.graph.node.append(helper.make_node("ReduceMean", ["heat", "channels"], ["focus"]))
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info("focus", TensorProto.FLOAT, None))
    onnx.save(model, path)


@pytest.fixture
def reader(tmp_path: Path) -> Path:
    """A folder with what the README's reader has: a DeiT-tiny of two blocks, labels and photos."""
    weights = timm_weights(classes=len(CLASSES), grid=(14, 14), patch=16, dim=192)
    save_file(weights, tmp_path / "deit_tiny_patch16_224.safetensors")
    write_map_model(tmp_path / "vit_s_focus.onnx")
    (tmp_path / "labels.txt").write_text("\n".join(CLASSES))
    for seed, kind in enumerate(("calibration", "validation")):
        write_photos(tmp_path / "photos" / kind, seed)
    shutil.copy(tmp_path / "photos" / "validation" / "0.jpg", tmp_path / "photo.jpg")
    return tmp_path


def test_the_readme_has_commands_to_run() -> None:
    assert commands("make ") == ["make demo", "make test"]
    assert len(commands("vitedge ")) >= 5
    assert commands("python3 ") == ["python3 -m http.server --directory site"]
    runs = [*commands("make "), *commands("vitedge "), *commands("python3 ")]
    assert len(commands("")) == len(runs)
    assert programs()


def assert_serves(command: str, folder: Path) -> None:
    """A page and what computes it come from the command's server, on a port that is free."""
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    server = subprocess.Popen(
        [sys.executable, *shlex.split(command)[1:], "0", "--bind", "127.0.0.1"],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with server:
        try:
            assert server.stdout is not None
            address = re.search(r"http://[\d.:]+/", server.stdout.readline())
            assert address is not None
            for name in ("index.html", "model.json", "engine.mjs", "model.int8.tflite"):
                with urlopen(address[0] + name) as answer:
                    assert answer.read()
        finally:
            server.terminate()


@pytest.mark.slow
def test_the_commands_of_the_readme_work_in_their_order(reader: Path) -> None:
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    if NPM.exists():
        environment["VITEDGE_NPM"] = str(NPM)
    for command in commands("vitedge "):
        if " --web " in command and not NPM.exists():
            continue  # npm would have to fetch the engine
        # `make demo` trains the same model to its end.
        fewer = " --epochs 3" if command.startswith("vitedge train ") else ""
        done = subprocess.run(
            command + fewer,
            shell=True,
            cwd=reader,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stderr}"
    assert {"report.json", "report.html"} <= {each.name for each in reader.iterdir()}
    if NPM.exists():
        assert_serves(*commands("python3 "), reader)
    shutil.copy(reader / "artefacts" / "model.int8.tflite", reader / "model.int8.tflite")
    for program in programs():
        done = subprocess.run(
            [sys.executable, "-c", program], cwd=reader, capture_output=True, text=True, check=True
        )
        assert done.stdout.count("%") == 5


@pytest.mark.slow
def test_make_demo_runs_in_this_very_environment(tmp_path: Path) -> None:
    # The environment that these tests run in is what `make` would build; its stamp says so.
    environment = tmp_path / "venv"
    environment.symlink_to(sys.prefix)
    stamp = Path(sys.prefix) / ".installed-all"
    fresh = not stamp.exists()
    stamp.touch()
    try:
        output = tmp_path / "demo"
        done = subprocess.run(
            ["make", "demo", f"VENV={environment}", f"DEMO_OUTPUT={output}"],
            check=False,
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
    finally:
        if fresh:
            stamp.unlink()
    assert done.returncode == 0, done.stderr
    accuracy = re.search(r"trained to ([\d.]+)% of 359 held-out digits", done.stdout)
    assert accuracy is not None, done.stdout
    assert float(accuracy[1]) >= 97
    for suffix in ("tflite", "onnx", "xml"):
        assert len(list(output.glob(f"model.*.{suffix}"))) == 3
    assert (output / "report.html").stat().st_size > 10_000
    assert (output / "report.json").exists()
