"""How the zoo makes its Keras models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest


@pytest.fixture
def resizing_model() -> Any:
    """A batch norm after a layer that is in training unless it is told otherwise."""
    keras = pytest.importorskip("keras")
    image = keras.Input((8, 8, 3))
    smaller = keras.layers.Resizing(4, 4)(image)
    normed = keras.layers.BatchNormalization()(smaller)
    return keras.Model(image, keras.layers.GlobalAveragePooling2D()(normed))


def test_random_variances_are_positive(resizing_model: Any) -> None:
    from reference.keras_models import randomize

    randomize(resizing_model)
    (variance,) = [each for each in resizing_model.weights if "variance" in each.path]
    assert (np.asarray(variance) > 0).all()
    assert np.ptp(np.asarray(variance)) > 0


def test_an_exported_model_computes_what_predict_does(resizing_model: Any, tmp_path: Path) -> None:
    tensorflow = pytest.importorskip("tensorflow")
    from reference.keras_models import randomize
    from reference.zoo.keras_families import export

    randomize(resizing_model)
    images = np.random.default_rng(0).random((4, 8, 8, 3), np.float32)
    export(resizing_model, tmp_path / "model")
    saved = tensorflow.saved_model.load(str(tmp_path / "model"))
    wanted = np.asarray(resizing_model(images, training=False))
    np.testing.assert_allclose(np.asarray(saved.serve(images)), wanted, rtol=1e-5, atol=1e-6)
    assert np.abs(np.asarray(resizing_model(images)) - wanted).max() > 0.1
