"""The programs in ``benchmarks/`` run, and what they compare with is what it says."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.support.cifar_files import write_batch
from tests.support.models import random_images, random_network
from vitedge.images.image_sets import ImageSet
from vitedge.network.evaluate import forward
from vitedge.pipeline.keras_model import write_keras
from vitedge.runtimes import runtimes
from vitedge.targets.formats import Format, all_formats
from vitedge.targets.precisions import Precision

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
STOCK_TOOLS = ("ai_edge_quantizer", "nncf", "tf2onnx")


@pytest.fixture
def on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))


@pytest.mark.usefixtures("on_path")
def test_the_stock_keras_model_computes_what_the_vit_computes() -> None:
    from stock_keras import stock_keras_model

    network = random_network()
    (pixels,) = random_images(network, 1)
    logits = np.asarray(stock_keras_model(network)(pixels[None].astype(np.float32)))
    np.testing.assert_allclose(logits, forward(network, pixels[None]), atol=1e-4)


@pytest.mark.usefixtures("on_path")
def test_other_models_than_plain_vits_are_no_stock_models() -> None:
    from stock_keras import stock_keras_model

    with pytest.raises(ValueError, match="plain"):
        stock_keras_model(random_network(qk_norm=True))


@pytest.mark.usefixtures("on_path")
@pytest.mark.parametrize("precision", [Precision.FP32, Precision.INT8])
@pytest.mark.parametrize("target", all_formats())
def test_the_product_whose_rate_is_measured_is_a_product(
    target: Format, precision: Precision, tmp_path: Path
) -> None:
    from gemm_rate import SIDE, right_side, write_gemm

    runtime = next(each for each in runtimes() if each.format is target and "cpu" in each.devices)
    session = runtime.open(write_gemm(target, precision, tmp_path), "cpu", threads=1)
    pixels = np.random.default_rng(1).integers(0, 256, (1, SIDE, SIDE, 1), np.uint8)
    found = session.run(pixels).reshape(-1).astype(np.float64)
    session.close()
    expected = pixels[0, 0, :, 0].astype(np.float64) @ right_side().astype(np.float64)
    # Formats differ in the scale of their integers, which rates do not depend on.
    assert np.corrcoef(found, expected)[0, 1] > 0.9999


@pytest.fixture
def cifar(tmp_path: Path) -> Path:
    """Five images of each class to train on, and one to test on."""
    folder = tmp_path / "cifar"
    for number in range(1, 6):
        write_batch(folder / f"data_batch_{number}.bin", list(range(10)), seed=number)
    write_batch(folder / "test_batch.bin", list(range(10)), seed=9)
    (folder / "batches.meta.txt").write_text("\n".join("abcdefghij"))
    return folder


@pytest.mark.usefixtures("on_path")
def test_training_files_hold_other_images_to_measure_on_and_none_of_the_test(
    cifar: Path, tmp_path: Path
) -> None:
    from cifar_parts import pixels_of, write_training_file

    test = write_training_file(cifar, tmp_path / "few.npz", images=20, held_out=10, seed=0)
    with np.load(tmp_path / "few.npz") as arrays:
        parts = [arrays["x_train"], arrays["x_test"], pixels_of(test.samples)]
        labels = [arrays["y_train"], arrays["y_test"]]
    assert [np.bincount(each).tolist() for each in labels] == [[2] * 10, [1] * 10]
    images = {image.tobytes() for part in parts for image in part}
    assert len(images) == 20 + 10 + 10


@pytest.mark.usefixtures("on_path")
def test_the_keras_io_example_has_the_sizes_that_its_page_describes() -> None:
    from keras_io_vit import build

    model = build(np.zeros((2, 32, 32, 3), np.uint8), 100)
    norm, attention = 2 * 64, 3 * (64 + 1) * 256 + (256 + 1) * 64
    block = 2 * norm + attention + (64 + 1) * 128 + (128 + 1) * 64
    head = (144 * 64 + 1) * 2048 + (2048 + 1) * 1024 + (1024 + 1) * 100
    weights = (6 * 6 * 3 + 1) * 64 + 144 * 64 + 8 * block + norm + head
    assert sum(np.prod(each.shape) for each in model.trainable_variables) == weights


@pytest.mark.usefixtures("on_path")
def test_without_a_gpu_its_figure_is_refused_in_words(
    cifar: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tensorflow as tf
    import training

    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [])
    with pytest.raises(SystemExit, match="sees no GPU here: this figure was not measured"):
        training.on_a_gpu(cifar, tmp_path, epochs=1)


@pytest.mark.slow
@pytest.mark.usefixtures("on_path")
def test_a_published_model_is_fine_tuned_and_its_int8_artefacts_are_tested(
    cifar: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    import training

    write_keras(random_network(), tmp_path / "published.keras")
    folder = tmp_path / "figures"
    training.fine_tune(cifar, tmp_path / "published.keras", folder, images=20, epochs=1)
    training.measure_artifacts(cifar, folder)
    printed = capfd.readouterr().out
    assert "processor min" in printed
    for name in ("fp32.onnx", "int8.tflite", "int8.onnx", "int8.xml"):
        assert f"tuned.{name}" in printed


@pytest.mark.slow
@pytest.mark.usefixtures("on_path")
@pytest.mark.parametrize("contender", ["ours", "keras.io"])
def test_both_contenders_from_scratch_are_tested_on_the_same_images(
    cifar: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    contender: str,
) -> None:
    import training

    def few(*paths: Path, images: int, held_out: int, seed: int) -> ImageSet:
        return write_training_file(*paths, images=images // 1000, held_out=held_out // 100, seed=0)

    write_training_file = training.write_training_file
    monkeypatch.setattr(training, "write_training_file", few)
    training.from_scratch(cifar, tmp_path / "figures", contender=contender, minutes=0, epochs=1)
    assert "% of 10 test images" in capfd.readouterr().out


@pytest.mark.slow
def test_every_contender_of_the_smallest_model_is_measured_and_judged(tmp_path: Path) -> None:
    missing = [name for name in STOCK_TOOLS if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed: pip install -e '.[benchmarks]'")
    record = tmp_path / "record.json"
    command = [sys.executable, BENCHMARKS / "peers.py", "--model", "miniature", "--threads", "1"]
    command += ["--runs", "10", "--folder", tmp_path / "artefacts", "--json", record]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    formats = json.loads(record.read_text())
    outcomes = {each["name"]: each for measured in formats for each in measured["outcomes"]}
    assert len(formats) == 3
    assert len(outcomes) == 6 + 11 + 6  # ours, the stock routes', the matrix products
    assert not {name: each["failure"] for name, each in outcomes.items() if each["failure"]}
    assert all(each["p50_ms"] > 0 for each in outcomes.values())
    assert all(measured["goals"] for measured in formats)
    assert done.stdout.count("GOP/s. Percent of it:") == 2
    assert " ours-int8-onnx\n" in done.stdout.rpartition("Percent of it")[2]
    assert "| stock-nncf-openvino |" in done.stdout


@pytest.mark.slow
def test_the_front_has_a_point_for_each_share_of_the_work() -> None:
    command = [sys.executable, "frontier.py", "--format", "onnx", "--tokens", "0.9", "--constant",
               "0.9", "--rounds", "2", "--devices", "ethos-u", "--json"]  # fmt: skip
    found = subprocess.run(command, cwd=BENCHMARKS, capture_output=True, text=True, check=True)
    *points, whole, constant = json.loads(found.stdout)
    assert [each["tokens"] for each in points] == ["all", "0.9", "0.9 constant"]
    assert points[0]["latency_ratio"] == 1
    losses = [lost for each in points for lost in each["lost"]]
    assert losses[0]["points"] == 0
    assert all(lost["n"] == 8 and lost["interval"] >= 0 for lost in losses)
    assert "every picture alike" in points[2]["merged"]
    assert (whole["tokens"], constant["tokens"]) == ("all", "0.7")
    assert constant["work"] < whole["work"] == 1
    assert constant["estimate_ms"] > 0
    assert "on the device" in constant["placed"]


@pytest.mark.usefixtures("on_path")
def test_the_graph_that_other_engines_take_computes_what_the_vit_computes(tmp_path: Path) -> None:
    import onnxruntime
    from engine_graph import INPUT, planes, write_graph

    network = random_network()
    pixels = random_images(network, 1)
    write_graph(network, tmp_path / "planes.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "planes.onnx"))
    (found,) = session.run(None, {INPUT: planes(network, pixels)})
    np.testing.assert_allclose(found, forward(network, pixels), atol=1e-4)


@pytest.mark.usefixtures("on_path")
def test_the_torch_module_that_other_engines_take_computes_what_the_vit_computes(
    tmp_path: Path,
) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    from engine_graph import planes, write_graph
    from torch_vit import vit_of

    network = random_network()
    pixels = random_images(network, 1)
    write_graph(network, tmp_path / "planes.onnx")
    given = torch.from_numpy(planes(network, pixels))
    for fused in (True, False):
        with torch.no_grad():
            found = vit_of(tmp_path / "planes.onnx", fused=fused)(given).numpy()
        np.testing.assert_allclose(found, forward(network, pixels), atol=1e-4)


@pytest.mark.slow
def test_engines_that_are_not_here_are_named_and_ours_are_measured(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    command = [sys.executable, "engines.py", "--rounds", "2", "--json", str(path)]
    found = subprocess.run(command, cwd=BENCHMARKS, capture_output=True, text=True, check=True)
    rows = {each["name"]: each for each in json.loads(path.read_text())}
    ours = {f"ours, {target} {each}" for target in all_formats() for each in ("fp32", "int8")}
    assert ours <= set(rows)
    assert rows["ours, tflite fp32"]["ratio"] == 1
    assert rows["ours, onnx fp32"]["agreement"] == 100
    for name in ("MNN fp32", "ncnn fp32", "tract fp32", "ExecuTorch fp32"):
        assert name in rows or f"{name}: not measured: " in found.stderr
