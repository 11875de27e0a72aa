"""The patch projection of an int8 TFLite file multiplies pixels as they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.support.bench_artifacts import metadata
from vitedge.converters.tflite.emitter import TFLiteEmitter
from vitedge.elements.patches import patches
from vitedge.images.preprocess import Preprocessing
from vitedge.network.evaluate import evaluate
from vitedge.network.network import Builder, Network
from vitedge.network.operators import Linear, Pixels
from vitedge.quantize import IntegerWeight, Recipe
from vitedge.quantize.chosen_inputs import PIXELS
from vitedge.runtimes.litert import LiteRTSession
from vitedge.targets.formats import Format
from vitedge.targets.precisions import Precision

SIZE, PATCH, OUTPUTS = (24, 40), (8, 8), 24


def projection(layer: Linear | None = None) -> Network:
    """Patches through a linear layer, or as they are."""
    net = Builder()
    x = patches(net, net("pixels", Pixels(*SIZE, 3)), PATCH, "patches")
    made = x if layer is None else net("patch", layer, x)
    return net.network({"patches": made}, Preprocessing(size=SIZE, channels=3))


@pytest.mark.parametrize("brightest", [0, 1, 3, 100, 200, 254, 255])
@pytest.mark.parametrize("batch", [1, 3])
def test_pixels_are_exact_integers_however_dark_a_patch_is(
    brightest: int, batch: int, tmp_path: Path
) -> None:
    rng = np.random.default_rng(brightest)
    values = rng.integers(-127, 128, (PATCH[0] * PATCH[1] * 3, OUTPUTS), np.int8)
    scale = rng.uniform(1e-4, 1e-2, values.shape[1]).astype(np.float32)
    bias = rng.standard_normal(OUTPUTS).astype(np.float32)
    integers = IntegerWeight(values, scale)
    recipe = Recipe(Precision.INT8, weights={"patch": integers}, inputs={"patch": PIXELS})

    emitter = TFLiteEmitter(projection(Linear(integers.dequantized(), bias)), recipe, batch)
    path = tmp_path / "patches.tflite"
    described = metadata(Format.TFLITE, Precision.INT8)
    path.write_bytes(emitter.model.to_bytes(emitter.emit(), "patches", described))
    pixels = rng.integers(0, brightest + 1, (batch, *SIZE, 3)).astype(np.uint8)
    session = LiteRTSession(path, 1)
    found = session.run(pixels)
    session.close()

    rows = evaluate(projection(), pixels)["patches"].astype(np.float64)
    exact = (rows @ values) * scale + bias
    # The integers are exact; what is left is one multiplication and one sum in float32.
    np.testing.assert_allclose(found, exact, rtol=1e-5, atol=1e-5)
