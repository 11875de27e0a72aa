"""A bench of artefacts that name no classes, from the folder of images to the page."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.bench_fixtures import few_devices
from tests.support.task_artifacts import artifact_of, network_of_task
from vitedge.bench.reference import reference_from_network
from vitedge.bench.run import BenchOptions, run_bench
from vitedge.check.measure_limits import MeasureLimit
from vitedge.check.report_file import read_report
from vitedge.check.rules import Kind, Limits, Outcome, check
from vitedge.errors import DataError
from vitedge.files.dataclass_json import from_plain
from vitedge.images.image_sets import open_images
from vitedge.network.evaluate import forward
from vitedge.network.network import Network, map_linears
from vitedge.network.operators import Linear
from vitedge.network.tasks import Task
from vitedge.pick.choice import Budget, choose
from vitedge.pick.words import in_words
from vitedge.remote.shipment import pack
from vitedge.report import render_html
from vitedge.report.csv_table import render_csv
from vitedge.report.markdown_table import render_markdown
from vitedge.report.results import Report, Row, Status
from vitedge.targets.target import Target

__all__ = ["few_devices"]

MEASURES = {
    Task.LABELS: ("mAP %", "mAP of float32 %", "label agreement %"),
    Task.NUMBERS: ("R²", "mean absolute error"),
    Task.EMBEDDING: ("cosine", "recall@1 %", "recall@5 %", "5-NN accuracy %"),
    Task.MAP: ("relative error %",),
    Task.BINARY: ("top-1 %", "agree %"),
}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for index in range(6):
            pixels = rng.integers(0, 256, (40, 40, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{index}.png")
    return tmp_path / "photos"


def disturbed(network: Network) -> Network:
    """The network with a little noise on every weight."""
    rng = np.random.default_rng(1)

    def change(_: str, layer: Linear) -> Linear:
        noise = rng.normal(size=layer.weight.shape) * 2e-5
        return Linear((layer.weight + noise).astype(np.float32), layer.bias)

    return map_linears(network, change)


def bench(network: Network, folder: Path, photos: Path) -> Report:
    path = artifact_of(disturbed(network), folder)
    names = network.labels if network.task is Task.LABELS else ("cat", "dog")
    return run_bench(
        [path],
        [Target("onnx", "cpu")],
        data=open_images(photos, names),
        reference=reference_from_network(network, "model.keras"),
        options=BenchOptions(threads=1, runs=5, timeout_seconds=60),
    )


@pytest.mark.parametrize("task", MEASURES, ids=str)
def test_each_task_is_measured_in_its_own_words(
    task: Task, few_devices: None, photos: Path, tmp_path: Path
) -> None:
    report = bench(network_of_task(task), tmp_path, photos)
    (row,) = report.rows
    assert row.status is Status.OK, row.message
    table = render_markdown(report).replace("\\", "")
    (line,) = csv.DictReader(io.StringIO(render_csv(report)))
    page = render_html(report)
    for title in MEASURES[task]:
        assert f" {title} |" in table
        if task is not Task.BINARY:
            assert title in page
            assert float(line[f"task_quality.{title.removesuffix(' %')}"]) >= 0
    (stored,) = json.loads(report.to_json())["rows"]
    assert ("task_quality" in stored) == (task is not Task.BINARY)
    assert from_plain(Row, stored) == row  # as a bench on another device sends it
    assert (stored["accuracy"] is None) == (task is not Task.BINARY)
    if row.task_quality is not None:
        assert row.task_quality.n == 12
        assert row.task_quality.sqnr_db is not None
        assert row.task_quality.sqnr_db > 50

    path = tmp_path / "report.json"
    path.write_text(report.to_json(), encoding="utf-8")
    read = read_report(path)
    drop_of = "top-1" if row.task_quality is None else row.task_quality.drop_of
    for limits, outcome in ((Limits(max_drop=100), Outcome.PASSED), (Limits(-100), Outcome.FAILED)):
        for baseline in (None, read):
            found = [each for each in check(read, baseline, limits) if each.kind is Kind.ACCURACY]
            assert [each.outcome for each in found] == [outcome]
            assert f"of {drop_of} than" in found[0].words
    choice = choose(report.rows, Budget(max_drop=100))
    assert choice.best is not None
    assert drop_of in in_words(choice)


@pytest.mark.parametrize(
    ("channels", "measure"), [(1, "delta-1 fitted"), (3, "mean IoU")], ids=["depth", "classes"]
)
def test_maps_are_measured_against_ground_truth(
    channels: int, measure: str, few_devices: None, photos: Path, tmp_path: Path
) -> None:
    network = network_of_task(Task.MAP, channels=channels)
    images = open_images(photos, ("cat", "dog"))
    rows = ["file,truth"]
    for number, sample in enumerate(images.samples):
        # What the model itself says is true, so float32 is nearly always right.
        (made,) = forward(network, network.preprocessing.batch([sample.image]))
        large = made.repeat(40 // len(made), 0).repeat(40 // len(made), 1)
        truth = large.argmax(axis=-1) if channels > 1 else large - large.min() + 1
        np.save(tmp_path / f"{number}.npy", truth)
        rows.append(f"photos/{sample.name},{number}.npy")
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    report = bench(network, tmp_path, tmp_path / "labels.csv")
    (row,) = report.rows
    assert row.status is Status.OK, row.message
    assert row.task_quality is not None
    found = {each.name: each.value for each in row.task_quality.measures}
    assert found[f"{measure} of float32"] > 90
    assert found[measure] > 80
    assert found["relative error"] < 10
    path = tmp_path / "report.json"
    path.write_text(report.to_json(), encoding="utf-8")
    for limit, outcome in ((80, Outcome.PASSED), (101, Outcome.FAILED)):
        limits = Limits(max_drop=100, measures=(MeasureLimit(measure, True, limit),))
        outcomes = [each.outcome for each in check(read_report(path), None, limits)]
        assert (Outcome.FAILED in outcomes) == (outcome is Outcome.FAILED)
    with pytest.raises(DataError, match="has ground truth of pixels"):
        pack(open_images(tmp_path / "labels.csv"), None, tmp_path, lambda done: None)


def test_a_map_of_zeros_is_no_fault_of_the_device(
    few_devices: None, photos: Path, tmp_path: Path
) -> None:
    def zero(name: str, layer: Linear) -> Linear:
        return Linear(layer.weight * 0, layer.bias * 0) if name == "map/layer" else layer

    path = artifact_of(map_linears(network_of_task(Task.MAP), zero), tmp_path)
    options = BenchOptions(threads=1, runs=5, timeout_seconds=60)
    (row,) = run_bench([path], [Target("onnx", "cpu")], options=options).rows
    assert row.status is Status.OK, row.message
