"""Which artefact is named, in which words, and that its command makes it again."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from tests.support.bench_rows import failed_row, make_row
from tests.support.models import random_images, random_network
from vitedge.bench.spread import paired_drop, wilson_interval
from vitedge.cli import main
from vitedge.errors import DataError
from vitedge.images.image_sets import ImageSet
from vitedge.images.samples import Sample
from vitedge.network.evaluate import forward
from vitedge.pick.choice import Budget, choose
from vitedge.pick.overlap import refuse_overlap
from vitedge.pick.words import how_sure, in_words
from vitedge.pipeline.keras_model import write_keras
from vitedge.report.quality import Accuracy, Drop, VsFloat
from vitedge.report.results import Row, Status
from vitedge.targets.precisions import Precision

IMAGES = 500


def row(
    name: str, median_ms: float, size_mb: float, lost: int, *, gained: int = 0, **changes: object
) -> Row:
    """A row whose artefact has ``lost`` of 430 right images wrong, and ``gained`` others right."""
    top1 = 100 * (430 - lost + gained) / IMAGES
    flipped = lost + gained
    return make_row(
        median_ms,
        artifact=name,
        size_mb=size_mb,
        accuracy=Accuracy(top1, 97.0, IMAGES, *wilson_interval(430 - lost + gained, IMAGES)),
        vs_float=VsFloat(
            agreement=100 * (1 - flipped / IMAGES),
            sqnr_db=20.0,
            n=IMAGES,
            flipped=flipped,
            drop=paired_drop(lost, gained, IMAGES),
        ),
        **changes,
    )


FLOAT32 = row("fp32", 14.0, 22.9, 0, precision=Precision.FP32)
HALF = row("fp16", 14.0, 11.6, 0)
INT8 = row("int8", 7.0, 6.9, 2)
STATIC = row("static", 5.0, 6.8, 20)
SIMILAR = row("similar", 7.2, 6.9, 1)
ROWS = (FLOAT32, HALF, INT8, STATIC)


@dataclass(frozen=True)
class Case:
    id: str
    budget: Budget
    best: str
    meets: bool = True
    rows: tuple[Row, ...] = ROWS


CASES = [
    Case("the fastest that is accurate enough", Budget(0.5), "int8"),
    Case("the fastest of all when accuracy is no matter", Budget(5.0), "static"),
    Case("no accuracy may be lost, and size matters", Budget(0.0, None, 12.0), "fp16"),
    Case("of those as fast the most accurate", Budget(0.5), "similar", rows=(*ROWS, SIMILAR)),
    Case("latency", Budget(5.0, 6.0), "static"),
    # int8 misses latency by a sixth; static loses eight times what is allowed.
    Case("nearest in latency", Budget(0.5, 6.0, 8.0), "int8", meets=False),
    Case("fewest limits missed", Budget(0.0, 1.0, 8.0), "int8", meets=False, rows=ROWS[:3]),
    Case(
        "rows that did not go well are no contenders",
        Budget(5.0),
        "int8",
        rows=(
            INT8,
            replace(STATIC, status=Status.DRIFT),
            replace(STATIC, status=Status.FALLBACK),
            replace(STATIC, emulated=True, latency_ms=None),
            failed_row(Status.CRASHED, "SIGSEGV"),
        ),
    ),
    Case(
        "slower than float32 is no fault if it is small enough",
        Budget(0.5, None, 8.0),
        "int8",
        rows=(FLOAT32, replace(INT8, status=Status.SLOWER)),
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_one_artefact_is_named(case: Case) -> None:
    choice = choose(case.rows, case.budget)
    assert choice.best is not None
    assert (choice.best.row.artifact, choice.meets_budget) == (case.best, case.meets)
    assert case.best in in_words(choice)


def test_the_front_is_what_nothing_else_beats_in_all_three() -> None:
    slow_and_large = row("bad", 20.0, 30.0, 3)
    contenders = choose((*ROWS, slow_and_large), Budget(0.5)).contenders
    # fp16 is as fast and as accurate as float32, and smaller.
    front = [each.row.artifact for each in contenders if each.on_front]
    assert front == ["static", "int8", "fp16"]


def test_two_equal_artefacts_are_both_on_the_front() -> None:
    contenders = choose((INT8, replace(INT8, artifact="copy")), Budget(0.5)).contenders
    assert [each.on_front for each in contenders] == [True, True]


def test_when_nothing_ran_nothing_is_named() -> None:
    choice = choose((failed_row(Status.CRASHED, "SIGSEGV"),), Budget(0.5))
    assert choice.best is None
    assert not choice.meets_budget
    assert "none to name" in in_words(choice)


def test_without_labels_every_flip_counts_as_lost() -> None:
    assert INT8.vs_float is not None
    flips = replace(INT8.vs_float, drop=None, flipped=10)
    unlabelled = replace(INT8, accuracy=None, vs_float=flips)
    choice = choose((unlabelled,), Budget(0.5))
    assert not choice.meets_budget
    assert choice.contenders[0].drop.points == pytest.approx(2.0)
    assert "10 of 500 images named otherwise" in in_words(choice)
    assert choose((unlabelled,), Budget(2.0)).meets_budget


def test_the_words_say_why_and_what_was_faster() -> None:
    words = in_words(choose(ROWS, Budget(0.5)))
    assert words.startswith("Ship int8 on tflite-cpu: ")
    assert "6.90 MB, top-1 85.6 % of 500 images, 0.40 points less than float32" in words
    assert "the fastest of 3 that meet the budget; next, " in words
    assert "Faster but not within it: static on tflite-cpu: loses 4.00 points, 0.5 allowed" in words
    nearest = in_words(choose(ROWS, Budget(0.5, 6.0, 8.0)))
    assert nearest.startswith("None of 4 meets the budget. The nearest is int8 on tflite-cpu: ")
    assert "ms, 6 allowed. In all: 7." in nearest
    unstable = in_words(choose((replace(INT8, unstable="other programs"),), Budget(0.5)))
    assert "unstable (other programs)" in unstable


def test_how_sure_it_is_depends_on_the_images() -> None:
    assert how_sure(Drop(0.1, -0.2, 0.4, 9000), 0.5).endswith("no more than 0.4 points.")
    # The interval reaches 0.9 beyond the drop and may reach 0.3: nine times the images.
    few = how_sure(Drop(0.2, -0.7, 1.1, 500), 0.5)
    assert few == "500 images cannot rule out a loss of up to 1.1 points; about 4,500 would."
    assert how_sure(Drop(0.5, -0.4, 1.4, 500), 0.5).endswith("of up to 1.4 points.")


def test_images_in_both_sets_are_refused_under_any_name(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), np.uint8)
    for number, image in enumerate(pixels):
        Image.fromarray(image).save(tmp_path / f"{number}.png")
    (tmp_path / "other.png").write_bytes((tmp_path / "3.png").read_bytes())

    def images(*names: str) -> ImageSet:
        return ImageSet("set", [Sample(name, str(tmp_path / name), None) for name in names])

    refuse_overlap(images("0.png", "1.png"), images("2.png", "3.png"))
    with pytest.raises(DataError, match=r"1 of 2 images of 'set' .*\('3.png'\): .* too high"):
        refuse_overlap(images("0.png", "other.png"), images("2.png", "3.png"))
    arrays = ImageSet("arrays", [Sample("a", pixels[0], None), Sample("b", pixels[1], None)])
    with pytest.raises(DataError, match="2 of 2 images"):
        refuse_overlap(arrays, arrays)
    with pytest.raises(DataError, match="cannot read"):
        refuse_overlap(images("nowhere.png"), images("0.png"))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model, images that it names right, and others to calibrate on."""
    network = random_network(3)
    write_keras(network, tmp_path / "model.keras")
    pixels = random_images(network, 48)
    labels = forward(network, pixels).argmax(axis=1)
    np.savez(tmp_path / "data.npz", images=pixels[:32], labels=labels[:32])
    np.savez(tmp_path / "calibration.npz", images=pixels[32:])
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments, catch_exceptions=False)


@pytest.mark.thorough
def test_pick_names_an_artefact_and_its_command_makes_the_same_bytes(folder: Path) -> None:
    result = run(
        *("pick", "model.keras", "--data", "data.npz", "--calibration", "calibration.npz"),
        *("--target", "onnx-cpu", "--threads", "1", "--max-drop", "100", "--json", "report.json"),
    )
    assert result.exit_code == 0, result.output
    assert "Ship model." in " ".join(result.output.split())
    report = json.loads((folder / "report.json").read_text())
    picked = report["pick"]
    assert picked["meets_budget"]
    assert {each["precision"] for each in report["rows"]} >= {"fp32", "fp16", "int8"}
    assert all(each["ratio"] for each in report["rows"] if each["precision"] != "fp32")
    artifact = folder / picked["artifact"]
    before = artifact.read_bytes()
    artifact.unlink()
    again = run(*shlex.split(picked["command"])[1:])
    assert again.exit_code == 0, again.output
    assert artifact.read_bytes() == before

    refused = run("pick", "model.keras", "--data", "data.npz", "--target", "onnx-cpu")
    assert refused.exit_code == 2
    assert "--force" in refused.output


@pytest.mark.thorough
def test_pick_exits_3_and_names_the_nearest_when_nothing_is_small_enough(folder: Path) -> None:
    result = run(
        *("pick", "model.keras", "--data", "data.npz", "--target", "onnx-cpu", "--threads", "1"),
        *("--max-drop", "100", "--max-size", "0.000001"),
    )
    assert result.exit_code == 3
    words = " ".join(result.output.split())
    assert "meets the budget. The nearest is model." in words
    assert "vitedge convert model.keras" in words
    assert "fitted to synthetic ones" in result.stderr


def test_pick_refuses_to_measure_on_what_it_calibrates_on(folder: Path) -> None:
    result = run(
        *("pick", "model.keras", "--data", "data.npz", "--calibration", "data.npz"),
        *("--target", "onnx-cpu"),
    )
    assert result.exit_code == 1
    assert "32 of 32 images of 'data.npz' are also in the calibration set" in result.output
    assert not (folder / "artefacts").exists()


@pytest.mark.slow
def test_pick_takes_what_is_no_vision_transformer(folder: Path) -> None:
    import keras

    keras.utils.set_random_seed(0)
    layers = [
        keras.layers.Input((16, 16, 3)),
        keras.layers.Rescaling(1 / 255),
        keras.layers.Conv2D(8, 3, activation="relu"),
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dense(10),
    ]
    keras.Sequential(layers).save("network.keras")
    result = run(
        *("pick", "network.keras", "--data", "data.npz", "--calibration", "calibration.npz"),
        *("--target", "tflite-cpu", "--threads", "1", "--max-drop", "100"),
    )
    assert result.exit_code == 0, result.output
    words = " ".join(result.output.split())
    assert "Ship network." in words
    # What the format's own tools cannot make is said, and the rest is measured all the same.
    assert (
        "network.int4.tflite: not made: 'network.keras' was not read as a vision transformer"
        in words
    )
