"""However many artefacts, targets or comparisons there are, a model is read once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from tests.support.golden_cases import GOLDEN
from vitedge import importers
from vitedge.bench import request
from vitedge.bench.run import BenchOptions
from vitedge.cli import main
from vitedge.images.image_sets import ImageSet
from vitedge.images.samples import ArraySamples
from vitedge.importers import Imported, ImportOptions, read_model
from vitedge.inspection import compare
from vitedge.pick.choice import Budget
from vitedge.pick.run import PickRequest, pick
from vitedge.pipeline import open_model, quantizations, source_check
from vitedge.pipeline.convert import ConvertOptions, convert
from vitedge.pipeline.for_targets import convert_for
from vitedge.targets.formats import Format
from vitedge.targets.precisions import Precision
from vitedge.targets.target import Target

SOURCE = GOLDEN / "timm_vit" / "model.safetensors"
IMPORTING = ImportOptions(heads=2)
NOISE = ImageSet(
    "noise",
    ArraySamples(np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), np.uint8), None),
)


def labelled_noise(folder: Path) -> Path:
    path = folder / "noise.npz"
    images = np.stack([each.image for each in NOISE.samples])
    np.savez(path, images=images, labels=np.arange(len(images)) % 3)
    return path


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often a model was read, rewritten, calibrated, run."""
    counted: Counter[str] = Counter()

    def count(module: Any, name: str) -> None:
        original: Callable[..., Any] = getattr(module, name)

        def counting(*arguments: Any, **options: Any) -> Any:
            counted[name] += 1
            return original(*arguments, **options)

        monkeypatch.setattr(module, name, counting)

    count(source_check, "read_model")
    count(open_model, "apply_rewrites")
    count(open_model, "forward_each")
    count(quantizations, "calibrate")
    return counted


@pytest.mark.thorough
def test_several_targets_share_one_reading_and_one_calibration(
    calls: Counter[str], tmp_path: Path
) -> None:
    options = ConvertOptions(precisions=(Precision.INT8,), output=tmp_path, importing=IMPORTING)
    targets = [Target("tflite", "cpu"), Target("onnx", "cpu"), Target("openvino", "cpu")]
    written = convert_for(SOURCE, targets, options, calibration=NOISE)
    assert len(written) == 3
    assert calls == {"read_model": 1, "apply_rewrites": 1, "forward_each": 1, "calibrate": 1}


@pytest.mark.thorough
def test_what_several_targets_get_is_what_each_alone_would_get(tmp_path: Path) -> None:
    targets = [Target("tflite", "cpu"), Target("onnx", "cpu")]
    for folder, sets in (("together", [targets]), ("apart", [[each] for each in targets])):
        options = ConvertOptions(output=tmp_path / folder, importing=IMPORTING)
        for each in sets:
            convert_for(SOURCE, each, options, calibration=NOISE)
    for path in (tmp_path / "together").iterdir():
        assert path.read_bytes() == (tmp_path / "apart" / path.name).read_bytes()


def test_a_model_that_is_opened_twice_is_read_twice(calls: Counter[str], tmp_path: Path) -> None:
    options = ConvertOptions(
        (Format.ONNX,), (Precision.FP32,), tmp_path, importing=IMPORTING, force=True
    )
    for _ in range(2):
        convert(SOURCE, options)
    assert calls["read_model"] == 2


@pytest.mark.thorough
def test_pick_measures_against_the_model_that_it_converted(
    calls: Counter[str], tmp_path: Path
) -> None:
    wanted = PickRequest(
        SOURCE,
        labelled_noise(tmp_path),
        Budget(1.0),
        targets=(Target("onnx", "cpu"),),
        output=tmp_path / "artefacts",
        importing=IMPORTING,
        bench=BenchOptions(threads=1, runs=3),
    )
    picked = pick(wanted, reproduce=lambda variety: "")
    assert len(picked.report.rows) > 2
    assert (calls["read_model"], calls["calibrate"]) == (1, 1)


@pytest.mark.thorough
def test_layers_are_compared_with_the_reference_that_the_bench_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = GOLDEN / "hugging_face_vit" / "model.safetensors"
    precisions = (Precision.FP32, Precision.INT8)
    convert(source, ConvertOptions((Format.ONNX,), precisions, tmp_path), calibration=NOISE)
    calls: Counter[str] = Counter()

    def counting(*arguments: Any, **options: Any) -> Imported:
        calls["read_model"] += 1
        return read_model(*arguments, **options)

    for module in (importers, compare, request):
        monkeypatch.setattr(module, "read_model", counting)
    data = ["--data", str(labelled_noise(tmp_path)), "--reference", str(source), "--layers"]
    how = ["--target", "onnx-cpu", "--runs", "3", "--threads", "1"]
    ran = CliRunner().invoke(main, ["bench", str(tmp_path), *data, *how])
    assert ran.exit_code == 0, ran.output
    assert calls["read_model"] == 1
