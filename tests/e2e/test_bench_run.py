from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from tests.support.bench_artifacts import save_onnx, save_openvino
from tests.support.bench_fakes import SIZE, linear_logits
from tests.support.bench_fixtures import fake_runtime, few_devices
from vitedge.bench.reference import ArtifactReference, ModelReference
from vitedge.bench.run import BenchOptions, Step, run_bench
from vitedge.errors import DataError, ModelError, UsageError
from vitedge.images.image_sets import ImageSet
from vitedge.images.preprocess import Preprocessing
from vitedge.images.samples import Sample
from vitedge.report.results import Row, Status
from vitedge.targets.precisions import Precision
from vitedge.targets.target import Target

__all__ = ["fake_runtime", "few_devices"]

COLOURS = ("red", "green", "blue")
FEW = BenchOptions(threads=1, runs=5, timeout_seconds=60)


def colour_images(n: int = 12, label_shift: int = 0) -> ImageSet:
    """Noise in which one colour is brighter; its label is that colour's."""
    rng = np.random.default_rng(0)
    samples = []
    for index in range(n):
        pixels = rng.integers(0, 100, (SIZE, SIZE, 3), np.uint8)
        pixels[:, :, index % 3] += 120
        samples.append(Sample(f"image {index}", pixels, (index + label_shift) % 3))
    return ImageSet("colours", samples, COLOURS)


def colour_reference() -> ModelReference:
    return ModelReference("the truth", Preprocessing(size=(SIZE, SIZE)), linear_logits)


@dataclass(frozen=True)
class Trouble:
    device: str
    status: Status
    words: str
    timeout_seconds: float = 60


TROUBLES = [
    Trouble("abort", Status.CRASHED, "SIGABRT"),
    Trouble("segfault", Status.CRASHED, "SIGSEGV"),
    Trouble("exit", Status.CRASHED, "exit code 3; it said: the vendor's licence has expired"),
    Trouble("hang", Status.TIMEOUT, "no sign of life for 8 s", timeout_seconds=8),
    Trouble("refusing", Status.ERROR, "the fake refuses '"),
    Trouble("missing", Status.UNAVAILABLE, "no fake driver. Run: pip install fake"),
    Trouble("fragile", Status.UNAVAILABLE, "SIGABRT"),
    Trouble("nan", Status.DRIFT, "not finite"),
    Trouble("zeros", Status.DRIFT, "all logits are zero"),
    Trouble("constant", Status.DRIFT, "do not depend on the image"),
    Trouble("leaving", Status.FALLBACK, "2 of 9 nodes ran elsewhere than on leaving"),
]


@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda trouble: trouble.device)
def test_a_device_in_trouble_is_a_row_that_says_so_beside_a_good_one(
    trouble: Trouble, fake_runtime: object, tmp_path: Path
) -> None:
    artifact = save_onnx(tmp_path / "model.onnx")
    options = BenchOptions(threads=1, runs=3, timeout_seconds=trouble.timeout_seconds)
    targets = [Target("fake", trouble.device), Target("fake", "good")]
    bad, good = run_bench([artifact], targets, options=options).rows
    assert (bad.status, good.status) == (trouble.status, Status.OK)
    assert trouble.words in bad.message
    assert "\n" not in bad.message
    assert good.latency_ms is not None
    assert good.latency_ms.n == 3


def test_what_a_vendor_library_prints_on_stdout_is_not_taken_for_an_answer(
    fake_runtime: object, tmp_path: Path
) -> None:
    artifact = save_onnx(tmp_path / "model.onnx")
    (row,) = run_bench([artifact], [Target("fake", "chatty")], options=FEW).rows
    assert row.status is Status.OK


def test_an_emulated_target_has_accuracy_but_no_times(fake_runtime: object, tmp_path: Path) -> None:
    artifact = save_onnx(tmp_path / "model.onnx")
    target = Target("fake", "emulated")
    (row,) = run_bench([artifact], [target], data=colour_images(), options=FEW).rows
    assert row.emulated
    assert row.was_loaded
    assert row.accuracy is not None
    assert row.accuracy.top1 == 100
    times = (row.load_ms, row.first_run_ms, row.latency_ms, row.preprocess_ms, row.postprocess_ms)
    assert times == (None,) * 5


def test_without_named_targets_only_those_that_are_ready_run(
    few_devices: object, tmp_path: Path
) -> None:
    artifact = save_onnx(tmp_path / "model.onnx")
    report = run_bench([artifact], options=FEW)
    rows = report.rows
    devices = {str(row.target) for row in rows}
    assert {"onnx-cpu", "few-good"} <= devices
    assert not devices & {"few-missing", "few-emulated", "few-fragile", "tflite-cpu"}
    left_out = {each.target: each for each in report.left_out}
    assert {"few-missing", "few-emulated", "onnx-cuda"} <= set(left_out)
    assert not set(left_out) & devices
    assert left_out["few-emulated"].readiness == "emulated"
    assert all(each.detail for each in report.left_out)


def test_what_was_asked_for_by_name_leaves_no_other_out(
    few_devices: object, tmp_path: Path
) -> None:
    artifact = save_onnx(tmp_path / "model.onnx")
    assert run_bench([artifact], [Target("few", "good")], options=FEW).left_out == ()


def test_accuracy_and_agreement_are_those_of_the_logits(
    fake_runtime: object, tmp_path: Path
) -> None:
    artifact = save_onnx(tmp_path / "model.onnx")
    targets = [Target("fake", "good"), Target("fake", "wrong")]
    report = run_bench(
        [artifact], targets, data=colour_images(12), reference=colour_reference(), options=FEW
    )
    good, wrong = report.rows
    assert good.accuracy is not None
    assert (good.accuracy.top1, good.accuracy.top5, good.accuracy.n) == (100, 100, 12)
    assert good.vs_float is not None
    assert (good.vs_float.agreement, good.vs_float.sqnr_db, good.vs_float.n) == (100, None, 12)
    # "wrong" swaps red and blue: green images, one in three, stay right.
    assert wrong.accuracy is not None
    assert wrong.accuracy.top1 == pytest.approx(100 / 3)
    assert wrong.vs_float is not None
    assert (wrong.vs_float.flipped, wrong.vs_float.newly_wrong) == (8, 8)
    assert wrong.vs_float.flips[0].artifact in ("red", "blue")
    assert wrong.status is Status.DRIFT
    assert set(report.thumbnails) == {f"image {index}" for index in range(12) if index % 3 != 1}
    assert report.thumbnails["image 0"].startswith("data:image/jpeg;base64,")
    assert report.reference == "the truth"


def test_a_batch_that_the_images_do_not_fill_is_filled_and_not_counted(
    fake_runtime: object, tmp_path: Path
) -> None:
    artifact = save_onnx(tmp_path / "model.onnx")
    data, target = colour_images(11), Target("fake", "pairs")
    (row,) = run_bench(
        [artifact], [target], data=data, reference=colour_reference(), options=FEW
    ).rows
    assert row.batch == 2
    assert row.accuracy is not None
    assert (row.accuracy.n, row.accuracy.top1) == (11, 100)
    assert row.vs_float is not None
    assert row.vs_float.sqnr_db is None


def test_an_unreadable_image_is_listed_and_counted_by_no_row(
    fake_runtime: object, tmp_path: Path
) -> None:
    torn = tmp_path / "torn.jpg"
    torn.write_bytes(b"not a JPEG")
    good = colour_images(4)
    data = ImageSet("mixed", [*good.samples, Sample("torn.jpg", str(torn), 0)], COLOURS)
    artifact = save_onnx(tmp_path / "model.onnx")
    report = run_bench(
        [artifact],
        [Target("fake", "good")],
        data=data,
        reference=colour_reference(),
        options=FEW,
    )
    (row,) = report.rows
    assert row.accuracy is not None
    assert (row.accuracy.n, row.accuracy.top1) == (4, 100)
    assert row.vs_float is not None
    assert (row.vs_float.n, row.vs_float.agreement) == (4, 100)
    assert report.data is not None
    assert report.data.n == 5
    (listed,) = report.data.unreadable
    assert listed.startswith("torn.jpg: ")


def test_slower_than_float32_of_the_same_model_is_said_and_of_another_model_is_not(
    fake_runtime: object, tmp_path: Path
) -> None:
    # The fake ignores the file, so one device cannot be both; two targets of one name can.
    from vitedge.bench.verdict import judge

    base = save_onnx(tmp_path / "model.fp32.onnx")
    int8 = save_onnx(tmp_path / "model.int8.onnx", Precision.INT8)
    other = save_onnx(tmp_path / "other.int8.onnx", Precision.INT8, sha256="1" * 64)
    options = BenchOptions(threads=1, runs=20, timeout_seconds=60)
    fast, slow = (
        run_bench([base, int8, other], [Target("fake", device)], options=options).rows
        for device in ("good", "slow")
    )
    mixed = (fast[0], *(replace(row, target=fast[0].target) for row in slow[1:]))
    _, same_model, other_model = judge(mixed)
    assert same_model.status is Status.SLOWER
    assert "model.fp32.onnx" in same_model.message
    assert other_model.status is Status.OK


@pytest.mark.parametrize("save", [save_onnx, save_openvino], ids=["onnx", "openvino"])
def test_real_runtimes_give_a_complete_row(save, tmp_path: Path) -> None:
    suffix = ".onnx" if save is save_onnx else ".xml"
    artifact = save(tmp_path / f"model{suffix}")
    runtime = "onnx" if save is save_onnx else "openvino"
    options = BenchOptions(threads=1, runs=100)
    (row,) = run_bench(
        [artifact],
        [Target(runtime, "cpu")],
        data=colour_images(),
        reference=colour_reference(),
        options=options,
    ).rows
    assert row.status is Status.OK, row.message
    assert row.latency_ms is not None
    assert row.latency_ms.p90 is not None
    assert row.latency_ms.p99 is None  # needs a thousand runs
    assert len(row.samples_ms) == 100
    assert row.placement is not None
    assert row.placement.on_device == row.placement.total
    assert row.vs_float is not None
    # Engines sum 16 pixels in another order than NumPy: float32 rounding, about 130 dB.
    assert row.vs_float.sqnr_db is None or row.vs_float.sqnr_db > 100
    assert row.peak_rss_mb is not None
    assert 10 < row.peak_rss_mb < 1000
    assert row.preprocess_ms is not None
    assert row.load_ms is not None
    assert row.load_ms > 0


def test_memory_of_the_process_that_benches_is_not_in_the_figure(tmp_path: Path) -> None:
    artifact = save_onnx(tmp_path / "model.onnx")
    before = run_bench([artifact], [Target("onnx", "cpu")], options=FEW).rows[0].peak_rss_mb
    ballast = np.ones(60_000_000)  # 480 MB, touched
    after = run_bench([artifact], [Target("onnx", "cpu")], options=FEW).rows[0].peak_rss_mb
    assert ballast[-1] == 1
    assert before is not None
    assert after is not None
    assert after - before < 100  # a worker alone varies by a few MB


def test_an_artifact_can_be_the_reference(tmp_path: Path) -> None:
    base = save_onnx(tmp_path / "model.fp32.onnx")
    off = save_onnx(tmp_path / "model.int8.onnx", Precision.INT8, scale=1.01)
    report = run_bench(
        [off],
        [Target("onnx", "cpu")],
        data=colour_images(),
        reference=ArtifactReference(base, Target("onnx", "cpu")),
        options=FEW,
    )
    (row,) = report.rows
    assert row.vs_float is not None
    # An error of one percent of the signal is 40 dB; float32 rounding moves it by less than 0.1.
    assert row.vs_float.sqnr_db == pytest.approx(40.0, abs=0.1)
    assert report.reference == "model.fp32.onnx on onnx-cpu"


def test_a_truncated_artifact_is_an_error_row(tmp_path: Path) -> None:
    whole, torn = save_onnx(tmp_path / "whole.onnx"), tmp_path / "torn.onnx"
    torn.write_bytes(whole.read_bytes()[:-20])
    rows = run_bench([torn, whole], [Target("onnx", "cpu")], options=FEW).rows
    assert [row.status for row in rows] == [Status.ERROR, Status.OK]
    assert "torn.onnx" in rows[0].message


def test_a_file_without_metadata_runs_and_borrows_the_references_preprocessing(
    tmp_path: Path,
) -> None:
    import onnx

    path = save_onnx(tmp_path / "model.onnx")
    model = onnx.load(str(path))
    del model.metadata_props[:]
    onnx.save(model, str(path))
    data, targets = colour_images(), [Target("onnx", "cpu")]
    (alone,) = run_bench([path], targets, data=data, options=FEW).rows
    assert alone.accuracy is None
    assert "does not state its preprocessing" in alone.message
    (row,) = run_bench([path], targets, data=data, reference=colour_reference(), options=FEW).rows
    assert row.precision is None
    assert row.accuracy is not None


def run_on(path: Path, reference: ModelReference) -> Row:
    targets = [Target("onnx", "cpu")]
    (row,) = run_bench([path], targets, data=colour_images(), reference=reference, options=FEW).rows
    return row


def test_a_reference_that_prepares_images_otherwise_is_named(tmp_path: Path) -> None:
    path = save_onnx(tmp_path / "model.onnx")
    stretching = colour_reference()
    cropping = replace(stretching, preprocessing=replace(stretching.preprocessing, resize=8))
    off = replace(stretching, logits=lambda pixels: -stretching.logits(pixels))
    assert run_on(path, off).status is Status.DRIFT
    assert run_on(path, replace(off, preprocessing=cropping.preprocessing)).status is Status.OK
    for reference, expected in ((stretching, ""), (cropping, "shorter side to 8 (bicubic)")):
        row = run_on(path, reference)
        assert expected in row.message
        assert bool(expected) == ("prepares images otherwise" in row.message)
        assert row.vs_float is not None
        assert row.vs_float.same_pixels == (not expected)


@dataclass(frozen=True)
class BadRequest:
    id: str
    error: type[Exception]
    words: str
    artifact: str = "model.onnx"
    target: str = "onnx-cpu"
    label_of_first: int = 0


BAD_REQUESTS = [
    BadRequest("missing file", ModelError, "no artefact", artifact="nowhere.onnx"),
    BadRequest("unknown extension", UsageError, "not an artefact", artifact="model.pt"),
    BadRequest("unknown target", UsageError, "unknown target", target="onnx-abacus"),
    BadRequest("target of another format", UsageError, "reads .onnx", target="tflite-cpu"),
    BadRequest("label beyond the classes", DataError, "has 3 classes", label_of_first=7),
]


@pytest.mark.parametrize("case", BAD_REQUESTS, ids=lambda case: case.id)
def test_a_request_that_makes_no_sense_is_refused(case: BadRequest, tmp_path: Path) -> None:
    save_onnx(tmp_path / "model.onnx")
    first, *others = colour_images().samples
    data = ImageSet("data", [Sample(first.name, first.image, case.label_of_first), *others])
    with pytest.raises(case.error, match=case.words):
        run_bench([tmp_path / case.artifact], [Target.parse(case.target)], data=data, options=FEW)


def test_a_reference_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--data"):
        run_bench([save_onnx(tmp_path / "model.onnx")], reference=colour_reference())


def test_the_json_has_the_promised_keys_and_says_what_is_going_on(tmp_path: Path) -> None:
    steps: list[Step] = []
    artifact = save_onnx(tmp_path / "model.onnx")
    report = run_bench(
        [artifact],
        [Target("onnx", "cpu")],
        data=colour_images(),
        reference=colour_reference(),
        options=FEW,
        on_step=steps.append,
    )
    values = json.loads(report.to_json())
    assert {"environment", "rows"} <= set(values)
    (row,) = values["rows"]
    assert {
        *("artifact", "target", "format", "precision", "status", "size_mb", "load_ms"),
        *("first_run_ms", "latency_ms", "peak_rss_mb", "accuracy", "vs_float", "placement"),
        "emulated",
    } <= set(row)
    assert set(row["latency_ms"]) == {"min", "p50", "p90", "p99", "mean", "n"}
    assert {"top1", "top5", "n"} <= set(row["accuracy"])
    assert {"agreement", "sqnr_db", "n"} <= set(row["vs_float"])
    assert set(row["placement"]) == {"on_device", "total"}
    assert row["latency_ms"]["p50"] is None  # five runs allow no percentile
    assert row["target"] == "onnx-cpu"
    assert values["environment"]["versions"]["onnxruntime"]
    doing = [step.doing for step in steps]
    assert any("measuring" in words for words in doing)
    assert steps[0].doing.startswith("reference the truth")
