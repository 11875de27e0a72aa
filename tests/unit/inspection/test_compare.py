"""Comparing an artefact with its model, layer by layer."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from tests.support.models import random_images, random_network, random_vit
from tests.support.task_artifacts import network_of_task
from vitedge.cli import main
from vitedge.converters.tools import converters, precisions_of
from vitedge.elements.vision_transformer import network_of
from vitedge.errors import ModelError, UsageError
from vitedge.importers import ImportOptions
from vitedge.inspection.compare import compare_layers
from vitedge.network.tasks import Task
from vitedge.pipeline.convert import ConvertOptions, convert
from vitedge.pipeline.keras_model import write_keras
from vitedge.targets.formats import Format
from vitedge.targets.precisions import Precision


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("compare") / "model.keras"
    write_keras(random_network(depth=3), path)
    return path


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("target", "precision"),
    [
        pytest.param(each.format, precision, id=f"{each.format}-{precision}")
        for each in converters()
        for precision in precisions_of(each)
    ],
)
def test_every_layer_of_every_kind_of_artefact_is_found(
    target: Format, precision: Precision, model: Path, tmp_path: Path
) -> None:
    options = ConvertOptions((target,), (precision,), tmp_path)
    (written,) = convert(model, options)
    found = compare_layers(model, written.path, ImportOptions())
    layers = {layer.name: layer.sqnr_db for layer in found.errors.layers}
    linears = [f"blocks.{n}.{name}" for n in range(3) for name in ("q", "k", "out", "fc1", "fc2")]
    assert {"head", *linears} <= set(layers)
    assert list(layers)[-1] == "head"
    # What a precision loses it loses on the way, so no layer is much worse than its worst limit.
    least = 70 if precision is Precision.FP32 else 35 if precision.is_float else 3
    assert all(value is None or value > least for value in layers.values()), layers


def test_a_change_of_basis_is_not_blamed_on_queries_and_keys(tmp_path: Path) -> None:
    """Two large channels make int8-static balance queries and keys, which alters no score."""
    vit = random_vit(depth=2)
    blocks = []
    for block in vit.blocks:
        large = np.ones(24, np.float32)
        large[[3, 11]] = 60
        q, k = block.q, block.k
        blocks.append(
            replace(
                block,
                q=replace(q, weight=q.weight * large, bias=q.bias * large),
                k=replace(k, weight=k.weight / large, bias=k.bias / large),
            )
        )
    source = tmp_path / "outliers.keras"
    write_keras(network_of(replace(vit, blocks=tuple(blocks))), source)
    options = ConvertOptions((Format.TFLITE,), (Precision.INT8_STATIC,), tmp_path)
    (written,) = convert(source, options)
    assert "balance-queries" in written.metadata.rewrites
    layers = compare_layers(source, written.path, ImportOptions()).errors.layers
    found = {layer.name: layer.sqnr_db for layer in layers}
    for name in ("blocks.0.q", "blocks.0.k", "blocks.1.q", "blocks.1.k"):
        assert found[name] is not None
        # In the wrong basis the difference is larger than the signal.
        assert found[name] > 10, found


def test_an_artefact_with_torn_weights_is_one_line(model: Path, tmp_path: Path) -> None:
    options = ConvertOptions((Format.OPENVINO,), (Precision.FP32,), tmp_path)
    (written,) = convert(model, options)
    weights = written.path.with_suffix(".bin")
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ModelError, match="do not belong together") as caught:
        compare_layers(model, written.path, ImportOptions())
    assert "\n" not in str(caught.value)


def test_the_layer_with_the_fault_is_where_the_figures_fall(model: Path, tmp_path: Path) -> None:
    import onnx
    from onnx import numpy_helper

    options = ConvertOptions((Format.ONNX,), (Precision.FP32,), tmp_path)
    (written,) = convert(model, options)
    spoilt = onnx.load(str(written.path))
    for constant in spoilt.graph.initializer:
        if constant.name == "blocks.1.fc1.weight":
            bent = numpy_helper.to_array(constant) * 1.1
            constant.CopyFrom(numpy_helper.from_array(bent, constant.name))
    onnx.save(spoilt, str(written.path))
    errors = compare_layers(model, written.path, ImportOptions()).errors
    faulty = [layer.name for layer in errors.layers if (layer.sqnr_db or 300) < 60]
    assert faulty[0] == "blocks.1.fc1"


def test_an_artefact_of_another_model_is_refused(model: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.keras"
    write_keras(random_network(image_size=(16, 24)), other)
    options = ConvertOptions((Format.ONNX,), (Precision.FP32,), tmp_path)
    (written,) = convert(other, options)
    with pytest.raises(UsageError, match="is another model"):
        compare_layers(model, written.path, ImportOptions())


@pytest.mark.thorough
def test_a_bench_with_layers_has_them_in_its_report(model: Path, tmp_path: Path) -> None:
    options = ConvertOptions((Format.ONNX,), (Precision.FP32, Precision.INT8), tmp_path)
    artifacts = [str(each.path) for each in convert(model, options)]
    page, report = tmp_path / "report.html", tmp_path / "report.json"
    outputs = ["--json", str(report), "--html", str(page)]
    images = tmp_path / "images.npz"
    np.savez(images, images=random_images(random_network(depth=3), 8))
    outputs += ["--data", str(images)]
    flags = ["--reference", str(model), "--layers", "--runs", "2", "--target", "onnx-cpu"]
    result = CliRunner().invoke(main, ["bench", *artifacts, *flags, *outputs])
    assert result.exit_code == 0, result.output
    layers = json.loads(report.read_text())["layers"]
    assert [each["precision"] for each in layers] == ["fp32", "int8"]
    assert "blocks.1.fc1" in page.read_text()


def test_layers_without_a_model_are_refused(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["bench", "--layers"])
    assert result.exit_code == 2
    assert "--reference" in result.output


@pytest.mark.parametrize("task", [Task.EMBEDDING, Task.MAP], ids=str)
def test_what_names_no_classes_is_compared_by_its_layers_alone(task: Task, tmp_path: Path) -> None:
    write_keras(network_of_task(task), tmp_path / "model.keras")
    options = ConvertOptions((Format.ONNX,), (Precision.FP32,), tmp_path)
    (written,) = convert(tmp_path / "model.keras", options)
    found = compare_layers(tmp_path / "model.keras", written.path, ImportOptions())
    assert found.agreement is None
    layers = {layer.name: layer.sqnr_db for layer in found.errors.layers}
    assert {"blocks.1.fc2", "head" if task is Task.EMBEDDING else "map/layer"} <= set(layers)
    assert all(value is None or value > 70 for value in layers.values()), layers
