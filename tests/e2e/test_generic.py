"""Models that are no vision transformers, from file to checked artefact."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
from click.testing import CliRunner

from tests.support.generic_models import (
    CLASSES,
    CUSTOM_OBJECTS,
    MODELS,
    SIZE,
    build,
    pixels,
    write_nchw_onnx,
)
from tests.support.golden_cases import GOLDEN
from vitedge.artifacts.metadata import read_metadata
from vitedge.artifacts.written import Written
from vitedge.classifier import load
from vitedge.cli import main
from vitedge.errors import ConversionError, ModelError, NotAViTError, UsageError
from vitedge.images.image_sets import ImageSet
from vitedge.images.samples import Sample
from vitedge.importers import ImportOptions
from vitedge.inspection.description import inspect
from vitedge.network.kinds import Activation
from vitedge.network.tasks import Task
from vitedge.pipeline.budget import DropBudget
from vitedge.pipeline.convert import ConvertOptions, convert
from vitedge.pipeline.keras_model import import_model
from vitedge.pipeline.layouts import LAYOUTS
from vitedge.targets.formats import Format, all_formats
from vitedge.targets.layouts import Layout
from vitedge.targets.precisions import Precision

THREE = (Precision.FP32, Precision.FP16, Precision.INT8)
OPTIONS = ImportOptions(custom_objects=CUSTOM_OBJECTS)


def image_set(n: int = 8) -> ImageSet:
    return ImageSet("noise", [Sample(str(i), each, None) for i, each in enumerate(pixels(n))])


def assert_computes(written: Written, logits: np.ndarray) -> None:
    """The artefact, loaded afresh as an app would, against logits from outside of vitedge."""
    with load(written.path) as classifier:
        answers = classifier.logits(list(pixels()))
    tolerance = written.metadata.precision.row.tolerance.relative_difference
    centred, wanted = (x - x.mean(axis=1, keepdims=True) for x in (answers, logits))
    assert np.abs(centred - wanted).max() <= tolerance * np.ptp(wanted)


def keras_logits(model, scale: float = 1.0) -> np.ndarray:
    """What Keras itself says; logarithms where the model ends in a softmax."""
    answers = np.asarray(model(pixels().astype(np.float32) * scale, training=False))
    return np.log(answers) if np.allclose(answers.sum(axis=1), 1) else answers


def test_a_cnn_comes_out_in_every_format(tmp_path: Path) -> None:
    model = build("cnn")
    model.save(tmp_path / "cnn.keras")
    options = ConvertOptions(precisions=(Precision.FP32,), output=tmp_path)
    written = convert(tmp_path / "cnn.keras", options)
    assert {each.metadata.format for each in written} == set(all_formats())
    for each in written:
        assert_computes(each, keras_logits(model))
        assert each.metadata.source.path.startswith("generic: it has no softmax attention")


@pytest.mark.slow
def test_a_cnn_in_every_format_and_precision_says_what_it_is(tmp_path: Path) -> None:
    model = build("cnn")
    model.save(tmp_path / "cnn.keras")
    options = ConvertOptions(
        precisions=THREE,
        output=tmp_path,
        importing=ImportOptions(labels=tuple("ABCDEFGHIJ"), resize=32),
    )
    written = convert(tmp_path / "cnn.keras", options, calibration=image_set())
    assert len(written) == 9
    for each in written:
        assert_computes(each, keras_logits(model))
        metadata = read_metadata(each.path)
        assert metadata == each.metadata
        assert metadata.source.path.startswith("generic: it has no softmax attention")
        assert "softmax at the end removed" in metadata.source.path
        assert (metadata.labels, metadata.preprocessing.resize) == (tuple("ABCDEFGHIJ"), 32)
        assert metadata.parameters == model.count_params()
        assert metadata.parity is not None
        is_int8 = metadata.precision is Precision.INT8
        assert bool(metadata.calibration) == is_int8
        assert bool(metadata.quantization) == (metadata.precision is not Precision.FP32)
        if metadata.calibration is not None:
            assert (metadata.calibration.kind, metadata.calibration.n) == ("images", 8)
    found = inspect(tmp_path / "cnn.keras")
    assert found.read == written[0].metadata.source.path
    assert (found.classes, found.parameters) == (CLASSES, model.count_params())


@pytest.mark.slow
@pytest.mark.parametrize("layout", Layout)
def test_a_cnn_is_laid_out_for_the_clients_of_hubs(layout: Layout, tmp_path: Path) -> None:
    model = build("cnn")
    model.save(tmp_path / "cnn.keras")
    options = ConvertOptions(
        formats=(LAYOUTS[layout].format,),
        precisions=(Precision.FP32, Precision.INT8),
        output=tmp_path / "hub",
        layout=layout,
        importing=ImportOptions(labels=tuple(f"class {index}" for index in range(CLASSES))),
    )
    written = convert(tmp_path / "cnn.keras", options, calibration=image_set())
    expected = {
        *LAYOUTS[layout].beside,
        *(LAYOUTS[layout].files[each] for each in options.precisions),
    }
    files = (each for each in (tmp_path / "hub").rglob("*") if each.is_file())
    assert {each.relative_to(tmp_path / "hub").as_posix() for each in files} == expected
    assert_computes(written[0], keras_logits(model))
    if layout is Layout.HUGGING_FACE:
        config = json.loads((tmp_path / "hub" / "config.json").read_text())
        assert config["id2label"]["3"] == "class 3"
        assert config["num_labels"] == CLASSES
        session = onnxruntime.InferenceSession(written[0].path)
        assert [each.name for each in session.get_inputs()] == ["pixel_values"]
        assert session.get_inputs()[0].shape == [1, 3, SIZE, SIZE]
        assert session.get_outputs()[0].name == "logits"


@pytest.mark.slow
def test_shifted_windows_compute_what_keras_does(tmp_path: Path) -> None:
    model = build("swin")
    model.save(tmp_path / "model.keras")
    options = ConvertOptions(
        formats=(Format.ONNX,),  # which knows neither their einsums' shapes nor GELU's erfc
        precisions=(Precision.FP32,),
        output=tmp_path,
        importing=OPTIONS,
    )
    (written,) = convert(tmp_path / "model.keras", options)
    assert_computes(written, keras_logits(model))


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_every_model_comes_out_in_every_format_and_precision(name: str, tmp_path: Path) -> None:
    model = build(name)
    model.save(tmp_path / "model.keras")
    options = ConvertOptions(precisions=THREE, output=tmp_path, importing=OPTIONS)
    logits = keras_logits(model, 1 / 255 if name == "mobilevit" else 1.0)
    written = convert(tmp_path / "model.keras", options, calibration=image_set())
    assert len(written) == 9
    for each in written:
        assert_computes(each, logits)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "scale"), [("mobilevit", 1 / 255), ("cnn", 1.0)])
@pytest.mark.parametrize("file", ["model.h5", "saved_model"])
def test_other_files_of_keras_compute_the_same(
    file: str, name: str, scale: float, tmp_path: Path
) -> None:
    """One takes numbers from 0 to 1, the other normalises inside."""
    model = build(name)
    path = tmp_path / file
    if path.suffix:
        model.save(path)
    else:
        model.export(path, verbose=False)
    options = ConvertOptions(precisions=(Precision.FP32,), output=tmp_path / "artefacts")
    made = convert(path, options)
    assert {each.metadata.format for each in made} == set(all_formats())
    for written in made:
        assert_computes(written, keras_logits(model, scale))


@pytest.mark.slow
@pytest.mark.parametrize("file", ["model.keras", "saved_model"])
def test_a_network_in_half_precision_becomes_one_in_float32(file: str, tmp_path: Path) -> None:
    image = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.Conv2D(8, 3, activation="relu", dtype="float16")(image)
    x = keras.layers.GlobalAveragePooling2D(dtype="float16")(x)
    model = keras.Model(image, keras.layers.Dense(CLASSES, dtype="float16")(x))
    path = tmp_path / file
    model.save(path) if path.suffix else model.export(path, verbose=False)
    options = ConvertOptions(precisions=(Precision.FP32,), output=tmp_path / "artefacts")
    made = convert(path, options)
    assert {each.metadata.format for each in made} == set(all_formats())
    expected = np.asarray(model(pixels().astype(np.float32) / 255, training=False), np.float32)
    for written in made:
        with load(written.path) as classifier:
            found = classifier.logits(list(pixels()))
        np.testing.assert_allclose(found, expected, atol=2e-3 * np.ptp(expected))


def test_an_export_with_augmentation_and_grouped_convolutions(tmp_path: Path) -> None:
    """Keras exports augmentation switched on, and gives convolutions in groups to XLA."""
    image = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.RandomFlip("horizontal")(keras.layers.Rescaling(1 / 127.5, -1)(image))
    x = keras.layers.Conv2D(8, 3, activation="relu")(x)
    x = keras.layers.Conv2D(8, 3, groups=4)(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(image, keras.layers.Dense(CLASSES)(x))
    model.export(tmp_path / "saved", verbose=False)
    options = ConvertOptions(precisions=(Precision.FP32,), output=tmp_path / "artefacts")
    made = convert(tmp_path / "saved", options)
    assert {each.metadata.format for each in made} == set(all_formats())
    expected = model.predict(pixels().astype(np.float32), verbose=0)
    for written in made:
        assert_computes(written, expected)


def test_an_onnx_file_becomes_onnx_and_openvino(tmp_path: Path) -> None:
    source = tmp_path / "cnn.onnx"
    write_nchw_onnx(source)
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
    session = onnxruntime.InferenceSession(source)
    image = ((pixels() / 255 - mean) / std).astype(np.float32).transpose(0, 3, 1, 2)
    logits = np.log(session.run(None, {"pixels": image})[0])
    options = ConvertOptions(
        formats=(Format.ONNX, Format.OPENVINO),
        precisions=THREE,
        output=tmp_path / "artefacts",
        batch=2,
        importing=ImportOptions(mean=mean, std=std),
    )
    written = convert(source, options, calibration=image_set())
    assert len(written) == 6
    for each in written:
        assert_computes(each, logits)
        assert "input normalised as given" in each.metadata.source.path
        assert each.metadata.parameters == 16 * 27 + 17 * CLASSES


def test_of_a_model_with_attention_the_nearer_of_both_quantizers_is_kept(tmp_path: Path) -> None:
    model = onnx.load(GOLDEN / "lift" / "timm_script_one.onnx")
    (output,) = model.graph.output
    last = next(node for node in model.graph.node if output.name in node.output)
    last.output[list(last.output).index(output.name)] = "before"
    model.graph.node.append(onnx.helper.make_node("Sin", ["before"], [output.name]))
    onnx.save(model, tmp_path / "model.onnx")
    options = ConvertOptions(
        (Format.ONNX,),
        (Precision.INT8,),
        tmp_path / "artefacts",
        importing=ImportOptions(task=Task.CLASSES),
    )
    (written,) = convert(tmp_path / "model.onnx", options)
    assert written.metadata.source.path.startswith("generic: ")
    assert written.metadata.quantization == {
        "dense layers": "8-bit per channel, inputs quantized as they come"
    }
    assert [each.name for each in options.output.iterdir()] == ["model.int8.onnx"]


def test_an_onnx_file_does_not_become_tflite_and_the_way_out_is_named(tmp_path: Path) -> None:
    write_nchw_onnx(tmp_path / "cnn.onnx")
    options = ConvertOptions(precisions=(Precision.FP32,), output=tmp_path / "artefacts")
    with pytest.raises(ConversionError, match="--format onnx and --format openvino need neither"):
        convert(tmp_path / "cnn.onnx", options)
    assert not (tmp_path / "artefacts").exists()


def test_tensorflow_does_not_start_for_what_it_cannot_read(tmp_path: Path) -> None:
    # It started unasked, and its notes of drivers that are not here stood on stderr.
    write_nchw_onnx(tmp_path / "cnn.onnx")
    command = [sys.executable, "-m", "vitedge", "convert", "cnn.onnx", "--fp32"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    lines = [line.split()[0] for line in done.stderr.splitlines()]
    assert set(lines) == {"finished", "skipped", "Error:"}, done.stderr


def test_what_speaks_of_a_vit_alone_is_refused(tmp_path: Path) -> None:
    write_nchw_onnx(tmp_path / "cnn.onnx")
    onnx_only = {"formats": (Format.ONNX,), "precisions": (Precision.FP32,), "output": tmp_path}
    for importing, flag in (
        (ImportOptions(heads=3), "--heads"),
        (ImportOptions(activation=Activation.GELU), "--activation"),
        (ImportOptions(norm_eps=1e-5), "--norm-eps"),
    ):
        with pytest.raises(UsageError, match=flag):
            convert(tmp_path / "cnn.onnx", ConvertOptions(**onnx_only, importing=importing))
    for chosen in ({"budget": DropBudget(1.0, image_set())}, {"tune": True}):
        with pytest.raises(NotAViTError, match="leave out --max-drop and --tune"):
            convert(tmp_path / "cnn.onnx", ConvertOptions(**onnx_only, **chosen))
    with pytest.raises(UsageError, match="no rewrite 'rotate-residual'"):
        convert(tmp_path / "cnn.onnx", ConvertOptions(**onnx_only, without=("rotate-residual",)))
    with pytest.raises(ModelError, match="2 labels for 10 classes"):
        labels = ImportOptions(labels=("cat", "dog"))
        convert(tmp_path / "cnn.onnx", ConvertOptions(**onnx_only, importing=labels))
    with pytest.raises(ModelError, match="32 x 32 pixels"):
        larger = ImportOptions(image_size=(64, 64))
        convert(tmp_path / "cnn.onnx", ConvertOptions(**onnx_only, importing=larger))


def test_importing_it_says_that_convert_takes_it(tmp_path: Path) -> None:
    write_nchw_onnx(tmp_path / "cnn.onnx")
    with pytest.raises(
        NotAViTError, match=r"not read as a vision transformer: .*`vitedge convert` takes it"
    ):
        import_model(tmp_path / "cnn.onnx", tmp_path / "model.keras", ImportOptions())


def test_the_command_line_says_which_path_was_taken(tmp_path: Path) -> None:
    source = tmp_path / "cnn.onnx"
    write_nchw_onnx(source)
    command = ["convert", "--int8", "--format", "openvino", "-o", str(tmp_path / "out"), "--json"]
    result = CliRunner().invoke(main, [*command, str(source)])
    assert result.exit_code == 0, result.output
    (artefact,) = json.loads(result.stdout)  # NNCF writes to stdout when it is let
    assert artefact["source"]["path"].startswith("generic: it has no softmax attention")
    assert "assumed: ImageNet's mean and std" in artefact["source"]["path"]
