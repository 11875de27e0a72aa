"""Malformed image sets, artefacts and metadata: one line that says what is wrong."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import vitedge
from tests.support.cifar_files import write_batch
from vitedge.artifacts.metadata import (
    LOGITS_SCALE_KEY,
    LOGITS_ZERO_POINT_KEY,
    Metadata,
    read_metadata,
)
from vitedge.bench import builtin
from vitedge.check.report_file import read_report
from vitedge.errors import DataError, ModelError, SizeError, UsageError
from vitedge.images.image_sets import open_images
from vitedge.importers import ImportOptions, read_model
from vitedge.inspection.description import inspect
from vitedge.inspection.operators import read_operators
from vitedge.train.record import Record

BUILTIN = Path(vitedge.__file__).parent / "bench" / "builtin"
GOLDEN_GRAPH = Path(__file__).parents[1] / "golden" / "lift" / "timm_dynamo_free.onnx"


def npz(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return path


def npy(header: str, body: bytes = b"") -> bytes:
    encoded = header.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(encoded).to_bytes(2, "little") + encoded + body


ARRAYS = {
    "huge": "{'descr': '|u1', 'fortran_order': False, 'shape': (1099511627776,), }",
    "beyond 64 bits": f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({10**40},), }}",
    "no numbers": "{'descr': '|u1', 'fortran_order': False, 'shape': ('a',), }",
    "unfinished": "{'descr': (",
    "nested": "{" * 5000,
    "objects": "{'descr': '|O', 'fortran_order': False, 'shape': (1,), }",
}


@pytest.mark.parametrize("name", ARRAYS)
def test_images_whose_header_is_garbled_are_refused(name: str, tmp_path: Path) -> None:
    path = npz(tmp_path / "a.npz", images=npy(ARRAYS[name], bytes(8)))
    with pytest.raises(DataError, match=r"truncated or not an \.npz"):
        open_images(path)


def test_images_that_inflate_beyond_the_bound_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.savez_compressed(tmp_path / "a.npz", images=np.zeros((200, 32, 32), np.uint8))
    monkeypatch.setenv("VITEDGE_MAX_SOURCE_SIZE", "100000")
    with pytest.raises(SizeError, match="--max-source-size"):
        open_images(tmp_path / "a.npz")
    monkeypatch.setenv("VITEDGE_MAX_SOURCE_SIZE", "1MB")
    assert len(open_images(tmp_path / "a.npz").samples) == 200


@pytest.mark.parametrize(
    "classes",
    [
        np.array("cat"),
        np.array([["cat"]]),
        np.array([1.5]),
        np.frombuffer(b"\xff\xff\xff\x7f", "<U1"),
        np.frombuffer(b"\x00\xd8\x00\x00", "<U1"),
    ],
    ids=["scalar", "matrix", "numbers", "no code point", "half a surrogate pair"],
)
def test_names_of_classes_that_are_none_are_refused(classes: Any, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=np.zeros((2, 4, 4), np.uint8), classes=classes)
    with pytest.raises(DataError, match="'classes' in"):
        open_images(tmp_path / "a.npz")


def test_names_of_cifar_that_are_no_text_are_refused(tmp_path: Path) -> None:
    write_batch(tmp_path / "data_batch_1.bin", [3, 9], 0)
    (tmp_path / "batches.meta.txt").write_bytes(b"air\xffplane\n")
    with pytest.raises(DataError, match="is not a text of class names"):
        open_images(tmp_path / "data_batch_1.bin")


def test_a_label_of_thousands_of_digits_is_a_name(tmp_path: Path) -> None:
    from PIL import Image

    Image.new("L", (4, 4)).save(tmp_path / "0.png")
    (tmp_path / "labels.csv").write_text("file,label\n0.png," + "9" * 5000 + "\n")
    assert open_images(tmp_path).class_names == ("9" * 5000,)
    with pytest.raises(DataError, match="is not one of the model's"):
        open_images(tmp_path, ("cat", "dog"))


# --- metadata -------------------------------------------------------------------------------------

DESCRIBED = json.loads(read_metadata(BUILTIN / "digits.int8.onnx").to_json())  # type: ignore[union-attr]

GARBLED: dict[str, tuple[tuple[str, ...], str]] = {
    "labels of numbers": (("labels",), "[1, 2]"),
    "labels as text": (("labels",), '"abc"'),
    "rewrites of numbers": (("rewrites",), "[1.5]"),
    "quantization of a list": (("quantization",), "[[1, 2]]"),
    "quantization of numbers": (("quantization",), '{"patch": 1}'),
    "versions of null": (("versions",), "null"),
    "parameters as text": (("parameters",), '"12"'),
    "parameters of infinity": (("parameters",), "1e999"),
    "negative parameters": (("parameters",), "-1"),
    "macs of many digits": (("macs",), "9" * 4000),
    "precision of a list": (("precision",), "[]"),
    "format of another kind": (("format",), '"pdf"'),
    "source of a number": (("source",), "1"),
    "name of a number": (("source", "name"), "1"),
    "parity of a text": (("parity",), '"good"'),
    "agreement of a text": (("parity", "agreement"), '"all"'),
    "agreement of nan": (("parity", "agreement"), "NaN"),
    "noise of a list": (("parity", "sqnr_db"), "[]"),
    "calibration of a list": (("calibration",), "[]"),
    "size of infinity": (("preprocessing", "size"), "[1e999, 16]"),
    "huge size": (("preprocessing", "size"), "[2000000000, 2000000000]"),
    "one size": (("preprocessing", "size"), "[16]"),
    "channels of true": (("preprocessing", "channels"), "true"),
    "mean as text": (("preprocessing", "mean"), '["0.5"]'),
    "interpolation of a list": (("preprocessing", "interpolation"), "[]"),
    "nested": (("labels",), "[" * 100_000),
    "half a surrogate pair": (("labels",), '["\\ud800"]'),
    "another schema": (("schema",), "3"),
}


@pytest.mark.parametrize("name", GARBLED)
def test_metadata_of_another_type_is_refused_in_one_line(name: str) -> None:
    where, value = GARBLED[name]
    values = json.loads(json.dumps(DESCRIBED))
    inner = values
    for key in where[:-1]:
        inner = inner[key]
    inner[where[-1]] = "HERE"
    with pytest.raises(ValueError) as refused:  # noqa: PT011
        Metadata.from_json(json.dumps(values).replace('"HERE"', value))
    assert len(str(refused.value)) < 300
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["source", "parity", "labels", "preprocessing", "schema"])
def test_metadata_that_lacks_a_value_is_refused(name: str) -> None:
    values = {key: value for key, value in DESCRIBED.items() if key != name}
    with pytest.raises(ValueError, match=r"schema|is missing|" + name):
        Metadata.from_json(json.dumps(values))


# --- the state of a training run ------------------------------------------------------------------

EPOCH = dict.fromkeys(("loss", "accuracy", "learning_rate", "images_per_second", "seconds"), 0.5)
EPOCH |= {"number": 1, "of": 2, "held_out_accuracy": None}

STATES = {
    "another type": {
        "run": {"x": "y"},
        "history": [EPOCH | {"loss": "low"}],
        "kept_accuracy": None,
    },
    "no history": {"run": {"x": "y"}, "history": [], "kept_accuracy": None},
    "no epochs": {"run": {"x": "y"}, "history": 1, "kept_accuracy": None},
    "no run": {"history": [EPOCH], "kept_accuracy": None},
}


@pytest.mark.parametrize("about", [*map(json.dumps, STATES.values()), "[" * 100_000, "", "{}"])
def test_a_garbled_state_of_a_run_is_refused(about: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "state.npz", about=np.array(about))
    with pytest.raises(DataError, match="is damaged"):
        Record(tmp_path, {"x": "y"}).read()


@pytest.mark.parametrize("header", ARRAYS.values(), ids=ARRAYS)
def test_a_state_whose_arrays_are_garbled_is_refused(header: str, tmp_path: Path) -> None:
    npz(tmp_path / "state.npz", about=npy(header, bytes(8)))
    with pytest.raises(DataError, match="is damaged"):
        Record(tmp_path, {"x": "y"}).read()


# --- reports --------------------------------------------------------------------------------------


def report(**changes: Any) -> dict[str, Any]:
    """What a check reads of a report with one row, which is changed."""
    row = {
        "artifact": "a.onnx",
        "target": "onnx-cpu",
        "precision": "int8",
        "status": "OK",
        "message": "",
        "latency_ms": {"mean": 1.0, "p50": 1.0},
        "ratio": {"median": 0.5},
        "threads": 1,
        "accuracy": {"top1": 50.0, "top1_low": 40.0, "top1_high": 60.0, "n": 8, "right": "/w=="},
        "vs_float": {"drop": {"points": 0.0, "low": -1.0, "high": 1.0, "n": 8}},
        "placement": {"on_device": 1, "total": 1},
    }
    rows = [row | changes]
    return {"rows": rows, "environment": {"cpu": "a processor"}, "data": {"sha256": "0"}}


def written(path: Path, content: Any) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_a_report_of_one_row_is_read(tmp_path: Path) -> None:
    found = read_report(written(tmp_path / "report.json", report()))
    assert found.rows["a.onnx", "onnx-cpu"].median_ms == 1.0


ROWS: list[dict[str, Any]] = [
    {"target": 1.5},
    {"message": None},
    {"threads": "two"},
    {"latency_ms": {"mean": 0, "p50": None}},
    {"latency_ms": {"mean": 1.0, "p50": "fast"}},
    {"latency_ms": [1.0]},
    {"ratio": {"median": 0}},
    {"ratio": {"median": "slow"}},
    {"status": []},
    {"accuracy": {"top1": 50.0, "top1_low": 40.0, "top1_high": 60.0, "n": 0, "right": "/w=="}},
    {"accuracy": {"top1": 50.0, "top1_low": 40.0, "top1_high": 60.0, "n": 3, "right": "/w=="}},
    {"accuracy": {"top1": 50.0, "top1_low": 40.0, "top1_high": 60.0, "n": 9, "right": "/w=="}},
    {"accuracy": {"top1": None, "top1_low": 40.0, "top1_high": 60.0, "n": 8, "right": "/w=="}},
    {"vs_float": {"drop": {"points": 0.0, "low": -1.0, "high": 1.0, "n": None}}},
    {"placement": {"on_device": -1, "total": 1}},
]


@pytest.mark.parametrize("changes", ROWS, ids=lambda each: json.dumps(each)[:40])
def test_a_row_whose_values_cannot_be_meant_is_refused(
    changes: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="is not a report of vitedge"):
        read_report(written(tmp_path / "report.json", report(**changes)))


@pytest.mark.parametrize("content", ["[" * 100_000, "[]", "", "{}", '{"rows": 1}', "NaN"])
def test_what_is_no_report_is_refused(content: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        read_report(written(tmp_path / "report.json", content))


# --- XML ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        b'<?xml version="1.0" encoding="no-such"?><net/>',
        b'<?xml version="1.0" encoding="cp037"?><net/>',
        b'<?xml version="1.0" encoding="utf-7"?><net/>',
        b"<net",
        b"",
        b"\x00\x00",
        b'<!DOCTYPE a [<!ENTITY b "' + b"c" * 99 + b'">]><net>&c;</net>',
    ],
    ids=["unknown encoding", "EBCDIC", "UTF-7", "unfinished", "empty", "zeros", "entity"],
)
def test_xml_that_cannot_be_read_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.xml"
    path.write_bytes(content)
    path.with_suffix(".bin").write_bytes(b"")
    for read in (read_metadata, read_operators, inspect):
        with pytest.raises(ModelError) as refused:
            read(path)
        assert "\n" not in str(refused.value)


def test_an_artefact_that_claims_a_batch_beyond_memory_is_refused(tmp_path: Path) -> None:
    model = onnx.load(next(path for path in builtin.artifacts() if path.suffix == ".onnx"))
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2**32
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(SizeError, match="--max-source-size"):
        vitedge.load(tmp_path / "model.onnx", threads=1)


def test_an_artefact_without_outputs_is_refused(tmp_path: Path) -> None:
    model = onnx.load(next(path for path in builtin.artifacts() if path.suffix == ".onnx"))
    del model.graph.output[:]
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(ModelError, match="1 inputs and 0 outputs"):
        vitedge.load(tmp_path / "model.onnx", threads=1)


def test_a_graph_on_which_onnx_ends_the_process_is_refused(tmp_path: Path) -> None:
    helper = onnx.helper
    split = helper.make_node("Split", ["pixels"], ["a", "b", "c", "d"], axis=1, num_outputs=3)
    float32 = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [split],
        "graph",
        [helper.make_tensor_value_info("pixels", float32, (1, 3, 8, 8))],
        [helper.make_tensor_value_info("a", float32, None)],
    )
    path = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]), path)
    with pytest.raises(ModelError, match=r"model\.onnx.*onnx dies of it"):
        read_operators(path)
    with pytest.raises(ModelError):
        read_model(path, ImportOptions())


def test_names_in_a_graph_that_are_no_text_are_one_line_or_none(tmp_path: Path) -> None:
    whole = onnx.load(next(path for path in builtin.artifacts() if path.suffix == ".onnx"))
    large = max(whole.graph.initializer, key=lambda item: len(item.raw_data))
    for name in (whole.graph.name, large.name):
        path = tmp_path / "model.onnx"
        path.write_bytes(
            whole.SerializeToString().replace(name.encode(), b"\xff" * len(name.encode()))
        )
        try:
            read_operators(path)
        except ModelError as error:
            assert "\n" not in str(error)


def test_a_name_in_a_graph_that_is_not_text_is_refused(tmp_path: Path) -> None:
    whole = onnx.load(GOLDEN_GRAPH)
    content = whole.SerializeToString()
    path = tmp_path / "model.onnx"
    for node in whole.graph.node[:8]:
        for name in (node.op_type, *node.input[:1], *node.output):
            path.write_bytes(content.replace(name.encode(), b"\xff" * len(name.encode())))
            with pytest.raises(ModelError) as caught:
                read_model(path, ImportOptions())
            assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", ["large", "", "1e999999", "0x"])
def test_a_scale_of_the_logits_that_is_no_number_is_refused(tmp_path: Path, value: str) -> None:
    whole = onnx.load(next(path for path in builtin.artifacts() if path.suffix == ".onnx"))
    for key in (LOGITS_SCALE_KEY, LOGITS_ZERO_POINT_KEY):
        whole.metadata_props.add(key=key, value=value)
    path = tmp_path / "model.onnx"
    onnx.save(whole, path)
    with pytest.raises(ModelError, match="damaged"):
        vitedge.load(path)
