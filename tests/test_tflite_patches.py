"""The patch projection of an int8 TFLite file multiplies pixels as they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.models import random_vit
from vitedge.converters.tflite_emitter import TFLiteEmitter
from vitedge.elements.patches import patchify
from vitedge.quantize import IntegerWeight, Recipe
from vitedge.quantize.recipe import PIXELS
from vitedge.rewrite import apply_rewrites
from vitedge.runtimes.litert import LiteRTSession
from vitedge.spec import Precision


@pytest.mark.parametrize("brightest", [0, 1, 3, 100, 200, 254, 255])
@pytest.mark.parametrize("batch", [1, 3])
def test_pixels_are_exact_integers_however_dark_a_patch_is(
    brightest: int, batch: int, tmp_path: Path
) -> None:
    vit, _ = apply_rewrites(random_vit(image_size=(24, 40)))
    rng = np.random.default_rng(brightest)
    values = rng.integers(-127, 128, vit.patch.weight.shape, np.int8)
    scale = rng.uniform(1e-4, 1e-2, values.shape[1]).astype(np.float32)
    integers = IntegerWeight(values, scale)
    recipe = Recipe(Precision.INT8, weights={"patch": integers}, inputs={"patch": PIXELS})

    emitter = TFLiteEmitter(vit, recipe, batch)
    shape = (batch, *vit.config.image_size, vit.config.channels)
    projected = emitter.patches(emitter.model.input("pixels", shape))
    path = tmp_path / "patches.tflite"
    path.write_bytes(emitter.model.to_bytes({"patches": projected}, "patches", "{}"))
    pixels = rng.integers(0, brightest + 1, shape).astype(np.uint8)
    session = LiteRTSession(path, 1)
    found = session.run(pixels)
    session.close()

    rows = patchify(pixels.astype(np.float32), vit.config.patch_size).astype(np.float64)
    exact = (rows @ values) * scale + vit.patch.bias
    # The integers are exact; what is left is one multiplication and one sum in float32.
    np.testing.assert_allclose(found, exact, rtol=1e-5, atol=1e-5)
