"""Features: what the head reads, the same whatever rewrites, precision and format did to it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from vitedge.vit import forward

import vitedge
from tests.models import random_images, random_vit
from vitedge.artifact import Metadata, Source
from vitedge.converters import converter_for
from vitedge.elements.plain_vit import PlainViT
from vitedge.errors import ConversionError
from vitedge.features import feature_size, with_features
from vitedge.quantize.calibrate import calibrate
from vitedge.quantize.recipe import quantize
from vitedge.rewrite import apply_rewrites
from vitedge.spec import Format, Pooling, Precision


@dataclass(frozen=True)
class Model:
    """A head that reads what."""

    id: str
    vit: PlainViT


MODELS = [
    Model("class token", random_vit()),
    Model("mean of patches", random_vit(pooling=Pooling.MEAN, pooled_norm=True)),
    Model("hidden layer", random_vit(head_hidden=(16,))),
    Model("two tokens", random_vit(pooling=Pooling.DISTILLED, prefix_tokens=2)),
]
# Of the features' range. Float sums in another order; weights in half; int8 as its logits are.
TOLERANCES = {Precision.FP32: 1e-4, Precision.FP16: 1e-2, Precision.INT8: 0.3}


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.id)
def test_the_head_computes_the_logits_of_the_features(model: Model) -> None:
    vit, images = model.vit, random_images(model.vit)
    together = forward(with_features(vit), images)
    logits, features = np.split(together, [vit.config.classes], axis=1)
    assert features.shape[1] == feature_size(vit)
    # One float32 product of a few dozen terms each.
    np.testing.assert_allclose(logits, forward(vit, images), atol=1e-5)
    np.testing.assert_allclose(features @ vit.head.weight + vit.head.bias, logits, atol=1e-5)


@pytest.mark.parametrize("precision", TOLERANCES, ids=str)
@pytest.mark.parametrize("target", Format, ids=str)
def test_every_format_gives_the_models_own_features(
    target: Format, precision: Precision, tmp_path: Path
) -> None:
    vit = MODELS[0].vit
    rewritten, _ = apply_rewrites(with_features(vit))
    images = random_images(vit, 6)
    converter = converter_for(target, precision)
    statistics = calibrate(rewritten, iter(images))
    made = quantize(
        rewritten,
        precision,
        statistics,
        activations=converter.activations,
        groups=converter.groups,
    )
    size = feature_size(vit)
    draft = converter.convert(made.vit, made.recipe, features=size)
    path = tmp_path / f"model{target.suffix}"
    source = Source("random", "0" * 64, "a test")
    draft.save(path, Metadata(target, precision, vit.labels, vit.preprocessing, source))
    expected = forward(with_features(vit), images)[:, -size:]
    with vitedge.load(path, preprocessing=vit.preprocessing) as classifier:
        assert classifier.info.classes == vit.config.classes
        found = classifier.embed(list(images))
        logits = classifier.logits(list(images))
    assert found.shape == expected.shape
    tolerance = TOLERANCES[precision] * np.ptp(expected)
    assert np.abs(found - expected).max() <= tolerance
    # The two outputs are of one run: the head's own weights lead from one to the other.
    again = found @ vit.head.weight + vit.head.bias
    assert np.abs(again - logits).max() <= 1e-2 * np.ptp(logits)


@pytest.mark.parametrize("target", [Format.TFLITE, Format.ONNX], ids=str)
def test_all_integer_artefacts_refuse_features(target: Format) -> None:
    vit = MODELS[0].vit
    rewritten, _ = apply_rewrites(with_features(vit))
    images = random_images(vit, 4)
    made = quantize(
        rewritten,
        Precision.INT8_STATIC,
        calibrate(rewritten, iter(images)),
        images=lambda: iter(images),
    )
    with pytest.raises(ConversionError, match="leave out --features"):
        converter_for(target, Precision.INT8_STATIC).convert(
            made.vit, made.recipe, features=feature_size(vit)
        )
