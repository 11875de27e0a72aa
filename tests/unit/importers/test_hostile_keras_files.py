"""Keras files that name code, functions and files: refused by name, before Keras sees them."""

from __future__ import annotations

import base64
import io
import json
import marshal
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
from click.testing import CliRunner

from tests.support.golden_cases import GOLDEN
from vitedge.cli import main
from vitedge.errors import ModelError
from vitedge.importers import ImportOptions, read_model
from vitedge.importers.lift.keras_files import keras_config, open_keras
from vitedge.importers.lift.keras_handover import checked_preset
from vitedge.importers.lift.keras_safety import inspect_config, refuse_findings
from vitedge.inspection.description import inspect

OLDEST = "VITEDGE_OLDEST_KERAS"
"""Names a folder of ``pip install --target FOLDER --no-deps keras==3.8.0``."""

Config = dict[str, Any]


def bytecode(marker: Path, arguments: str = "x") -> list[Any]:
    source = f"lambda {arguments}: __import__('os').system('touch {marker}') or x"
    code = compile(source, "x", "eval").co_consts[0]
    return [base64.b64encode(marshal.dumps(code)).decode(), None, None]


def keras_2(*layers: Config, output: str = "i") -> Config:
    """A functional model as Keras 2 writes it."""
    shape = {"batch_input_shape": [None, 8, 8, 3], "dtype": "float32", "name": "i"}
    image = {"class_name": "InputLayer", "config": shape, "name": "i", "inbound_nodes": []}
    every = [image, *layers]
    ends = {"input_layers": [["i", 0, 0]], "output_layers": [[output, 0, 0]]}
    return {"class_name": "Functional", "config": {"name": "m", "layers": every} | ends}


def keras_3(*layers: Config) -> Config:
    """A functional model as Keras 3 writes it."""
    image = {
        "module": "keras.layers",
        "class_name": "InputLayer",
        "config": {"batch_shape": [None, 8, 8, 3], "dtype": "float32", "name": "i"},
        "registered_name": None,
        "name": "i",
        "inbound_nodes": [],
    }
    ends = {"input_layers": [["i", 0, 0]], "output_layers": [["i", 0, 0]]}
    return {
        "module": "keras.src.models.functional",
        "class_name": "Functional",
        "config": {"name": "m", "trainable": True, "layers": [image, *layers]} | ends,
        "registered_name": "Functional",
    }


def layer(name: str, config: Any = None, **more: Any) -> Config:
    """A layer of Keras 3 on the image."""
    given = {"name": "x"} if config is None else config
    return {
        "module": "keras.layers",
        "class_name": name,
        "config": given,
        "registered_name": None,
        "name": "x",
        "inbound_nodes": [[["i", 0, 0, {}]]],
    } | more


def function_entry(marker: Path) -> Config:
    called = [{"args": [f"touch {marker}"], "kwargs": {}}]
    more = {"module": "os", "registered_name": "system", "inbound_nodes": called}
    return keras_3(layer("function", "system", **more))


def function_of_keras(marker: Path) -> Config:
    called = [{"args": [f"file://{marker}"], "kwargs": {}}]
    more = {"module": "keras.utils", "registered_name": "get_file", "inbound_nodes": called}
    return keras_3(layer("function", "get_file", **more))


def function_as_registered_name(marker: Path) -> Config:
    more = {"module": "keras.src.utils.python_utils", "registered_name": "func_load"}
    return keras_3(layer("Dense", {"code": bytecode(marker)}, **more))


def class_of_another_package(marker: Path) -> Config:
    return keras_3(layer("Popen", {"args": ["touch", str(marker)]}, module="subprocess"))


def function_in_a_regularizer(marker: Path) -> Config:
    regularizer = {
        "module": "os",
        "class_name": "function",
        "config": "system",
        "registered_name": "system",
    }
    return keras_3(layer("Dense", {"units": 3, "kernel_regularizer": regularizer}))


def function_by_a_word(marker: Path) -> Config:
    return keras_3(layer("Activation", {"activation": "deserialize"}))


def lambda_layer(marker: Path) -> Config:
    code = {"class_name": "__lambda__", "config": {"code": bytecode(marker)[0]}}
    return keras_3(layer("Lambda", {"name": "x", "function": code}))


def lambda_in_a_wrapper(marker: Path) -> Config:
    inner = layer("Lambda", {"name": "inner", "function": bytecode(marker)})
    return keras_3(layer("TimeDistributed", {"layer": inner}))


def saved_model_layer(marker: Path) -> Config:
    return keras_3(layer("TFSMLayer", {"filepath": str(marker.parent)}))


def torch_layer(marker: Path) -> Config:
    return keras_3(layer("TorchModuleWrapper", {"module": "gASVJgAAAAAAAACMBXBvc2l4"}))


def words_of_a_file(marker: Path) -> Config:
    return keras_3(layer("StringLookup", {"vocabulary": "/etc/hostname"}))


def tokens_of_a_file(marker: Path) -> Config:
    name = "keras_hub>BytePairTokenizer"
    more = {"module": "keras_hub.src.tokenizers.byte_pair_tokenizer", "registered_name": name}
    return keras_3(layer("BytePairTokenizer", {"vocabulary": "/etc/hostname"}, **more))


def operation_on_functions(marker: Path) -> Config:
    return keras_3(layer("Map", {"name": "x"}, module="keras.src.ops.core", registered_name="Map"))


def type_of_another_module(marker: Path) -> Config:
    spec = {"class_name": "__typespec__", "spec_name": "Popen", "module": "subprocess"}
    return keras_3(layer("Rescaling", {"scale": spec | {"registered_name": None, "config": []}}))


def loss_of_a_nested_model(marker: Path) -> Config:
    inner = keras_3()
    inner["config"]["optimizer"] = {"class_name": "system", "module": "os", "config": {}}
    return keras_3(inner | {"name": "x", "inbound_nodes": [[["i", 0, 0, {}]]]})


def class_that_is_no_text(marker: Path) -> Config:
    return keras_3(layer(["Dense"]))  # type: ignore[arg-type]


def value_of_another_module(marker: Path) -> Config:
    """Keras 3 knows no ``__tuple__`` outside of JSON's decoder, and looks for it in the module."""
    entry = {"module": "webbrowser", "class_name": "__tuple__", "registered_name": "open"}
    return keras_3(layer("Rescaling", {"scale": entry | {"config": {}}}))


def tensor_of_another_module(marker: Path) -> Config:
    called = [{"args": [f"file://{marker}"], "kwargs": {}}]
    more = {"module": "webbrowser", "registered_name": "open", "inbound_nodes": called}
    return keras_3(layer("__keras_tensor__", {}, **more))


def operation_of_another_module(marker: Path) -> Config:
    called = [["_CONSTANT_VALUE", -1, f"file://{marker}", {}]]
    more = {"module": "webbrowser", "registered_name": "open", "inbound_nodes": called}
    return keras_3(layer("TFOpLambda", {"function": "math.add"}, **more))


def function_that_is_no_text(marker: Path) -> Config:
    return keras_3(layer("function", {"a": ["b"]}, module="builtins"))


def name_without_end(marker: Path) -> Config:
    return keras_3(layer("line\n\x1b[31mbreak" + "x" * 100_000))


def tensorflow_function(marker: Path) -> Config:
    called = [["_CONSTANT_VALUE", -1, str(marker), {"contents": "written"}]]
    config = {"name": "w", "function": "io.write_file"}
    return keras_2(
        {"class_name": "TFOpLambda", "config": config, "name": "w", "inbound_nodes": called}
    )


def raw_operator(marker: Path) -> Config:
    config = {"name": "w", "function": "raw_ops.WriteFile"}
    return keras_2({"class_name": "TFOpLambda", "config": config, "name": "w", "inbound_nodes": []})


def class_method(marker: Path) -> Config:
    config = {"name": "w", "cls_symbol": "io.gfile.GFile", "method_name": "write"}
    return keras_2({"class_name": "ClassMethod", "config": config, "name": "w"})


def instance_method(marker: Path) -> Config:
    return keras_2({"class_name": "InstanceMethod", "config": {"attr_name": "__class__"}})


def residual_wrapper(marker: Path) -> Config:
    cell = {
        "cell": {"class_name": "SimpleRNNCell", "config": {"units": 24}},
        "residual_fn": bytecode(marker, "x, y"),
        "residual_fn_type": "lambda",
        "residual_fn_module": None,
    }
    config = {"name": "rnn", "cell": {"class_name": "ResidualWrapper", "config": cell}}
    reshape = {
        "class_name": "Reshape",
        "config": {"name": "r", "target_shape": [8, 24]},
        "name": "r",
        "inbound_nodes": [[["i", 0, 0, {}]]],
    }
    nodes = [[["r", 0, 0, {}]]]
    rnn = {"class_name": "RNN", "config": config, "name": "rnn", "inbound_nodes": nodes}
    return keras_2(reshape, rnn, output="rnn")


def old_lambda(marker: Path) -> Config:
    config = {"name": "l", "function": bytecode(marker), "function_type": "lambda", "arguments": {}}
    nodes = [[["i", 0, 0, {}]]]
    return keras_2(
        {"class_name": "Lambda", "config": config, "name": "l", "inbound_nodes": nodes}, output="l"
    )


HOSTILE: dict[Callable[[Path], Config], str] = {
    function_entry: r"function 'os\.system'",
    function_of_keras: r"function 'keras\.utils\.get_file'",
    function_as_registered_name: r"'keras\.src\.utils\.python_utils\.Dense'",
    class_of_another_package: r"'subprocess\.Popen'",
    function_in_a_regularizer: r"function 'os\.system'",
    function_by_a_word: "activation 'deserialize'",
    lambda_layer: "layer 'x' of .* holds Python code",
    lambda_in_a_wrapper: "layer 'inner' of .* holds Python code",
    saved_model_layer: r"'keras\.layers\.TFSMLayer'",
    torch_layer: r"'keras\.layers\.TorchModuleWrapper'",
    words_of_a_file: r"'keras\.layers\.StringLookup'",
    tokens_of_a_file: "BytePairTokenizer",
    operation_on_functions: r"'keras\.src\.ops\.core\.Map'",
    type_of_another_module: "'subprocess.__typespec__'",
    loss_of_a_nested_model: "system",
    class_that_is_no_text: r"an object of the class '\['Dense'\]'",
    value_of_another_module: r"'webbrowser\.__tuple__'",
    tensor_of_another_module: r"'webbrowser\.__keras_tensor__'",
    operation_of_another_module: r"'webbrowser\.TFOpLambda'",
    function_that_is_no_text: r"the function '\{'a': \['b'\]\}'",
    name_without_end: r"keras\.layers\.line \\x1b\[31mbreakx+\.\.\.",
    tensorflow_function: r"TensorFlow function 'io\.write_file'",
    raw_operator: r"TensorFlow function 'raw_ops\.WriteFile'",
    class_method: "'ClassMethod'",
    instance_method: "'InstanceMethod'",
    residual_wrapper: "ResidualWrapper",
    old_lambda: "layer 'l' of .* holds Python code",
}


def archive(path: Path, config: Config, version: str) -> Path:
    weights = io.BytesIO()
    with h5py.File(weights, "w") as file:
        file.create_group("_layer_checkpoint_dependencies")
    with zipfile.ZipFile(path, "w") as members:
        members.writestr("config.json", json.dumps(config))
        members.writestr("metadata.json", json.dumps({"keras_version": version}))
        members.writestr("model.weights.h5", weights.getvalue())
    return path


def hdf5(path: Path, config: Config, version: str) -> Path:
    with h5py.File(path, "w") as file:
        file.attrs["keras_version"] = version
        file.attrs["backend"] = "tensorflow"
        file.attrs["model_config"] = json.dumps(config)
        group = file.create_group("model_weights")
        group.attrs["layer_names"] = [b"x"]
        group.attrs["keras_version"] = version
        group.attrs["backend"] = "tensorflow"
    return path


FILES: list[tuple[str, Callable[[Path, Config, str], Path]]] = [
    ("m.keras", archive),
    ("m.h5", hdf5),
]


@pytest.mark.parametrize("version", ["3.8.0", "2.15.0"])
@pytest.mark.parametrize(("name", "write"), FILES, ids=["keras", "h5"])
@pytest.mark.parametrize("hostile", HOSTILE, ids=lambda hostile: hostile.__name__)
def test_a_file_is_refused_by_what_it_names(
    hostile: Callable[[Path], Config],
    name: str,
    write: Callable[[Path, Config, str], Path],
    version: str,
    tmp_path: Path,
) -> None:
    marker = tmp_path / "ran"
    path = write(tmp_path / name, hostile(marker), version)
    with pytest.raises(ModelError, match=HOSTILE[hostile]) as caught:
        inspect(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000
    assert not marker.exists()


@pytest.mark.parametrize("hostile", HOSTILE, ids=lambda hostile: hostile.__name__)
def test_it_is_vitedge_that_refuses_whatever_keras_would_say(
    hostile: Callable[[Path], Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "keras", None)  # importing it is an error
    with pytest.raises(ModelError, match=HOSTILE[hostile]):
        refuse_findings(Path("m"), inspect_config(hostile(Path("ran"))))


def test_the_commands_say_so_in_one_line(tmp_path: Path) -> None:
    path = archive(tmp_path / "m.keras", function_entry(tmp_path / "ran"), "3.8.0")
    commands = (["inspect"], ["import", "-o", str(tmp_path / "out.keras")], ["convert", "--fp32"])
    for command in commands:
        result = CliRunner().invoke(main, [*command, str(path)])
        assert result.exit_code == 1
        assert result.output.startswith(f"Error: '{path}' asks for the function 'os.system'")
        assert len(result.output.splitlines()) == 1
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "out.keras").exists()


def harmless() -> Config:
    return keras_3(layer("Rescaling", {"name": "x", "scale": 2.0}))


@pytest.mark.parametrize("name", ["m.h5", "m.keras", "m.hdf5", "m"])
@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_file_that_is_both_is_what_it_begins_as(
    name: str, compression: int, tmp_path: Path
) -> None:
    marker = tmp_path / "ran"
    path = hdf5(tmp_path / name, old_lambda(marker), "2.15.0")
    behind = io.BytesIO()
    with zipfile.ZipFile(behind, "w", compression) as members:
        members.writestr("config.json", json.dumps(harmless()))
        members.writestr("metadata.json", json.dumps({"keras_version": "2.15.0"}))
    path.write_bytes(path.read_bytes() + behind.getvalue())
    assert zipfile.is_zipfile(path)
    with pytest.raises(ModelError, match=r"layer 'l' of .* holds Python code"):
        inspect(path)
    assert not marker.exists()


def test_an_archive_behind_other_bytes_is_checked_as_the_archive(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    path = archive(tmp_path / "m.keras", lambda_layer(marker), "2.15.0")
    inside = hdf5(tmp_path / "inside.h5", harmless(), "3.8.0").read_bytes()
    path.write_bytes(bytes(512) + inside + path.read_bytes())
    with pytest.raises(ModelError, match="holds Python code"):
        inspect(path)
    assert not marker.exists()


def small_model() -> keras.Model:
    image = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, activation="relu", kernel_regularizer="l2")(image)
    x = keras.ops.mean(x, axis=(1, 2)) * 2.0
    return keras.Model(image, keras.layers.Dense(3, kernel_initializer="he_normal")(x))


@pytest.mark.parametrize(("saved", "name"), [("m.keras", "m.h5"), ("m.h5", "m.keras")])
def test_a_file_by_the_wrong_name_is_read_as_what_it_is(
    saved: str, name: str, tmp_path: Path
) -> None:
    model = keras.Sequential(
        [keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(3)]
    )
    model.save(tmp_path / saved)
    (tmp_path / saved).rename(tmp_path / name)
    loaded = open_keras(tmp_path / name)
    pixels = np.random.default_rng(0).random((2, 8, 8, 3), np.float32)
    np.testing.assert_allclose(loaded.logits(pixels), model(pixels), rtol=1e-5)


def test_losses_and_optimizers_of_a_file_are_not_made(tmp_path: Path) -> None:
    model = small_model()
    model.compile("adam", "mse")
    model.save(tmp_path / "m.keras")
    with zipfile.ZipFile(tmp_path / "m.keras") as members:
        config = json.loads(members.read("config.json"))
        parts = {name: members.read(name) for name in members.namelist()}
    entry = {"module": "os", "class_name": "function", "config": "system"}
    config["compile_config"]["loss"] = entry | {"registered_name": "system"}
    with zipfile.ZipFile(tmp_path / "m.keras", "w", zipfile.ZIP_DEFLATED) as members:
        for name, content in (parts | {"config.json": json.dumps(config).encode()}).items():
            members.writestr(name, content)
    pixels = np.random.default_rng(0).random((2, 8, 8, 3), np.float32)
    np.testing.assert_allclose(
        open_keras(tmp_path / "m.keras").logits(pixels), model(pixels), rtol=1e-5
    )


def test_trust_lets_a_file_name_what_it_likes(tmp_path: Path) -> None:
    image = keras.Input((8, 8, 3))
    x = keras.layers.Lambda(lambda x: x * 2, output_shape=(8, 8, 3), name="double")(image)
    x = keras.layers.Flatten()(x)
    model = keras.Model(image, keras.layers.Dense(3)(x))
    model.save(tmp_path / "m.keras")
    flags = ["inspect", "--json", str(tmp_path / "m.keras")]
    refused = CliRunner().invoke(main, flags)
    assert (refused.exit_code, "layer 'double'" in refused.output) == (1, True)
    assert CliRunner().invoke(main, [*flags, "--trust"]).exit_code == 0


def test_own_functions_are_taken_when_they_are_named() -> None:
    named = layer("Activation", {"activation": "squash"})
    entry = {"module": "mine", "class_name": "function", "config": "squash"}
    serialized = layer("Activation", {"activation": entry | {"registered_name": "squash"}})
    for each in (named, serialized):
        assert inspect_config(keras_3(each)).refused
        assert not inspect_config(keras_3(each), ["squash"]).refused


def test_a_module_is_not_imported_for_a_class_that_was_named() -> None:
    # Without a registered name, Keras would import `their_module` to look for the class.
    unnamed = layer("Tokens", module="their_module", registered_name=None)
    assert inspect_config(keras_3(unnamed), ["Tokens"]).refused
    named = layer("Tokens", module="their_module", registered_name="Mine>Tokens")
    empty = layer("Tokens", module="their_module", registered_name="")
    assert inspect_config(keras_3(empty), ["Tokens"]).refused
    findings = inspect_config(keras_3(named), ["Tokens"])
    assert (findings.refused, findings.given) == ([], {"Mine>Tokens": "Tokens"})


def test_the_models_that_keras_itself_brings_are_on_the_list() -> None:
    applications = keras.applications
    for build in (
        applications.MobileNetV3Small,
        applications.ConvNeXtTiny,
    ):
        config = json.loads(build(weights=None, classes=3).to_json())
        findings = inspect_config(config)
        assert (findings.custom, findings.code, findings.refused) == ({}, [], [])


def test_a_config_that_is_nested_without_end_is_no_model(tmp_path: Path) -> None:
    path = archive(tmp_path / "m.keras", {}, "3.8.0")
    with zipfile.ZipFile(path, "w") as members:
        members.writestr("config.json", '{"config":' * 100_000 + "1" + "}" * 100_000)
        members.writestr("metadata.json", "{}")
    assert keras_config(path) is None
    with pytest.raises(ModelError):
        read_model(path, ImportOptions())


def test_a_preset_of_keras_hub_is_checked_and_copied(tmp_path: Path) -> None:
    source = GOLDEN / "keras_hub_vit_preset"
    with checked_preset(source) as copy:
        names = {path.name for path in copy.iterdir()}
        assert json.loads((copy / "task.json").read_text())["class_name"] == "ViTImageClassifier"
    assert names == {
        "config.json",
        "metadata.json",
        "task.json",
        "model.weights.h5",
        "task.weights.h5",
    }
    preset = tmp_path / "preset"
    shutil.copytree(source, preset)
    task = json.loads((preset / "task.json").read_text())
    task["config"]["preprocessor"] = tokens_of_a_file(tmp_path)["config"]["layers"][1]
    (preset / "task.json").write_text(json.dumps(task))
    with pytest.raises(ModelError, match="BytePairTokenizer"), checked_preset(preset):
        pass
    (preset / "task.weights.h5").unlink()
    (preset / "task.weights.h5").symlink_to(source / "task.weights.h5")
    with pytest.raises(ModelError, match=r"'task\.weights\.h5' in .* is a link to"):
        read_model(preset)


def test_the_oldest_keras_is_as_safe() -> None:
    folder = os.environ.get(OLDEST)
    if folder is None:
        pytest.skip(f"{OLDEST} names no folder with keras==3.8.0")
    if keras.__version__.startswith("3.8."):
        return
    environment = os.environ | {"PYTHONPATH": folder}
    program = "import keras; print(keras.__version__)"
    for command in (["-c", program], ["-m", "pytest", "-q", "-p", "no:cacheprovider", __file__]):
        done = subprocess.run(
            [sys.executable, *command], capture_output=True, text=True, env=environment, check=False
        )
        assert done.returncode == 0, done.stdout[-2000:]
        if command[0] == "-c":
            assert done.stdout.startswith("3.8.")
