"""What a message advises can be done, and helps."""

from __future__ import annotations

import ast
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper

import vitedge
from tests.support.torch_files import save_torch, timm_weights
from vitedge.cli import main

GOLDEN = Path(__file__).parents[2] / "golden"
ONNX = GOLDEN / "lift" / "torchvision_script_one.onnx"


def below(prefix: str, **more: np.ndarray) -> dict[str, np.ndarray]:
    return {prefix + name: array for name, array in timm_weights().items()} | more


def wide(folder: Path) -> Path:
    return save_torch(folder / "wide.pth", timm_weights(grid=(4, 8)))


def narrow_heads(folder: Path) -> Path:
    return save_torch(folder / "model.pth", timm_weights())


def perceptron(folder: Path) -> Path:
    more = {"head.3.weight": np.eye(5, dtype=np.float32), "head.3.bias": np.ones(5, np.float32)}
    return save_torch(folder / "model.pth", timm_weights(head=("head.0",)) | more)


def something_beside(folder: Path) -> Path:
    state = below("model.", **{"normalize.mean": np.zeros(3, np.float32)})
    return save_torch(folder / "model.ckpt", {"state_dict": state})


def another_head(folder: Path) -> Path:
    return save_torch(folder / "model.pth", timm_weights(head=("fc",)))


def two_models(folder: Path) -> Path:
    return save_torch(folder / "two.pth", {"student": timm_weights(), "teacher": below("net.")})


def adapter(folder: Path) -> Path:
    from safetensors.numpy import save_file

    narrow_heads(folder)
    (folder / "adapter").mkdir()
    arrays = {"base_model.model.head.weight": np.ones((5, 16), np.float32)}
    save_file(arrays, folder / "adapter" / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "lora_alpha": 8}
    (folder / "adapter" / "adapter_config.json").write_text(json.dumps(config))
    return folder / "adapter"


def another_processor(folder: Path) -> Path:
    shutil.copytree(GOLDEN / "hugging_face_vit", folder / "vit")
    path = folder / "vit" / "preprocessor_config.json"
    values = json.loads(path.read_text()) | {"size": {"height": 24, "width": 24}}
    path.write_text(json.dumps(values))
    return folder / "vit"


def open_sizes(folder: Path) -> Path:
    model = onnx.load(ONNX)
    for axis, dim in enumerate(model.graph.input[0].type.tensor_type.shape.dim):
        dim.Clear()
        dim.dim_param = f"axis {axis}"
    del model.graph.value_info[:]
    onnx.save(model, folder / "open.onnx")
    return folder / "open.onnx"


def two_outputs(folder: Path) -> Path:
    model = onnx.load(ONNX)
    output = model.graph.output[0]
    classes = output.type.tensor_type.shape.dim[1].dim_value
    weight = numpy_helper.from_array(np.ones((classes, 2), np.float32), "w")
    model.graph.initializer.append(weight)
    model.graph.node.append(helper.make_node("MatMul", [output.name, "w"], ["age"]))
    model.graph.output.append(helper.make_tensor_value_info("age", TensorProto.FLOAT, [1, 2]))
    onnx.save(model, folder / "two.onnx")
    return folder / "two.onnx"


def tanh(folder: Path) -> Path:
    model = onnx.load(ONNX)
    output = model.graph.output[0]
    model.graph.node.append(helper.make_node("Tanh", [output.name], ["between"]))
    output.name = "between"
    onnx.save(model, folder / "numbers.onnx")
    return folder / "numbers.onnx"


def halved_softmax(folder: Path) -> Path:
    model = onnx.load(ONNX)
    output = model.graph.output[0]
    model.graph.initializer.append(numpy_helper.from_array(np.float32(0.5), "half"))
    softmax = helper.make_node("Softmax", [output.name], ["shares"])
    model.graph.node.extend([softmax, helper.make_node("Mul", ["shares", "half"], ["halves"])])
    output.name = "halves"
    onnx.save(model, folder / "halves.onnx")
    return folder / "halves.onnx"


CASES: dict[str, tuple[Callable[[Path], Path], list[str], str, str]] = {
    # source, what else is given, the flag in the message, its value ("" means the message's own)
    "heads": (narrow_heads, [], "--heads", "2"),
    "size of no square": (wide, ["--heads", "2"], "--image-size", "32x64"),
    "layers of a head": (perceptron, ["--heads", "2"], "--head-activation", "relu"),
    "weights beside a model": (something_beside, ["--heads", "2"], "--weights", ""),
    "a head of another name": (another_head, ["--heads", "2"], "--head", ""),
    "several models": (two_models, ["--heads", "2"], "--weights", ""),
    "base of an adapter": (adapter, ["--heads", "2"], "--base", "model.pth"),
    "size of a processor": (another_processor, [], "--image-size", "24"),
    "open sizes": (open_sizes, [], "--image-size", "32"),
    "several outputs": (two_outputs, [], "--logits", "age"),
    "outputs that may mean several things": (tanh, [], "--task", ""),
    "sums after a softmax": (halved_softmax, [], "--task", ""),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("command", ["import", "inspect"])
def test_the_flag_that_a_message_names_helps(
    command: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, given, flag, value = CASES[name]
    if command == "inspect" and make in (open_sizes, two_outputs, tanh, halved_softmax):
        pytest.skip("inspect shows ONNX files as artefacts")
    source = str(make(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("vitedge.pipeline.keras_model.write_keras", lambda *_, **__: None)
    first = CliRunner().invoke(main, [command, source, *given])
    assert first.exit_code == 1, first.output
    advised = re.search(rf"{flag}(?: (\S+))?", first.stderr)
    assert advised is not None, first.stderr
    second = CliRunner().invoke(main, [command, source, *given, flag, value or advised[1]])
    assert second.exit_code == 0, second.output


def test_every_flag_that_a_message_names_is_an_option() -> None:
    known = {"--help", "--version"}
    known |= {"--editable", "--system-site-packages"}  # pip's and venv's
    for command in main.commands.values():
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                known |= {*parameter.opts, *parameter.secondary_opts}
    package = Path(vitedge.__file__).parent
    unknown = {}
    for path in sorted(package.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        raised = (node for node in ast.walk(tree) if isinstance(node, ast.Raise))
        words = (
            each.value
            for node in raised
            for each in ast.walk(node)
            if isinstance(each, ast.Constant) and isinstance(each.value, str)
        )
        flags = {flag for text in words for flag in re.findall(r"(?<!\S)--[a-z][a-z0-9-]+", text)}
        if flags - known:
            unknown[str(path.relative_to(package))] = sorted(flags - known)
    assert unknown == {}
