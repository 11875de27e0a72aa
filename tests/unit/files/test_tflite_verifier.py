"""A TFLite file is verified before an engine sees it, and sound ones pass."""

from __future__ import annotations

import inspect
import re
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

import vitedge
from vitedge.errors import ModelError, SizeError
from vitedge.files import tflite_schema
from vitedge.files.tflite_verifier import demand_sound, open_verified
from vitedge.inspection.operators import read_operators

DIGITS = Path(vitedge.__file__).parent / "bench" / "builtin" / "digits.int8.tflite"

WIDTHS = {"Bool": 1, "Int8": 1, "Uint8": 1, "Int16": 2, "Uint16": 2, "Int32": 4, "Uint32": 4}
WIDTHS |= {"Float32": 4, "Int64": 8, "Uint64": 8, "Float64": 8}


def code_of(reader: str, name: str, is_vector: bool) -> str:
    """What a generated reader of a field says of it, in the form of ``tflite_schema``."""
    star = "*" if is_vector else ""
    if "_tab.Union(" in reader:
        return f"u:{name}"
    if inner := re.search(r"obj = (\w+)\(\)", reader):
        return f"{star}@{inner[1]}"
    if "_tab.String(" in reader:
        return f"{star}s"
    flags = re.search(r"Get\(flatbuffers\.number_types\.(\w+?)Flags", reader)
    assert flags is not None
    return f"{star}{WIDTHS[flags[1]]}"


def generated_tables() -> dict[str, str]:
    """The tables of the readers that LiteRT brings."""
    tables = {}
    for source in re.split(r"^class ", inspect.getsource(schema), flags=re.MULTILINE)[1:]:
        kind = source[: source.index("(")] if "(" in source.split(":")[0] else ""
        fields: dict[int, str] = {}
        for reader in source.split(f"\n    # {kind}\n")[1:]:
            place = re.search(r"self\._tab\.Offset\((\d+)\)", reader)
            head = re.match(r"\s*def (\w+)\(self(, j)?\)", reader)
            if place and head and not head[1].endswith(("AsNumpy", "Length", "IsNone")):
                index = (int(place[1]) - 4) // 2
                fields[index] = code_of(reader, head[1], head[2] is not None)
        if "flatbuffers.table.Table" in source:
            tables[kind] = " ".join(fields.get(i, "-") for i in range(max(fields, default=-1) + 1))
    return tables


def test_the_schema_is_that_of_litert() -> None:
    assert generated_tables() == tflite_schema.TABLES
    for name, union in (
        ("BuiltinOptions", schema.BuiltinOptions),
        ("BuiltinOptions2", schema.BuiltinOptions2),
        ("Details", schema.QuantizationDetails),
        ("ArraySegments", schema.SparseIndexVector),
    ):
        kinds = {value: kind for kind, value in vars(union).items() if isinstance(value, int)}
        assert tflite_schema.UNIONS[name].split() == [kinds[index] for index in range(len(kinds))]


def test_a_sound_file_passes_soon() -> None:
    start = time.perf_counter()
    with open_verified(DIGITS) as root:
        assert root.number(0, "I") == 3
    assert time.perf_counter() - start < 1
    demand_sound(DIGITS)


Change = Callable[[Any], None]


def packed(model: Any) -> bytes:
    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def changed(tmp_path: Path, change: Change) -> Path:
    """The digits' artefact with something of it changed."""
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(DIGITS.read_bytes(), 0))
    change(model)
    path = tmp_path / "changed.tflite"
    path.write_bytes(packed(model))
    return path


def test_a_file_that_was_only_packed_anew_is_sound(tmp_path: Path) -> None:
    demand_sound(changed(tmp_path, lambda model: None))


def first(model: Any, name: str) -> Any:
    """The first operator of a kind."""
    codes = [max(code.builtinCode, code.deprecatedBuiltinCode) for code in model.operatorCodes]
    wanted = getattr(schema.BuiltinOperator, name)
    return next(op for op in model.subgraphs[0].operators if codes[op.opcodeIndex] == wanted)


def scaled(model: Any) -> Any:
    """A tensor with several scales."""
    tensors = model.subgraphs[0].tensors
    return next(each for each in tensors if each.quantization and len(each.quantization.scale) > 1)


def tensor(model: Any, number: int = 4) -> Any:
    return model.subgraphs[0].tensors[number]


def set_to(find: Callable[[Any], Any], **values: Any) -> Change:
    def change(model: Any) -> None:
        for name, value in values.items():
            setattr(find(model), name, value)

    return change


def scales(values: Callable[[list[float]], list[float]]) -> Change:
    """Changes the scales of a tensor that has several."""

    def change(model: Any) -> None:
        quantization = scaled(model).quantization
        quantization.scale = values([float(each) for each in quantization.scale])

    return change


def splits(count: int) -> Change:
    return lambda model: setattr(SPLIT(model).builtinOptions, "numSplits", count)


def without_scales(model: Any) -> None:
    operator = first(model, "FULLY_CONNECTED")
    tensor(model, operator.inputs[1]).quantization = None


def recursion(model: Any) -> None:
    code = schema.OperatorCodeT()
    code.builtinCode, code.version = schema.BuiltinOperator.WHILE, 1
    code.deprecatedBuiltinCode = 119
    model.operatorCodes.append(code)
    graph = model.subgraphs[0]
    operator = schema.OperatorT()
    operator.opcodeIndex = len(model.operatorCodes) - 1
    operator.inputs, operator.outputs = list(graph.inputs), []
    operator.builtinOptionsType = schema.BuiltinOptions.WhileOptions
    operator.builtinOptions = schema.WhileOptionsT()
    graph.operators.insert(0, operator)


def external(model: Any) -> None:
    group = schema.ExternalBufferGroupT()
    group.name = b"/etc/passwd"
    model.externalBufferGroups = [group]


SPLIT, ADD = (lambda model: first(model, "SPLIT")), (lambda model: first(model, "ADD"))
PRODUCT = lambda model: first(model, "FULLY_CONNECTED")  # noqa: E731
GRAPH = lambda model: model.subgraphs[0]  # noqa: E731

CHANGES: dict[str, tuple[Change, str]] = {
    "no splits": (splits(0), "positive"),
    "more splits": (splits(9), "which are"),
    "no options": (set_to(SPLIT, builtinOptions=None, builtinOptionsType=0), "options of the kind"),
    "no inputs": (set_to(ADD, inputs=[]), "0 inputs"),
    "no outputs": (set_to(ADD, outputs=[]), "0 outputs"),
    "needed input": (set_to(ADD, inputs=[-1, 4]), "without an input"),
    "input beyond": (set_to(ADD, inputs=[4, 9999]), "is number 9999"),
    "negative input": (set_to(ADD, inputs=[4, -7]), "is number -7"),
    "output beyond": (set_to(ADD, outputs=[9999]), "is number 9999"),
    "computed later": (set_to(ADD, inputs=[4, 200]), "nothing computes tensor 200"),
    "computed twice": (set_to(PRODUCT, outputs=[4]), "known before"),
    "operator code": (set_to(ADD, opcodeIndex=77), "operator code is number 77"),
    "graph output": (set_to(GRAPH, outputs=[-1]), "is number -1"),
    "graph input": (set_to(GRAPH, inputs=[9999]), "is number 9999"),
    "buffer": (set_to(tensor, buffer=9999), "buffer is number 9999"),
    "negative shape": (set_to(tensor, shape=[1, -4, 4, 64]), "shape"),
    "many axes": (set_to(tensor, shape=[1] * 99), "shape"),
    "element type": (set_to(tensor, type=99), "element type 99"),
    "external": (external, "other files"),
    "external tensor": (set_to(tensor, externalBuffer=1), "another file"),
    "recursion": (recursion, "runs itself"),
    "no graph": (set_to(lambda model: model, subgraphs=[]), "no subgraph"),
    "version": (set_to(lambda model: model, version=4), "version 4"),
    "no scale": (without_scales, "without a scale"),
    "scale count": (scales(lambda found: found[:-1]), "zero points for|scales for"),
    "scale axis": (set_to(lambda m: scaled(m).quantization, quantizedDimension=5), "axis"),
    "zero points": (set_to(lambda m: scaled(m).quantization, zeroPoint=[0, 0]), "zero points"),
    "scale": (scales(lambda found: [np.nan, *found[1:]]), "not a positive"),
    "negative scale": (scales(lambda found: [-1.0, *found[1:]]), "not a positive"),
    "name": (set_to(tensor, name=b"pix\xf3"), "is not UTF-8"),
    "weights": (lambda m: setattr(scaled(m), "shape", [64, 1]), "in a buffer of"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_does_not_fit_is_refused_before_an_engine_sees_it(name: str, tmp_path: Path) -> None:
    change, says = CHANGES[name]
    path = changed(tmp_path, change)
    with pytest.raises(ModelError, match=says):
        demand_sound(path)
    for read in (vitedge.load, read_operators):
        with pytest.raises(ModelError):
            read(path)


def test_tensors_that_would_take_gigabytes_are_refused(tmp_path: Path) -> None:
    one = changed(tmp_path, set_to(tensor, shape=[1, 8388612, 4, 64]))
    with pytest.raises(SizeError, match="--max-source-size"):
        demand_sound(one)


def test_many_tensors_of_a_gigabyte_are_refused(tmp_path: Path) -> None:
    def grow(model: Any) -> None:
        for each in model.subgraphs[0].tensors:
            if model.buffers[each.buffer].data is None:
                each.shape = [1, 256, 1024, 1024]

    with pytest.raises(SizeError, match="--max-source-size"):
        demand_sound(changed(tmp_path, grow))


def root_of(content: bytes) -> int:
    return int(struct.unpack_from("<I", content)[0])


STRUCTURES: dict[str, tuple[int, bytes]] = {
    "root beyond": (0, struct.pack("<I", 1 << 31)),
    "root at itself": (0, bytes(4)),
    "root not aligned": (0, struct.pack("<I", 33)),
    "no mark": (4, b"TFL4"),
}


@pytest.mark.parametrize("name", STRUCTURES)
def test_a_garbled_beginning_is_refused(name: str, tmp_path: Path) -> None:
    at, content = STRUCTURES[name]
    data = bytearray(DIGITS.read_bytes())
    data[at : at + len(content)] = content
    path = tmp_path / "garbled.tflite"
    path.write_bytes(data)
    with pytest.raises(ModelError):
        demand_sound(path)


@pytest.mark.parametrize("word", [0, 2**31 - 1, 2**31, 2**32 - 1, 2**16])
def test_every_garbled_word_of_the_root_is_refused_or_harmless(word: int, tmp_path: Path) -> None:
    data = DIGITS.read_bytes()
    root = root_of(data)
    vtable = root - struct.unpack_from("<i", data, root)[0]
    path = tmp_path / "garbled.tflite"
    for at in (*range(vtable - vtable % 4, vtable + 24, 4), *range(root, root + 48, 4)):
        path.write_bytes(data[:at] + struct.pack("<I", word) + data[at + 4 :])
        try:
            demand_sound(path)
        except ModelError:
            continue


@pytest.mark.parametrize("length", [0, 1, 7, 8, 100, 5000, 100_000])
def test_a_truncated_file_is_refused(length: int, tmp_path: Path) -> None:
    path = tmp_path / "truncated.tflite"
    path.write_bytes(DIGITS.read_bytes()[:length])
    with pytest.raises(ModelError):
        demand_sound(path)


def test_a_file_that_changes_is_verified_again(tmp_path: Path) -> None:
    path = tmp_path / "a.tflite"
    path.write_bytes(DIGITS.read_bytes())
    demand_sound(path)
    path.write_bytes(DIGITS.read_bytes()[:-4000])
    with pytest.raises(ModelError):
        demand_sound(path)
