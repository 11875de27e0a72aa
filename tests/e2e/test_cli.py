"""The command line as a person uses it, right and wrong."""

from __future__ import annotations

import importlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from tests.support.bench_artifacts import save_onnx
from tests.support.bench_fixtures import fake_runtime
from tests.support.models import random_network
from vitedge.bench import builtin
from vitedge.cli import main
from vitedge.images.image_sets import digits
from vitedge.pipeline.keras_model import write_keras

__all__ = ["fake_runtime"]

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command in a folder of its own."""
    monkeypatch.chdir(tmp_path)

    def invoke(*arguments: str) -> Result:
        return CliRunner().invoke(main, arguments, catch_exceptions=False)

    return invoke


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_keras(random_network(8), folder / "model.keras")
    return folder


@pytest.fixture
def model(models: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(models / "model.keras", tmp_path / "model.keras"))


@pytest.fixture
def digit(tmp_path: Path) -> Path:
    """A scan of a digit as an image file."""
    path = tmp_path / "digit.png"
    with np.load(Path(builtin.__file__).parent / "digits.npz") as archive:
        Image.fromarray(archive["images"][0].squeeze()).save(path)
    return path


def artifact(suffix: str) -> str:
    return str(next(path for path in builtin.artifacts() if path.suffix == suffix))


# --- the words of the user story


def test_convert_int8_model_keras_works_literally_so(run: Run, model: Path) -> None:
    result = run("convert", "--int8", "model.keras")
    assert result.exit_code == 0, result.output
    written = {each.name for each in Path().iterdir()} - {"model.keras"}
    assert written == {
        "model.int8.tflite",
        "model.int8.onnx",
        "model.int8.xml",
        "model.int8.bin",
    }
    assert "warning: no --calibration images" in result.stderr
    assert "warning" not in result.stdout


def test_flags_and_formats_combine(run: Run, model: Path) -> None:
    result = run("convert", "--fp32", "--fp16", "--format", "tflite", "-o", "out", "model.keras")
    assert result.exit_code == 0, result.output
    assert {each.name for each in Path("out").iterdir()} == {
        "model.fp32.tflite",
        "model.fp16.tflite",
    }


def test_convert_without_a_precision_makes_int8_in_all_formats_and_says_so(
    run: Run, model: Path
) -> None:
    result = run("convert", "model.keras")
    assert result.exit_code == 0, result.output
    assert {each.name for each in Path().glob("model.int8.*")} == {
        *("model.int8.tflite", "model.int8.onnx", "model.int8.xml", "model.int8.bin"),
    }
    assert "no precision was named, so int8 was written" in result.stderr


def test_bench_of_the_gpu_always_answers(run: Run) -> None:
    result = run("bench", "--target", "tflite-gpu")
    rows = [line for line in result.stdout.splitlines() if "tflite-gpu" in line]
    assert rows
    if "UNAVAILABLE" in result.stdout:
        assert result.exit_code == 1
        assert "nothing could be run" in result.stderr
    else:
        assert result.exit_code == 0, result.output


def test_a_bench_on_an_emulated_device_alone_succeeds_without_times(
    run: Run, fake_runtime: object, tmp_path: Path
) -> None:
    save_onnx(tmp_path / "model.onnx")
    result = run("bench", "--target", "fake-emulated", "--json", "-", "model.onnx")
    assert result.exit_code == 0, result.output
    (row,) = json.loads(result.stdout)["rows"]
    assert (row["status"], row["emulated"], row["latency_ms"]) == ("OK", True, None)


def test_bench_without_artefacts_takes_the_built_in_digits(run: Run) -> None:
    result = run("bench", "--runs", "5", "--json", "-")
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)["rows"]
    assert {row["format"] for row in rows} == {"tflite", "onnx", "openvino"}
    for row in rows:
        assert row["accuracy"]["n"] == 359
        # The demo promises 97 %; each artefact must keep it.
        assert row["accuracy"]["top1"] >= 97


def test_bench_writes_the_keys_that_scripts_rely_on(run: Run, model: Path) -> None:
    run("convert", "--fp32", "--format", "onnx", "model.keras")
    np.savez("images.npz", images=np.zeros((3, 32, 32, 3), np.uint8) + 7, labels=np.arange(3))
    result = run(
        *("bench", "--target", "onnx-cpu", "--data", "images.npz", "--reference", "model.keras"),
        *("--runs", "5", "--threads", "1", "--json", "report.json", "--csv", "rows.csv"),
    )
    assert result.exit_code == 0, result.output
    report = json.loads(Path("report.json").read_text())
    (row,) = report["rows"]
    assert report["environment"]
    assert {
        *("artifact", "target", "format", "precision", "status", "size_mb", "load_ms"),
        *("first_run_ms", "latency_ms", "peak_rss_mb", "accuracy", "vs_float", "placement"),
        "emulated",
    } <= set(row)
    assert set(row["latency_ms"]) == {"min", "p50", "p90", "p99", "mean", "n"}
    assert row["latency_ms"]["p90"] is None  # five runs allow no percentile
    assert {"top1", "top5", "n"} <= set(row["accuracy"])
    assert row["vs_float"]["agreement"] == 100
    assert row["placement"]["on_device"] == row["placement"]["total"] > 0
    assert len(Path("rows.csv").read_text().splitlines()) == 2


@pytest.mark.parametrize("suffix", [".tflite", ".onnx", ".xml"])
def test_predict_names_a_digit(run: Run, digit: Path, suffix: str) -> None:
    result = run("predict", artifact(suffix), str(digit), "--top", "3", "--json")
    assert result.exit_code == 0, result.output
    (answer,) = json.loads(result.stdout)
    assert answer["image"] == str(digit)
    assert len(answer["classes"]) == 3
    label, probability = answer["classes"][0]
    assert label in "0123456789"
    assert 0.1 < probability <= 1


def test_predict_goes_on_after_an_image_that_cannot_be_read(run: Run, digit: Path) -> None:
    Path("text.png").write_text("no image")
    result = run("predict", artifact(".tflite"), "text.png", str(digit), "--json")
    assert result.exit_code == 1
    assert [each["image"] for each in json.loads(result.stdout)] == [str(digit)]
    assert len(result.stderr.splitlines()) == 1
    assert "text.png" in result.stderr


@pytest.mark.parametrize("suffix", [".tflite", ".onnx", ".xml"])
def test_inspect_shows_metadata_and_operators_of_an_artefact(run: Run, suffix: str) -> None:
    text = run("inspect", artifact(suffix)).stdout
    assert "int8" in text
    assert "digits.keras" in text
    found = json.loads(run("inspect", "--json", artifact(suffix)).stdout)
    assert found["metadata"]["precision"] == "int8"
    assert found["macs"] > 1e6
    assert sum(operator["count"] for operator in found["operators"]) > 50


def test_inspect_shows_the_config_of_a_model(run: Run, model: Path) -> None:
    found = json.loads(run("inspect", "--json", "model.keras").stdout)
    assert found["config"]["depth"] == 2
    assert found["parameters"] == random_network(8).parameters
    assert "by name: vitedge" in run("inspect", "model.keras").stdout


def test_targets_lists_every_target_with_a_remedy_where_one_is_missing(run: Run) -> None:
    found = json.loads(run("targets", "--json").stdout)
    states = {each["target"]: each for each in found}
    assert states["tflite-cpu"]["readiness"] == "ready"
    for each in found:
        assert each["detail"]
        assert each["readiness"] != "missing" or each["remedy"]
    said = run("targets").stdout
    assert "tflite-gpu" in said
    assert "Android over adb: `vitedge bench --host adb:SERIAL`" in said


def test_import_writes_a_model_and_says_how_it_was_read(run: Run, model: Path) -> None:
    Path("labels.txt").write_text("\n".join("abcdefghij"))
    result = run("import", "model.keras", "-o", "named.keras", "--labels", "labels.txt")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("by name: vitedge")
    assert json.loads(run("inspect", "--json", "named.keras").stdout)["labels"] == [*"abcdefghij"]


def test_named_classes_need_a_model_that_has_names(run: Run, tmp_path: Path) -> None:
    write_keras(random_network(8, classes=2, labels=False), tmp_path / "nameless.keras")
    run("convert", "--fp32", "--format", "tflite", "nameless.keras")
    for name in ("cat", "dog"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        Image.new("RGB", (40, 40)).save(tmp_path / "pets" / name / "a.png")
    result = run("bench", "nameless.fp32.tflite", "--data", "pets")
    assert result.exit_code == 1
    assert "'cat'" in result.stderr
    assert "--labels" in result.stderr


def test_a_row_that_failed_fails_the_command(run: Run) -> None:
    whole = Path(artifact(".tflite")).read_bytes()
    Path("cut.tflite").write_bytes(whole[: len(whole) // 2])
    result = run("bench", "cut.tflite", artifact(".onnx"), "--runs", "5")
    assert result.exit_code == 1
    assert "1 of 2 rows failed" in result.stderr
    assert "OK" in result.stdout


SMALL_DIGITS = (
    *("train", "--data", "digits", "-o", "digits.keras", "--grey", "--image-size", "16"),
    *("--patch-size", "8", "--dim", "16", "--depth", "1", "--heads", "2", "--batch-size", "256"),
)


def test_train_writes_a_model_of_the_datas_classes_and_keeps_the_run(run: Run) -> None:
    result = run(*SMALL_DIGITS, "--epochs", "1")
    assert result.exit_code == 0, result.output
    assert "of 359 held-out images right (95 % interval: " in result.stdout
    assert "read 1,797 images of 'digits' in 10 classes (the smallest, " in result.stderr
    assert "batches of 256 (as given), 6 steps an epoch, 1 epoch (as given)" in result.stderr
    found = json.loads(run("inspect", "--json", "digits.keras").stdout)
    assert found["labels"] == [*"0123456789"]
    assert found["config"]["dim"] == 16
    again = run(*SMALL_DIGITS, "--epochs", "1")
    assert again.exit_code == 2
    assert "--force" in again.stderr
    finished = run(*SMALL_DIGITS, "--epochs", "1", "--resume")
    assert finished.exit_code == 0, finished.output
    assert finished.stdout == result.stdout


@pytest.mark.slow
def test_train_repairs_a_quantized_model_with_unlabelled_images(run: Run) -> None:
    assert run(*SMALL_DIGITS, "--epochs", "2").exit_code == 0
    training, _ = digits()
    np.savez("bare.npz", images=np.stack([sample.image for sample in training.samples[:64]]))
    repair = ("train", "--data", "bare.npz", "--init", "digits.keras", "--epochs", "2")
    result = run(*repair, "--quantize-aware", "int4", "-o", "repaired.keras")
    assert result.exit_code == 0, result.output
    made = run("convert", "--int4", "--format", "tflite", "repaired.keras")
    assert made.exit_code == 0, made.output
    found = json.loads(run("inspect", "--json", "repaired.int4.tflite").stdout)
    assert found["labels"] == [*"0123456789"]


# --- wrong input


@dataclass(frozen=True)
class Wrong:
    id: str
    arguments: tuple[str, ...]
    exit_code: int
    words: str


COPY = ("model.keras", "-o", "copy.keras")
JUDGED = ("--data", "d.npz", "--reference")

WRONG = [
    Wrong("absent model", ("convert", "--int8", "absent.keras"), 1, "absent.keras"),
    Wrong("text as a model", ("convert", "--int8", "notes.txt"), 1, "not a model"),
    Wrong("garbage as .keras", ("convert", "--fp32", "garbage.keras"), 1, "garbage.keras"),
    Wrong(
        "empty calibration folder",
        ("convert", "--int8", "--calibration", "empty", "model.keras"),
        1,
        "empty",
    ),
    Wrong(
        "calibration folder without images",
        ("convert", "--int8", "--calibration", "texts", "model.keras"),
        1,
        "texts",
    ),
    Wrong(
        "calibration on broken images",
        ("convert", "--int8", "--calibration", "broken", "model.keras"),
        1,
        "broken.png",
    ),
    Wrong(
        "a budget for floats",
        ("convert", "--fp16", "--max-drop", "1", "--data", "d.npz", "model.keras"),
        2,
        "--max-drop lifts layers out of integers, of which fp16 has none",
    ),
    Wrong(
        "a budget on what was calibrated on",
        (
            *("convert", "--int8", "--calibration", "d.npz"),
            *("--max-drop", "1", "--data", "d.npz", "model.keras"),
        ),
        1,
        "also in the calibration set",
    ),
    Wrong("mean of bytes", ("import", *COPY, "--mean", "123,117,104"), 2, "divide by 255"),
    Wrong(
        "unknown target",
        ("convert", "--for", "nonsense", "model.keras"),
        2,
        "`vitedge targets` lists them",
    ),
    Wrong(
        "unknown rewrite",
        ("convert", "--fp32", "--without", "magic", "model.keras"),
        2,
        "magic",
    ),
    Wrong("existing output", ("import", "model.keras", "-o", "model.keras"), 2, "--force"),
    Wrong(
        "labels of another count",
        ("import", "model.keras", "-o", "n.keras", "--labels", "two.txt"),
        1,
        "2 labels",
    ),
    Wrong(
        "labels file absent",
        ("import", "model.keras", "-o", "n.keras", "--labels", "no.txt"),
        2,
        "no.txt",
    ),
    Wrong("output is no .keras", ("import", "model.keras", "-o", "model.h5"), 2, ".keras"),
    Wrong(
        "mean is words", ("import", "model.keras", "-o", "n.keras", "--mean", "a,b"), 2, "--mean"
    ),
    Wrong("absent artefact", ("bench", "absent.tflite"), 1, "absent.tflite"),
    Wrong("unknown extension", ("bench", "notes.txt"), 2, ".tflite, .onnx, .xml"),
    Wrong("unknown target", ("bench", "--target", "tpu-cpu"), 2, "tpu-cpu"),
    Wrong("target without a device", ("bench", "--target", "tflite"), 2, "<runtime>-<device>"),
    Wrong("reference without images", ("bench", "--reference", "model.keras"), 2, "--data"),
    Wrong("folder without artefacts", ("bench", "empty"), 1, "empty"),
    Wrong("predict on garbage", ("predict", "garbage.onnx", "digit.png"), 1, "garbage.onnx"),
    Wrong("predict on a folder", ("predict", "DIGITS", "broken"), 2, "name its images, such as"),
    Wrong("predict with a model", ("predict", "model.keras", "digit.png"), 2, "convert --int8"),
    Wrong("predict with a folder", ("predict", "broken", "digit.png"), 2, "is a folder, not an"),
    Wrong("predict on a broken image", ("predict", "DIGITS", "broken/broken.png"), 1, "broken.png"),
    Wrong(
        "predict on a foreign target",
        ("predict", "DIGITS", "digit.png", "--target", "onnx-cpu"),
        2,
        "onnx-cpu",
    ),
    Wrong("held out twice", ("train", "--data", "digits", "--held-out", "2"), 2, "--held-out"),
    Wrong("no epsilon", ("import", *COPY, "--norm-eps", "-1"), 2, "--norm-eps"),
    Wrong("std is no number", ("import", *COPY, "--std", "nan,1,1"), 1, "std"),
    Wrong("no module", ("import", *COPY, "--custom-objects", "x"), 2, "module:name"),
    Wrong("int8 as reference", ("bench", "DIGITS", *JUDGED, "DIGITS"), 2, "float32"),
    Wrong(
        "no cluster",
        ("train", "--data", "digits", "-o", "t.keras", "--strategy", "multiworker"),
        2,
        "TF_CONFIG",
    ),
    Wrong(
        "another size than the model's",
        ("train", "--data", "digits", "-o", "t.keras", "--init", "model.keras", "--dim", "8"),
        2,
        "dim 8",
    ),
    Wrong("train on nothing", ("train", "--data", "no", "-o", "t.keras"), 1, "no"),
    Wrong("train on texts", ("train", "--data", "texts", "-o", "t.keras"), 1, "texts"),
    Wrong(
        "no such preset", ("train", "--data", "digits", "-o", "t.keras", "--preset", "x"), 2, "x"
    ),
    Wrong(
        "no epochs", ("train", "--data", "digits", "-o", "t.keras", "--epochs", "0"), 2, "epochs"
    ),
    Wrong(
        "rounding that only the head would learn",
        ("train", "--data", "digits", "--quantize-aware", "int4", "--trainable-blocks", "0"),
        2,
        "train some blocks",
    ),
    Wrong(
        "repair of nothing",
        ("train", "--data", "digits", "--quantize-aware", "int8", "-o", "t.keras"),
        2,
        "--init",
    ),
    Wrong(
        "a distillation token without a teacher",
        ("train", "--data", "digits", "--distillation-token", "-o", "t.keras"),
        2,
        "--teacher",
    ),
    Wrong("inspect nothing", ("inspect", "absent.onnx"), 1, "absent.onnx"),
    Wrong("inspect garbage", ("inspect", "garbage.onnx"), 1, "garbage.onnx"),
]


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: wrong.id)
def test_wrong_input_is_one_line_and_nothing_is_written(
    wrong: Wrong, run: Run, model: Path, digit: Path
) -> None:
    for folder in ("empty", "texts", "broken"):
        Path(folder).mkdir()
    Path("texts/a.txt").write_text("not an image")
    Path("broken/broken.png").write_bytes(b"\x89PNG\r\n\x1a\n but no more")
    for name in ("garbage.keras", "garbage.onnx"):
        Path(name).write_bytes(b"\x07garbage" * 9)
    Path("notes.txt").write_text("not a model")
    Path("two.txt").write_text("one\ntwo\n")
    np.savez("d.npz", images=np.zeros((1, 8, 8), np.uint8), labels=np.zeros(1, np.int64))
    before = {path: path.stat().st_mtime_ns for path in Path().rglob("*")}
    arguments = [artifact(".tflite") if each == "DIGITS" else each for each in wrong.arguments]

    result = run(*arguments)

    assert result.exit_code == wrong.exit_code, result.output
    assert result.stdout == ""
    # click's own refusals of an option begin with two lines on how to get help.
    others = ("warning: ", "Usage: ", "Try ")
    lines = result.stderr.splitlines()
    errors = [line for line in lines if line and not line.startswith(others)]
    assert len(errors) == 1
    assert wrong.words in errors[0]
    assert {path: path.stat().st_mtime_ns for path in Path().rglob("*")} == before


# --- manners


@pytest.mark.parametrize(
    ("function", "arguments", "words"),
    [
        ("inspection.description.inspect", ["inspect", "MODEL"], "Interrupted"),
        (
            "pipeline.convert.convert",
            ["convert", "--fp32", "MODEL", "-o", "out"],
            "Interrupted: artefacts that were finished are kept in 'out'",
        ),
        (
            "bench.request.measure",
            ["bench"],
            "Interrupted: nothing is kept; with --data, --resume FOLDER keeps what is computed",
        ),
        (
            "bench.request.measure",
            ["bench", "--data", "photos", "--resume", "kept"],
            "Interrupted: what was computed is kept in 'kept'; the same command goes on",
        ),
        (
            "train.request.train_model",
            ["train", "--data", "digits", "-o", "new.keras"],
            "Interrupted: no epoch was finished, so nothing is kept",
        ),
    ],
    ids=["inspect", "convert", "bench", "bench --resume", "train"],
)
def test_an_interruption_says_what_is_kept_and_has_the_exit_code_of_shells(
    function: str,
    arguments: list[str],
    words: str,
    run: Run,
    model: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    module, _, name = function.rpartition(".")
    monkeypatch.setattr(importlib.import_module(f"vitedge.{module}"), name, interrupt)
    result = run(*(str(model) if each == "MODEL" else each for each in arguments))
    assert result.exit_code == 130
    assert result.stderr == f"\n{words}\n"


def test_too_little_memory_is_one_line(
    run: Run, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise MemoryError("Unable to allocate 27.9 GiB")

    monkeypatch.setattr("vitedge.inspection.description.inspect", fail)
    result = run("inspect", str(model))
    assert result.exit_code == 1
    assert result.stderr == (
        "Error: there is not enough memory for that (Unable to allocate 27.9 GiB)\n"
    )


def test_help_answers_without_loading_numpy_or_any_engine() -> None:
    program = (
        "import sys; from click.testing import CliRunner; from vitedge.cli import main\n"
        "for command in ((), *((name,) for name in main.commands)):\n"
        "    assert CliRunner().invoke(main, [*command, '--help']).exit_code == 0\n"
        "print(*sorted({name.split('.')[0] for name in sys.modules}))\n"
    )
    command = [sys.executable, "-c", program]
    loaded = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert "vitedge" in loaded
    assert not {"numpy", "PIL", "rich", "tensorflow", "keras", "onnx", "openvino"} & set(loaded)


def test_each_artefact_is_named_once_where_nobody_watches(model: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "vitedge", "convert", "--fp32", "model.keras"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert [line.split(": ")[0] for line in done.stderr.splitlines()] == [
        "finished model.fp32.tflite",
        "finished model.fp32.onnx",
        "finished model.fp32.xml",
    ]
    assert len(done.stdout.splitlines()) == 4
