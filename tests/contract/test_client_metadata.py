"""What other clients read in our files, by the formats' own schemas."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import openvino
import pytest
from ai_edge_litert import schema_py_generated as tflite
from ai_edge_litert.interpreter import Interpreter

from tests.contract.test_converters import metadata, quantized
from tests.support.models import random_network
from tests.support.task_artifacts import artifact_of, network_of_task
from vitedge.artifacts.metadata import Metadata, Source, files_of, read_metadata
from vitedge.converters.model_info import model_info
from vitedge.converters.tools import converter_for, tools_of
from vitedge.errors import ConversionError
from vitedge.files.flatbuffer import Table, parse_schema, verify
from vitedge.inspection.description import inspect
from vitedge.network.tasks import Task
from vitedge.rewrite.features import with_features
from vitedge.runtimes import runtime_for
from vitedge.targets.formats import Format, all_formats
from vitedge.targets.precisions import Precision
from vitedge.targets.scores import Scores

# https://github.com/google-ai-edge/mediapipe, metadata_schema.fbs, in the form of tflite_schema.
SCHEMA = parse_schema(
    {
        "AssociatedFile": "s s 1 s s",
        "FeatureProperties": "",
        "ImageSize": "4 4",
        "ImageProperties": "1 @ImageSize",
        "BoundingBoxProperties": "*4 1 1",
        "AudioProperties": "4 4",
        "ValueRange": "4 4",
        "Content": "1 u:ContentProperties @ValueRange",
        "NormalizationOptions": "*4 *4",
        "ProcessUnit": "1 u:ProcessUnitOptions",
        "Stats": "*4 *4",
        "TensorMetadata": "s s *s @Content *@ProcessUnit @Stats *@AssociatedFile",
        "SubGraphMetadata": "s s *@TensorMetadata *@TensorMetadata *@AssociatedFile",
        "ModelMetadata": "s s s *@SubGraphMetadata s s *@AssociatedFile s",
    },
    {
        "ContentProperties": (
            "NONE FeatureProperties ImageProperties BoundingBoxProperties AudioProperties"
        ),
        "ProcessUnitOptions": "NONE NormalizationOptions",
    },
)


LABELS = ("a cat", "line\nbreak", "", "Käse", *map(str, range(6)))
NAMES = ["a cat", "line break", "", "Käse", *map(str, range(6))]


def artefact(
    folder: Path, format_: Format, precision: Precision = Precision.FP32, **options: Any
) -> tuple[Path, Metadata]:
    network = replace(random_network(**options), labels=LABELS)
    converter = converter_for(format_, precision)
    made = quantized(network, converter, precision)
    said = replace(metadata(network, converter, precision), labels=LABELS)
    said = replace(said, versions={"vitedge": "1.2.3"})
    path = folder / f"model{format_.suffix}"
    converter.convert(made.network, made.recipe).save(path, said)
    return path, said


def model_metadata(path: Path) -> Table:
    model = tflite.ModelT.InitFromPackedBuf(path.read_bytes(), 0)
    named = {each.name: each.buffer for each in model.metadata}
    content = model.buffers[named[b"TFLITE_METADATA"]].data.tobytes()
    return verify(content, SCHEMA, "ModelMetadata", b"M001")


def floats(table: Table, field: int) -> tuple[float, ...]:
    return table.numbers(field, "f")


@pytest.mark.parametrize("channels", [1, 3])
def test_tflite_metadata_describes_raw_pixels_and_scores(tmp_path: Path, channels: int) -> None:
    path, said = artefact(tmp_path, Format.TFLITE, channels=channels)
    found = model_metadata(path)
    assert found.content(7) == b"1.0.0"
    (graph,) = found.tables(3)
    (image,), (score,) = graph.tables(2), graph.tables(3)
    assert (image.content(0), score.content(0)) == (b"image", b"score")
    content = image.table(3)
    assert content is not None
    assert content.number(0, "B") == 2  # ImageProperties
    properties = content.table(1)
    assert properties is not None
    assert properties.number(0, "b") == (1 if channels == 3 else 2)
    size = properties.table(1)
    assert size is not None
    assert (size.number(1, "I"), size.number(0, "I")) == said.preprocessing.size
    (unit,) = image.tables(4)
    identity = unit.table(1)
    assert identity is not None
    assert (unit.number(0, "B"), floats(identity, 0), floats(identity, 1)) == (1, (0.0,), (1.0,))
    stats = image.table(5)
    assert stats is not None
    assert (floats(stats, 0), floats(stats, 1)) == ((255.0,), (0.0,))
    (labels,) = score.tables(6)
    assert (labels.content(0), labels.number(2, "b")) == (b"labels.txt", 2)


def test_labels_lie_in_an_archive_behind_the_model(tmp_path: Path) -> None:
    path, said = artefact(tmp_path, Format.TFLITE)
    with zipfile.ZipFile(path) as archive:
        (member,) = archive.infolist()
        assert archive.testzip() is None
        assert (member.filename, member.compress_type) == ("labels.txt", zipfile.ZIP_STORED)
        assert archive.read(member).decode().split("\n")[:-1] == NAMES
    assert path.read_bytes()[4:8] == b"TFL3"
    assert read_metadata(path) == said
    Interpreter(str(path)).allocate_tensors()


def test_a_model_without_labels_has_no_archive(tmp_path: Path) -> None:
    network = random_network(labels=False)
    converter = converter_for(Format.TFLITE, Precision.FP32)
    made = quantized(network, converter, Precision.FP32)
    said = replace(metadata(network, converter, Precision.FP32), labels=())
    converter.convert(made.network, made.recipe).save(tmp_path / "model.tflite", said)
    assert not zipfile.is_zipfile(tmp_path / "model.tflite")
    (score,) = model_metadata(tmp_path / "model.tflite").tables(3)[0].tables(3)
    assert not score.tables(6)


def test_every_output_is_described(tmp_path: Path) -> None:
    network = with_features(random_network())
    converter = converter_for(Format.TFLITE, Precision.FP32)
    made = quantized(network, converter, Precision.FP32)
    said = metadata(network, converter, Precision.FP32)
    converter.convert(made.network, made.recipe).save(tmp_path / "model.tflite", said)
    (graph,) = model_metadata(tmp_path / "model.tflite").tables(3)
    assert [each.content(0) for each in graph.tables(3)] == [b"score", b"features"]


@pytest.mark.parametrize("format_", all_formats())
def test_the_same_model_gives_the_same_bytes(tmp_path: Path, format_: Format) -> None:
    made = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        path, _ = artefact(tmp_path / name, format_)
        made.append([part.read_bytes() for part in files_of(path)])
    assert made[0] == made[1]


MODEL_INFO = {
    "model_type": "Classification",
    "resize_type": "standard",
    "interpolation_mode": "CUBIC",
    "input_dtype": "u8",
    "reverse_input_channels": "True",
    "mean_values": "0.0 0.0 0.0",
    "scale_values": "1.0 1.0 1.0",
    "labels": "a_cat line_break _ Käse 0 1 2 3 4 5",
}


def test_openvino_files_name_what_the_model_api_reads(tmp_path: Path) -> None:
    path, _ = artefact(tmp_path, Format.OPENVINO)
    model = openvino.Core().read_model(path)
    assert set(model.get_rt_info()["model_info"]) == set(MODEL_INFO)
    for key, value in MODEL_INFO.items():
        assert model.get_rt_info(["model_info", key]).astype(str) == value


def test_onnx_files_name_what_the_model_api_reads(tmp_path: Path) -> None:
    path, _ = artefact(tmp_path, Format.ONNX)
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert (model.producer_name, model.producer_version) == ("vitedge", "1.2.3")
    found = {each.key: each.value for each in model.metadata_props}
    given = {key.removeprefix("model_info "): found[key] for key in found if " " in key}
    assert given == MODEL_INFO


@pytest.mark.parametrize("precision", [Precision.INT8_STATIC, Precision.W8A16])
@pytest.mark.parametrize("format_", [Format.TFLITE, Format.ONNX])
def test_all_integer_files_take_bytes(
    tmp_path: Path, format_: Format, precision: Precision
) -> None:
    path, _ = artefact(tmp_path, format_, precision)
    if format_ is Format.ONNX:
        model = onnx.load(path).graph
        assert model.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
        return
    interpreter = Interpreter(str(path))
    (taken,) = interpreter.get_input_details()
    assert (taken["dtype"], taken["quantization"]) == (np.uint8, (1.0, 0))


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.INT8_STATIC, Precision.W8A16])
@pytest.mark.parametrize("format_", all_formats())
def test_pixels_are_bytes_or_floats_and_mean_the_same(
    tmp_path: Path, format_: Format, precision: Precision
) -> None:
    if precision in tools_of(format_).converter.refusals:
        with pytest.raises(ConversionError, match="take"):
            converter_for(format_, precision)
        return
    path, _ = artefact(tmp_path, format_, precision)
    target = format_.default_target
    session = runtime_for(target).open(path, target.device)
    try:
        pixels = np.random.default_rng(0).integers(0, 256, session.input_shape, np.uint8)
        found, again = session.run(pixels), session.run(pixels.astype(np.float32))
    finally:
        session.close()
    np.testing.assert_array_equal(found, again)
    assert found.any()


@pytest.mark.parametrize("task", Task, ids=str)
def test_the_model_api_is_told_of_classes_and_labels_alone(task: Task, tmp_path: Path) -> None:
    network = network_of_task(task)
    for format_ in (Format.ONNX, Format.OPENVINO):
        path = artifact_of(network, tmp_path, format_)
        if format_ is Format.ONNX:
            found = {each.key: each.value for each in onnx.load(path).metadata_props}
            given = {key.removeprefix("model_info "): found[key] for key in found if " " in key}
        else:
            model = openvino.Core().read_model(path)
            names = model.get_rt_info()["model_info"] if model.has_rt_info("model_info") else ()
            given = {key: model.get_rt_info(["model_info", key]).astype(str) for key in names}
        assert bool(given) == (task in (Task.CLASSES, Task.LABELS))
        # It takes a sigmoid of each logit where it is told so, else a softmax.
        assert given.get("multilabel") == ("True" if task is Task.LABELS else None)
        assert given.get("output_raw_scores") == ("True" if task is Task.LABELS else None)
        needs = inspect(path).clients["OpenVINO Model API"]
        assert bool(needs) == (not given)


def test_the_model_api_is_not_told_of_sigmoids_that_were_taken_already() -> None:
    said = Metadata(
        Format.ONNX,
        Precision.FP32,
        (),
        network_of_task(Task.LABELS).preprocessing,
        Source("model.keras", "0" * 64, "a test"),
        scores=Scores.PROBABILITIES,
        task=Task.LABELS,
    )
    assert model_info(said) == {}
    assert model_info(replace(said, scores=Scores.LOGITS))["multilabel"] == "True"


@pytest.mark.parametrize(
    ("task", "kind", "output", "words"),
    [
        (Task.BINARY, b"ImageClassifier", b"score", b"Logit of yes, before sigmoid."),
        (Task.LABELS, b"ImageClassifier", b"score", b"Logit of each label, before sigmoid."),
        (Task.NUMBERS, b"ImageRegressor", b"numbers", b"Measured numbers."),
        (Task.EMBEDDING, b"ImageEmbedder", b"embedding", b"An embedding."),
        (Task.MAP, b"ImageMapper", b"map", b"A map of the image."),
    ],
)
def test_tflite_metadata_says_what_the_output_means(
    task: Task, kind: bytes, output: bytes, words: bytes, tmp_path: Path
) -> None:
    path = artifact_of(network_of_task(task), tmp_path, Format.TFLITE)
    said = model_metadata(path)
    (made,) = said.tables(3)[0].tables(3)
    assert (said.content(0), made.content(0), made.content(1)) == (kind, output, words)
    if task is Task.BINARY:
        with zipfile.ZipFile(path) as archive:
            assert archive.read("labels.txt") == b"cat\n"  # one score, one name


@pytest.mark.parametrize("task", [Task.BINARY, Task.EMBEDDING, Task.MAP], ids=str)
def test_inspect_says_what_the_output_is(task: Task, tmp_path: Path) -> None:
    (output,) = inspect(artifact_of(network_of_task(task), tmp_path)).outputs
    layouts = {Task.BINARY: "NC", Task.EMBEDDING: "NC", Task.MAP: "NHW"}
    assert output.layout == layouts[task]
    meaning = "logit of yes, before sigmoid" if task is Task.BINARY else task.words
    assert output.meaning == meaning
