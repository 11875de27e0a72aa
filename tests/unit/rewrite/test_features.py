"""Features: what the head reads, the same whatever rewrites, precision and format did to it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

import vitedge
from tests.support.models import random_images, random_network
from vitedge.artifacts.metadata import Metadata, Source
from vitedge.converters.tools import converter_for
from vitedge.elements.kinds import Pooling
from vitedge.errors import ConversionError
from vitedge.network.evaluate import evaluate, forward
from vitedge.network.network import Network
from vitedge.network.operators import Linear
from vitedge.pipeline.convert import ConvertOptions, convert
from vitedge.pipeline.keras_model import write_keras
from vitedge.quantize.calibrate import calibrate
from vitedge.quantize.recipe import quantize
from vitedge.rewrite import apply_rewrites
from vitedge.rewrite.features import feature_size, with_features
from vitedge.targets.formats import Format, all_formats
from vitedge.targets.precisions import Precision


@dataclass(frozen=True)
class Model:
    """A head that reads what."""

    id: str
    network: Network


MODELS = [
    Model("class token", random_network()),
    Model("mean of patches", random_network(pooling=Pooling.MEAN, pooled_norm=True)),
    Model("hidden layer", random_network(head_hidden=(16,))),
    Model("two tokens", random_network(pooling=Pooling.DISTILLED, prefix_tokens=2)),
]
# Of the features' range. Float sums in another order; weights in half; int8 as its logits are.
TOLERANCES = {Precision.FP32: 1e-4, Precision.FP16: 1e-2, Precision.INT8: 0.3}


def head_of(network: Network) -> Linear:
    assert isinstance(network.logits.operator, Linear)
    return network.logits.operator


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.id)
def test_the_head_computes_the_logits_of_the_features(model: Model) -> None:
    network, images = model.network, random_images(model.network)
    wide = with_features(network)
    assert (wide.labels, list(wide.outputs)) == (network.labels, ["logits", "features"])
    found = evaluate(wide, images)
    logits, features = found["logits"], found["features"]
    assert features.shape[1] == feature_size(network)
    # One float32 product of a few dozen terms each.
    np.testing.assert_allclose(logits, forward(network, images), atol=1e-5)
    head = head_of(network)
    np.testing.assert_allclose(features @ head.weight + head.bias, logits, atol=1e-5)


def test_a_network_without_a_linear_head_has_no_features() -> None:
    network = MODELS[0].network
    embedding = network.logits.inputs[0]
    for outputs in ({"embedding": embedding}, {"logits": embedding}):
        other = replace(network, outputs=outputs, labels=())
        with pytest.raises(ConversionError, match="leave out --features"):
            with_features(other)


@pytest.mark.parametrize("precision", TOLERANCES, ids=str)
@pytest.mark.parametrize("target", all_formats(), ids=str)
def test_every_format_gives_the_models_own_features(
    target: Format, precision: Precision, tmp_path: Path
) -> None:
    network = MODELS[0].network
    rewritten, _ = apply_rewrites(with_features(network))
    images = random_images(network, 6)
    converter = converter_for(target, precision)
    statistics = calibrate(rewritten, iter(images))
    made = quantize(
        rewritten,
        precision,
        statistics,
        activations=converter.activations,
        groups=converter.groups,
    )
    draft = converter.convert(made.network, made.recipe)
    path = tmp_path / f"model{target.suffix}"
    source = Source("random", "0" * 64, "a test")
    draft.save(path, Metadata(target, precision, network.labels, network.preprocessing, source))
    expected = evaluate(with_features(network), images)["features"]
    with vitedge.load(path, preprocessing=network.preprocessing) as classifier:
        assert classifier.info.classes == network.classes
        found = classifier.embed(list(images))
        logits = classifier.logits(list(images))
    assert found.shape == expected.shape
    tolerance = TOLERANCES[precision] * np.ptp(expected)
    assert np.abs(found - expected).max() <= tolerance
    # The two outputs are of one run: the head's own weights lead from one to the other.
    head = head_of(network)
    again = found @ head.weight + head.bias
    assert np.abs(again - logits).max() <= 1e-2 * np.ptp(logits)


@pytest.mark.parametrize("target", [Format.TFLITE, Format.ONNX], ids=str)
def test_all_integer_artefacts_refuse_features(target: Format, tmp_path: Path) -> None:
    model = tmp_path / "model.keras"
    write_keras(MODELS[0].network, model)
    options = ConvertOptions((target,), (Precision.INT8_STATIC,), tmp_path / "made", features=True)
    with pytest.raises(ConversionError, match="leave out --features"):
        convert(model, options)


def test_integers_alone_give_further_outputs_in_float(tmp_path: Path) -> None:
    # A source's tail reads them so.
    network = MODELS[0].network
    rewritten, _ = apply_rewrites(with_features(network))
    images = random_images(network, 4)
    made = quantize(
        rewritten,
        Precision.INT8_STATIC,
        calibrate(rewritten, iter(images)),
        images=lambda: iter(images),
    )
    path = tmp_path / "model.onnx"
    source = Source("random", "0" * 64, "a test")
    metadata = Metadata(Format.ONNX, Precision.INT8_STATIC, (), network.preprocessing, source)
    converter = converter_for(Format.ONNX, Precision.INT8_STATIC)
    converter.convert(made.network, made.recipe).save(path, metadata)
    session = onnxruntime.InferenceSession(path)
    assert [each.type for each in session.get_outputs()] == ["tensor(uint16)", "tensor(float)"]
    _, found = session.run(["logits", "features"], {"pixels": images[:1]})
    expected = evaluate(made.network, images[:1])["features"]
    assert np.abs(found - expected).max() <= TOLERANCES[Precision.INT8] * np.ptp(expected)
