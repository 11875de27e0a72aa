"""Malformed models: one line that says what is wrong, at no cost in time or memory.

Each case stands for a kind that fuzzing found; ``make fuzz`` looks for others.
"""

from __future__ import annotations

import json
import resource
import shutil
import struct
import time
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import onnx
import pytest

from tests.support.golden_cases import GOLDEN
from vitedge.errors import ModelError, SizeError, VitedgeError
from vitedge.files import limits
from vitedge.importers import ImportOptions, read_model
from vitedge.importers.reading.npz_file import open_npz
from vitedge.importers.reading.safetensors_file import open_safetensors
from vitedge.importers.reading.torch_file import open_torch

DEEP = "[" * 100_000


def refusal(path: Path, *, kind: type[VitedgeError] = ModelError) -> str:
    """The message with which a source is refused: one line, soon, and in little memory."""
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    with pytest.raises(kind) as refused:
        read_model(path, ImportOptions(heads=2))
    assert time.monotonic() - start < 10
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # kB on Linux
    assert "\n" not in str(refused.value)
    return str(refused.value)


# --- JSON -----------------------------------------------------------------------------------------


def garbled(tmp_path: Path, case: str, file: str, garble: Callable[[Any], str]) -> Path:
    """A copy of a golden folder with one JSON file garbled."""
    folder = tmp_path / case
    shutil.copytree(GOLDEN / case, folder)
    values = json.loads((folder / file).read_text())
    (folder / file).write_text(garble(values))
    return folder


@dataclass(frozen=True)
class Value:
    """One value of a JSON file that cannot be meant."""

    case: str
    file: str
    key: str
    json: str
    says: str


CONFIG, PROCESSOR = "config.json", "preprocessor_config.json"
VALUES = [
    Value("hugging_face_vit", CONFIG, "num_attention_heads", "0", "at least 1"),
    Value("hugging_face_vit", CONFIG, "num_attention_heads", "null", "not a whole number"),
    Value("hugging_face_vit", CONFIG, "num_hidden_layers", "0", "at least 1"),
    Value("hugging_face_vit", CONFIG, "num_hidden_layers", "1e999", "out of range"),
    Value("hugging_face_vit", CONFIG, "num_hidden_layers", "9" * 4000, "out of range"),
    Value("hugging_face_vit", CONFIG, "num_hidden_layers", "1" + "0" * 40, "not a whole number"),
    Value("hugging_face_vit", CONFIG, "num_hidden_layers", "1" + "0" * 12, "and the file has"),
    Value("hugging_face_beit", CONFIG, "num_hidden_layers", "1" + "0" * 12, "and the file has"),
    Value("hugging_face_vit", CONFIG, "hidden_size", "32.5", "not a whole number"),
    Value("hugging_face_vit", CONFIG, "hidden_size", DEEP, "nested too deeply"),
    Value("hugging_face_vit", CONFIG, "image_size", "[8, 8, 8]", "do not fit"),
    Value("hugging_face_vit", CONFIG, "layer_norm_eps", "NaN", "NaN is not a number"),
    Value("hugging_face_vit", CONFIG, "layer_norm_eps", '"a"', "not a finite number"),
    Value("hugging_face_vit", CONFIG, "hidden_act", "{}", "not a text"),
    Value("hugging_face_vit", CONFIG, "id2label", "[1]", "not an object"),
    Value("hugging_face_vit", CONFIG, "id2label", '{"0": "\\ud800"}', "surrogates"),
    Value("hugging_face_vit", PROCESSOR, "size", "[]", "incomplete or malformed"),
    Value("hugging_face_vit", PROCESSOR, "size", "1000000000", "over 100,000,000 pixels"),
    Value("hugging_face_vit", PROCESSOR, "rescale_factor", "0", "not positive"),
    Value("hugging_face_vit", PROCESSOR, "image_mean", "{}", "not a finite number"),
    Value("hugging_face_vit", PROCESSOR, "resample", "true", "not a whole number"),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda each: f"{each.key}={each.json[:12]}")
def test_a_value_that_cannot_be_meant_is_named(value: Value, tmp_path: Path) -> None:
    def garble(values: Any) -> str:
        values[value.key] = "HERE"
        return json.dumps(values).replace('"HERE"', value.json)

    assert value.says in refusal(garbled(tmp_path, value.case, value.file, garble))


def test_a_great_number_that_nobody_reads_does_not_matter(tmp_path: Path) -> None:
    def garble(values: Any) -> str:
        return json.dumps(values | {"model_max_length": 10**30})

    read_model(garbled(tmp_path, "hugging_face_vit", CONFIG, garble))


def keras_config(tmp_path: Path, case: str, change: Callable[[Any], None]) -> Path:
    """A copy of a golden ``.keras`` file with its config changed."""
    source, path = GOLDEN / case / "model.keras", tmp_path / "model.keras"
    with zipfile.ZipFile(source) as archive, zipfile.ZipFile(path, "w") as changed:
        for name in archive.namelist():
            content = archive.read(name)
            if name == "config.json":
                values = json.loads(content)
                change(values)
                content = json.dumps(values).encode()
            changed.writestr(name, content)
    return path


def test_a_trillion_channels_are_refused_at_once(tmp_path: Path) -> None:
    def change(values: Any) -> None:
        values["config"]["backbone"]["config"]["image_shape"][2] = 10**12

    assert "channels must be" in refusal(keras_config(tmp_path, "keras_hub_vit", change))

    def garble(values: Any) -> str:
        return json.dumps(values | {"num_channels": 10**12})

    folder = garbled(tmp_path, "hugging_face_vit", CONFIG, garble)
    processor = json.loads((folder / PROCESSOR).read_text())
    (folder / PROCESSOR).write_text(json.dumps(processor | {"do_normalize": False}))
    assert "channels must be" in refusal(folder)


@pytest.mark.parametrize("key", ["num_heads", "hidden_dim", "num_layers", "patch_size"])
@pytest.mark.parametrize("value", [0, -1, None, 1e30, "12"])
def test_a_size_in_a_keras_config_that_cannot_be_meant_is_named(
    key: str, value: Any, tmp_path: Path
) -> None:
    def change(values: Any) -> None:
        values["config"]["backbone"]["config"][key] = value

    message = refusal(keras_config(tmp_path, "keras_hub_vit", change))
    assert f"'{key}' is" in message


# --- safetensors ----------------------------------------------------------------------------------


def safetensors(path: Path, header: str, body: bytes = b"") -> Path:
    encoded = header.encode()
    path.write_bytes(struct.pack("<Q", len(encoded)) + encoded + body)
    return path


@pytest.mark.parametrize(
    "header",
    [
        DEEP,
        '{"a": ' + DEEP,
        '{"a": {"dtype": "F32", "shape": [1099511627776], "data_offsets": [0, 4398046511104]}}',
        '{"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}',
        '{"a": 1e999}',
        "[]",
        "\x00",
    ],
    ids=["deep", "deep value", "huge", "negative", "infinite", "list", "no JSON"],
)
def test_a_garbled_header_of_safetensors_is_refused(header: str, tmp_path: Path) -> None:
    refusal(safetensors(tmp_path / "model.safetensors", header))


def test_a_head_without_inputs_and_of_a_trillion_outputs_is_refused(tmp_path: Path) -> None:
    content = (GOLDEN / "timm_vit" / "model.safetensors").read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    for name in ("head.weight", "head.bias"):
        start, end = header.pop(name)["data_offsets"]
        header[f"unused.{name}"] = {
            "dtype": "F32",
            "shape": [(end - start) // 4],
            "data_offsets": [start, end],
        }
    header["head.weight"] = {"dtype": "F32", "shape": [10**12, 0], "data_offsets": [0, 0]}
    path = safetensors(tmp_path / "model.safetensors", json.dumps(header), content[8 + length :])
    assert "a bias that is left out would take" in refusal(path, kind=SizeError)


def broken_weight(tmp_path: Path, name: str, value: float) -> Path:
    """A copy of timm's golden model with one value of an array changed."""
    content = bytearray((GOLDEN / "timm_vit" / "model.safetensors").read_bytes())
    length = int.from_bytes(content[:8], "little")
    start = 8 + length + json.loads(content[8 : 8 + length])[name]["data_offsets"][0]
    content[start : start + 4] = struct.pack("<f", value)
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["head.bias", "blocks.0.attn.qkv.weight", "cls_token"])
def test_the_array_that_holds_nan_or_infinity_is_named_when_it_is_read(
    name: str, value: float, tmp_path: Path
) -> None:
    message = refusal(broken_weight(tmp_path, name, value))
    assert f"'{name}' in" in message
    assert "holds NaN or infinity (1 of" in message


def zeroed(tmp_path: Path, *parts: str) -> Path:
    """A copy of timm's golden model whose arrays of some names are zero."""
    content = bytearray((GOLDEN / "timm_vit" / "model.safetensors").read_bytes())
    length = int.from_bytes(content[:8], "little")
    for name, entry in json.loads(content[8 : 8 + length]).items():
        if any(part in name for part in parts):
            start, end = (8 + length + offset for offset in entry["data_offsets"])
            content[start:end] = bytes(end - start)
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        (("head.",), "the head"),
        (("blocks.1.",), "block 1"),
        (("blocks.0.attn", "blocks.0.mlp", "head.weight"), "the head, block 0"),
    ],
)
def test_a_head_or_block_of_zeros_is_read_with_a_warning(
    parts: tuple[str, ...], says: str, tmp_path: Path
) -> None:
    told: list[str] = []
    read_model(zeroed(tmp_path, *parts), ImportOptions(heads=2, warn=told.append))
    assert len(told) == 1
    assert f"all weights are zero in {says} of '" in told[0]


def test_numbers_that_overflow_on_the_way_are_refused(tmp_path: Path) -> None:
    content = bytearray((GOLDEN / "timm_deit_distilled" / "model.safetensors").read_bytes())
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    for name in ("head.bias", "head_dist.bias"):  # their mean is the model's
        start = 8 + length + header[name]["data_offsets"][0]
        content[start : start + 4] = struct.pack("<f", 3e38)
    (tmp_path / "model.safetensors").write_bytes(content)
    with np.errstate(over="ignore"):
        assert "'head.bias' of" in refusal(tmp_path / "model.safetensors")


def test_weights_of_an_onnx_file_that_are_nan_are_named(tmp_path: Path) -> None:
    model = onnx.load(sorted((GOLDEN / "lift").glob("*.onnx"))[0])
    weights = max(model.graph.initializer, key=lambda item: len(item.raw_data))
    weights.raw_data = struct.pack("<f", np.nan) + weights.raw_data[4:]
    onnx.save(model, tmp_path / "model.onnx")
    assert f"'{weights.name}' in" in refusal(tmp_path / "model.onnx")


# --- torch ----------------------------------------------------------------------------------------


def checkpoint(path: Path, pickled: bytes, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", pickled)
        for name, content in members.items():
            archive.writestr(f"a/{name}", content)
    return path


def doubled(times: int) -> bytes:
    """Nested tuples: each doubles the one before, and the time that hashing or printing takes."""
    steps = (b"q" + bytes([i]) + b"h" + bytes([i]) + b"\x86" for i in range(times))
    return b"K\x01K\x02\x86" + b"".join(steps)


COLLIDING = b"".join(
    b"\x8a\x0a" + (k * (2**61 - 1)).to_bytes(10, "little") + b"N" for k in range(1, 20_000)
)

PICKLES = {
    "memo index of 2^31": b"\x80\x02}r" + (1 << 31).to_bytes(4, "little") + b".",
    "memo index as text": b"}p99999999999\n.",
    "memo that is not there": b"\x80\x02h\x07.",
    "key of nested tuples": b"\x80\x02}" + doubled(60) + b"K\x01s.",
    "keys that collide": b"\x80\x02}(" + COLLIDING + b"u.",
    "set of nested tuples": b"\x80\x04\x8f(" + doubled(60) + b"\x90.",
    "record of nested tuples": (
        b"ctorch._utils\n_rebuild_tensor_v2\n((S'storage'\nctorch\nFloatStorage\n"
        + doubled(60)
        + b"S'cpu'\nI2\ntQI0\n(I1\nt(I1\nttR."
    ),
    "shape of nested tuples": (
        b"ctorch._utils\n_rebuild_tensor_v2\n((S'storage'\nctorch\nFloatStorage\nS'0'\nS'cpu'\nI2\n"
        b"tQI0\n(" + doubled(60) + b"t(I1\nttR."
    ),
    "bytes of 2^62": b"\x80\x04\x8e" + (1 << 62).to_bytes(8, "little") + b".",
    "text of 2^63": b"\x80\x04\x8d" + (1 << 63).to_bytes(8, "little") + b".",
    "integer of 2^31 bytes": b"\x80\x02\x8b" + (1 << 30).to_bytes(4, "little") + b".",
    "integer of 9,000 digits": b"L" + b"9" * 9000 + b"L\n.",
    "frame of 2^63": b"\x80\x04\x95" + (1 << 63).to_bytes(8, "little") + b"}.",
    "array of bytes": b"\x80\x05\x96" + (1 << 40).to_bytes(8, "little") + b".",
    "deep lists": b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".",
    "marks alone": b"(" * 100_000 + b".",
    "nothing": b"",
    "no end": b"\x80\x02}",
    "extension registry": b"\x80\x02\x82\x01.",
    "buffer": b"\x80\x05\x97.",
    "unhashable key": b"}]Ns.",
    "value of nothing": b"s.",
}


@pytest.mark.parametrize("name", PICKLES)
def test_a_pickle_takes_no_more_than_its_length_in_time_and_memory(
    name: str, tmp_path: Path
) -> None:
    path = checkpoint(tmp_path / "model.pth", PICKLES[name])
    refusal(path)
    with pytest.raises(ModelError), open_torch(path):
        pass


def test_a_member_that_inflates_beyond_the_bound_is_refused_before_it_is_read(
    tmp_path: Path,
) -> None:
    with zipfile.ZipFile(tmp_path / "model.pth", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as z:
        z.writestr("a/data.pkl", b"}.")
        with z.open("a/byteorder", "w", force_zip64=True) as stream:
            for _ in range(80):
                stream.write(bytes(1 << 20))
    message = refusal(tmp_path / "model.pth", kind=SizeError)
    assert "2.1 GB are allowed" in message
    assert "--max-source-size 3GB" in message


# --- npz ------------------------------------------------------------------------------------------


def npz(tmp_path: Path, header: bytes, body: bytes = b"", *, version: int = 1) -> Path:
    """Google's golden checkpoint with one array of another header."""
    path, size = tmp_path / "vit.npz", 2 if version == 1 else 4
    member = b"\x93NUMPY" + bytes([version, 0]) + len(header).to_bytes(size, "little") + header
    with (
        zipfile.ZipFile(GOLDEN / "google_npz" / "vit.npz") as original,
        zipfile.ZipFile(path, "w") as archive,
    ):
        for name in original.namelist():
            content = member + body if name == "cls.npy" else original.read(name)
            archive.writestr(name, content)
    return path


def described(shape: str, descr: str = "'<f4'", order: str = "False") -> bytes:
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}\n".encode()


HEADERS = {
    "unfinished": b"{'descr': (\n",
    "nested": b"{" * 5000 + b"\n",
    "nested brackets": b"(" * 9000 + b"\n",
    "huge": described("(4611686018427387904,)"),
    "huge product": described("(2147483648, 2147483648)"),
    "digits": described("(" + "9" * 5000 + ",)"),
    "negative": described("(-1,)"),
    "boolean": described("(True,)"),
    "text": described("('a',)"),
    "objects": described("(1,)", "'|O'"),
    "complex": described("(1,)", "'<c8'"),
    "record": described("(1,)", "[('a', '<f4')]"),
    "no type": described("(1,)", "'<f99999'"),
    "number": described("(1,)", "1"),
    "order": described("(1,)", order="'x'"),
    "code": b"__import__('os').getcwd()\n",
}


@pytest.mark.parametrize("version", [1, 2, 3])
@pytest.mark.parametrize("name", HEADERS)
def test_a_garbled_header_of_an_array_is_refused(name: str, version: int, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        refusal(npz(tmp_path, HEADERS[name], bytes(4), version=version))


# --- HDF5 -----------------------------------------------------------------------------------------


def test_an_array_that_only_claims_to_be_huge_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.h5"
    shutil.copy(GOLDEN / "vit_keras2_weights" / "weights.h5", path)
    with h5py.File(path, "r+") as file:
        names: list[str] = []
        file.visititems(lambda name, _: names.append(name) if name.endswith("kernel:0") else None)
        del file[names[0]]
        file.create_dataset(names[0], (1 << 20, 1 << 20), "f4", chunks=(64, 64))
    assert "--max-source-size" in refusal(path, kind=SizeError)


# --- the bound ------------------------------------------------------------------------------------


def test_what_lies_in_the_file_as_it_is_may_be_larger_than_the_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    header = '{"a": {"dtype": "F32", "shape": [25000], "data_offsets": [0, 100000]}}'
    path = safetensors(tmp_path / "model.safetensors", header, bytes(100_000))
    monkeypatch.setenv(limits.VARIABLE, "10000")
    with open_safetensors(path) as tensors:
        assert tensors["a"].size == 25_000


def test_what_inflates_may_be_larger_when_the_bound_is_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "vit.npz"
    np.savez_compressed(path, a=np.zeros(100_000, np.float32))
    monkeypatch.setenv(limits.VARIABLE, "100000")
    with pytest.raises(SizeError, match="--max-source-size 1GB"), open_npz(path):
        pass
    monkeypatch.setenv(limits.VARIABLE, "1GB")
    with open_npz(path) as tensors:
        assert tensors["a"].size == 100_000


def garble_input(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 2**32 - 1


def garble_output(model: onnx.ModelProto) -> None:
    node = next(node for node in model.graph.node if node.op_type == "Reshape")
    del node.output[:]


def garble_type(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.elem_type = 99


def garble_initializer(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].data_type = 99


@pytest.mark.parametrize(
    ("garble", "words"),
    [
        (garble_input, "--max-source-size"),
        (garble_output, "contradicts itself"),
        (garble_type, "of an unknown type, 99"),
        (garble_initializer, "is damaged"),
    ],
)
def test_an_onnx_graph_that_cannot_be_meant_is_refused(
    garble: Callable[[onnx.ModelProto], None], words: str, tmp_path: Path
) -> None:
    model = onnx.load(GOLDEN / "lift" / "timm_dynamo_free.onnx")
    garble(model)
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    kind = SizeError if garble is garble_input else ModelError
    assert words in refusal(path, kind=kind)


def test_an_index_of_variables_that_claims_more_than_there_is_memory_is_refused(
    tmp_path: Path,
) -> None:
    shutil.copytree(GOLDEN / "vit_tutorial_saved_model" / "saved", tmp_path / "saved")
    index = tmp_path / "saved" / "variables" / "variables.index"
    content = bytearray(index.read_bytes())
    content[-48:-40] = bytes.fromhex("00000080ffffffff")  # the footer says where the blocks are
    index.write_bytes(content)
    # Not by `refusal`, which would count TensorFlow's import.
    with pytest.raises(ModelError, match="missing or truncated"):
        read_model(tmp_path / "saved", ImportOptions(heads=2))


def test_values_that_make_no_network_are_refused(tmp_path: Path) -> None:
    def below_zero(values: Any) -> str:
        values["vision_config" if "vision_config" in values else "layer_norm_eps"] = -1e-6
        return json.dumps(values)

    path = garbled(tmp_path, "hugging_face_vit", "config.json", below_zero)
    assert "-1e-06" in refusal(path)
