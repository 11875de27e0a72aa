"""int8 keeps its floor in a runtime that computes more coarsely than was simulated."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.support.models import random_images
from tests.support.networks import lifted_far
from vitedge.artifacts.metadata import FLOAT_FOR_ACCURACY, FLOAT_FOR_RUNTIME, read_metadata
from vitedge.errors import ParityError
from vitedge.images.image_sets import ImageSet
from vitedge.images.samples import ArraySamples
from vitedge.pipeline.convert import ConvertOptions, convert
from vitedge.pipeline.keras_model import write_keras
from vitedge.quantize import recipe
from vitedge.quantize.float_layers import FLOOR_DB, LeftInFloat
from vitedge.targets.formats import Format
from vitedge.targets.precisions import Precision

FORMATS = [Format.TFLITE, Format.ONNX, Format.OPENVINO]


@pytest.fixture
def blind_search(monkeypatch: pytest.MonkeyPatch) -> None:
    """The search before the runtime takes all integers for exact enough."""
    nothing = LeftInFloat(frozenset(), frozenset())
    monkeypatch.setattr(recipe, "layers_left_in_float", lambda *_: nothing)


def converted(folder: Path, target: Format, offset: float, precision: Precision) -> Path:
    network = lifted_far(offset)
    write_keras(network, folder / "model.keras")
    images = ImageSet("made", ArraySamples(random_images(network, 16, seed=5), np.zeros(16, int)))
    without = ("rotate-residual",)  # float layers stored in half would see the offset
    options = ConvertOptions((target,), (precision,), folder, without=without)
    (written,) = convert(folder / "model.keras", options, calibration=images)
    return written.path


@pytest.mark.usefixtures("blind_search")
@pytest.mark.parametrize("target", FORMATS)
def test_layers_that_the_runtime_computes_too_coarsely_are_lifted(
    target: Format, tmp_path: Path
) -> None:
    found = read_metadata(converted(tmp_path, target, 1000.0, Precision.INT8))
    assert set(found.quantization[FLOAT_FOR_RUNTIME].split(", ")) == {"blind", "blind.2"}
    assert found.quantization["float layers"] == "blind, blind.2, head"
    assert found.parity is not None
    assert found.parity.sqnr_db is not None
    assert found.parity.sqnr_db >= FLOOR_DB


def test_nothing_is_lifted_for_a_runtime_that_computes_what_was_simulated(tmp_path: Path) -> None:
    found = read_metadata(converted(tmp_path, Format.ONNX, 1000.0, Precision.INT8))
    assert FLOAT_FOR_RUNTIME not in found.quantization
    assert found.quantization[FLOAT_FOR_ACCURACY] == "blind, blind.2"


@pytest.mark.usefixtures("blind_search")
def test_other_precisions_are_refused_as_before(tmp_path: Path) -> None:
    with pytest.raises(ParityError, match="computes something else"):
        converted(tmp_path, Format.ONNX, 1000.0, Precision.INT8_STATIC)
