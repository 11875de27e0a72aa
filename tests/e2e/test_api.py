"""The functions of ``import vitedge`` as a notebook uses them: everything lies in memory."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import keras
import numpy as np
import pytest

import vitedge
from tests.support.models import random_network
from vitedge.errors import DataError, ModelError, UnavailableError, UsageError
from vitedge.in_keras.model import to_keras
from vitedge.pipeline.keras_model import write_keras
from vitedge.runtimes import Availability, Readiness, Runtime, Session
from vitedge.testing import FakeRuntime

NETWORK = random_network(8)
PHOTOS = np.random.default_rng(1).integers(0, 256, (12, 32, 32, 3), np.uint8)
LABELS = np.arange(12) % 10


@pytest.fixture(scope="module")
def model() -> keras.Model:
    return to_keras(NETWORK)


class Scale(keras.layers.Layer):
    """A layer of the user's own that nobody registered."""

    def __init__(self, factor: float = 1 / 127.5, **rest: object) -> None:
        super().__init__(**rest)
        self.factor = factor

    def call(self, inputs: object) -> object:
        return inputs * self.factor - 1.0

    def get_config(self) -> dict[str, object]:
        return super().get_config() | {"factor": self.factor}


def test_a_keras_model_in_memory_is_converted_as_its_file_is(
    model: keras.Model, tmp_path: Path
) -> None:
    write_keras(NETWORK, tmp_path / f"{model.name}.keras")
    options = {"precisions": "int8", "formats": ["tflite"], "calibration": PHOTOS}
    of_memory = vitedge.convert(model, output=tmp_path / "memory", **options)
    of_file = vitedge.convert(
        str(tmp_path / f"{model.name}.keras"), output=str(tmp_path / "file"), **options
    )
    (one,), (other,) = of_memory.paths, of_file.paths
    assert one.name == other.name == f"{model.name}.int8.tflite"
    with vitedge.load(one) as first, vitedge.load(other) as second:
        for photo in PHOTOS[:4]:
            assert first.classify(photo) == second.classify(photo)
    assert f"read {model.name}.keras" in str(of_memory)
    assert f'<td style="text-align:left">{one}</td>' in of_memory._repr_html_()


def test_layers_of_the_users_own_are_known_where_the_model_lies_in_memory(tmp_path: Path) -> None:
    pixels = keras.Input((16, 16, 3))
    scaled = Scale()(pixels)
    answers = keras.layers.Dense(3)(keras.layers.Flatten()(keras.layers.Conv2D(4, 4, 4)(scaled)))
    own = keras.Model(pixels, answers, name="of my own")
    made = vitedge.convert(own, precisions="fp32", formats="tflite", output=tmp_path)
    assert made.paths == (tmp_path / "of_my_own.fp32.tflite",)
    own.save(tmp_path / "saved.keras")
    with pytest.raises(ModelError, match="custom layers"):
        vitedge.convert(tmp_path / "saved.keras", precisions="fp32", output=tmp_path)


def test_bench_compare_and_inspect_take_what_lies_in_memory(
    model: keras.Model, tmp_path: Path
) -> None:
    made = vitedge.convert(
        model, precisions="int8", formats="tflite", calibration=PHOTOS[:10], output=tmp_path
    )
    with pytest.warns(UserWarning, match="is not known") as told:
        report = vitedge.bench(
            made.paths,
            targets="tflite-cpu",
            data=(PHOTOS[10:], LABELS[10:]),
            reference=model,
            runs=5,
        )
    assert {each.filename for each in told} == {__file__}  # the line that called vitedge
    (row,) = report.rows
    assert row.accuracy is not None
    assert row.accuracy.n == 2
    assert row.vs_float is not None
    assert "tflite-cpu" in str(report)
    assert "<table>" in report._repr_html_()
    compared = vitedge.compare(model, made.paths[0], data=PHOTOS[10:])
    assert compared.n == 2
    assert "SQNR dB" in str(compared)
    found = vitedge.inspect(model)
    assert found.parameters == NETWORK.parameters
    assert found.path == Path(f"{model.name}.keras")
    assert f"{NETWORK.parameters:,}" in str(found)


def test_what_was_not_calibrated_is_a_python_warning_at_the_callers_line(
    model: keras.Model, tmp_path: Path
) -> None:
    with pytest.warns(UserWarning, match="no --calibration images") as told:
        made = vitedge.convert(model, formats="tflite", output=tmp_path)
    assert told[0].filename == __file__
    assert made.assumed == "int8"


def test_train_takes_arrays_and_returns_how_well_it_went(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(40) % 2
    images = (rng.integers(0, 60, (40, 8, 8)) + 180 * labels[:, None, None]).astype(np.uint8)
    trained = vitedge.train(
        (images[:32], labels[:32]),
        tmp_path / "model.keras",
        validation=(images[32:], labels[32:]),
        grey=True,
        image_size=8,
        patch_size=4,
        dim=16,
        depth=1,
        heads=2,
        epochs=12,
        flip=False,
    )
    assert trained.path == tmp_path / "model.keras"
    assert trained.held_out == 8
    assert trained.accuracy == 1
    assert len(trained.history) == 12
    assert "100.0% of 8 held-out images right" in str(trained)
    read = vitedge.import_model(trained.path, None)
    assert read.classes == 2
    assert read.path is None


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: vitedge.convert("absent.keras", precisions="fp32"), ModelError, "absent.keras"),
        (lambda: vitedge.convert("m.keras", precisions="int3"), UsageError, "int8-static"),
        (lambda: vitedge.convert("m.keras", konvert=1), TypeError, "no option 'konvert'"),
        (lambda: vitedge.convert(object(), precisions="fp32"), UsageError, "not object"),
        (lambda: vitedge.convert("m.keras", activation="x"), UsageError, "--activation is one of"),
        (lambda: vitedge.bench("m.tflite", data=PHOTOS / 255), DataError, "multiply them by 255"),
        (lambda: vitedge.bench(targets="nonsense"), UsageError, "nonsense"),
        (lambda: vitedge.train(PHOTOS, "m.h5"), UsageError, ".keras"),
        (lambda: vitedge.train("digits", keep="all"), UsageError, "best or last"),
    ],
)
def test_a_request_that_cannot_be_meant_is_an_error(
    call: object,
    error: type[Exception],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error) as raised:
        call()
    assert words in str(raised.value)
    assert not list(tmp_path.iterdir())


def test_the_fake_runtime_keeps_the_contract_of_runtimes() -> None:
    missing = Availability(Readiness.MISSING, "no driver", "Run: pip install driver")
    runtime: Runtime = FakeRuntime("mine", devices=("npu", "gone"), states={"gone": missing})
    assert runtime.availability("npu").readiness is Readiness.READY
    session: Session
    with closing(runtime.open(Path("model.onnx"), "npu")) as session:
        pixels = np.full(session.input_shape, 7, np.uint8)
        np.testing.assert_array_equal(session.run(pixels), np.full((1, 3), 7, np.float32))
        with pytest.raises(ValueError, match="pixels are"):
            session.run(pixels[:, 1:])
    with pytest.raises(RuntimeError, match="closed"):
        session.run(pixels)
    with pytest.raises(UnavailableError, match="pip install driver"):
        runtime.open(Path("model.onnx"), "gone")
