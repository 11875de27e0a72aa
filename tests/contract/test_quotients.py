"""A.a quotient of two values, as linear attention has it, in every format and in Keras."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vitedge.api.options import import_options
from vitedge.elements.attention import AttentionWeights, attention
from vitedge.elements.kinds import Pooling
from vitedge.elements.patches import patches
from vitedge.elements.pooling import pooled
from vitedge.errors import ConversionError, UsageError
from vitedge.images.preprocess import Preprocessing
from vitedge.importers import read_model
from vitedge.network.evaluate import forward
from vitedge.network.kinds import Activation
from vitedge.network.network import Builder, Network
from vitedge.network.operators import (
    Activate,
    Add,
    Constant,
    Linear,
    Multiply,
    Norm,
    Pixels,
    Standardize,
)
from vitedge.pipeline.convert import ConvertOptions, convert
from vitedge.pipeline.keras_model import write_keras
from vitedge.targets.formats import Format, all_formats
from vitedge.targets.precisions import Precision

SIZE, DIM = 16, 24
LEAST_DB = {Precision.FP32: 80.0, Precision.INT8: 20.0}


def with_a_quotient() -> Network:
    """Attention, then one half of an MLP over a positive one."""
    rng = np.random.default_rng(0)

    def linear(inputs: int, outputs: int) -> Linear:
        weight = rng.standard_normal((inputs, outputs)) * inputs**-0.5
        return Linear(weight.astype(np.float32), np.full(outputs, 0.1, np.float32))

    norm = Norm(np.ones(DIM, np.float32), np.zeros(DIM, np.float32), 1e-6)
    net = Builder()
    pixels = net("pixels", Pixels(SIZE, SIZE, 3))
    pixels = net("pixels/shifted", Standardize((0.5,) * 3, (0.25,) * 3), pixels)
    x = net("patch", linear(48, DIM), patches(net, pixels, (4, 4), "patches"))
    weights = AttentionWeights(*(linear(DIM, DIM) for _ in range(4)))
    mixed = attention(net, net("norm1", norm, x), weights, "block", heads=3, scale=8**-0.5)
    x = net("attended", Add(), x, mixed)
    read = net("norm2", norm, x)
    share = net("share", Activate(Activation.SIGMOID), net("below", linear(DIM, 40), read))
    share = net("positive", Add(), share, net("half", Constant(np.asarray(0.5, np.float32))))
    inverse = net("inverse", Activate(Activation.RECIPROCAL), share)
    over = net("quotient", Multiply(), net("above", linear(DIM, 40), read), inverse)
    x = net("out", Add(), x, net("down", linear(40, DIM), over))
    x = pooled(net, net("norm", norm, x), Pooling.MEAN, 0)
    preprocessing = Preprocessing((SIZE, SIZE), mean=(0.5,) * 3, std=(0.25,) * 3)
    return net.network({"logits": net("head", linear(DIM, 10), x)}, preprocessing)


NETWORK = with_a_quotient()
IMAGES = np.random.default_rng(1).integers(0, 256, (4, SIZE, SIZE, 3), np.uint8)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("source") / "quotient.keras"
    write_keras(NETWORK, path)
    return path


def test_every_format_computes_it(source: Path, tmp_path: Path) -> None:
    precisions = tuple(LEAST_DB)
    for written in convert(source, ConvertOptions(all_formats(), precisions, tmp_path)):
        parity = written.metadata.parity
        assert parity is not None
        assert (parity.sqnr_db or 200) >= LEAST_DB[written.metadata.precision], written.path.name


def test_keras_saves_and_computes_it(source: Path) -> None:
    import keras

    read = read_model(source).network
    np.testing.assert_allclose(forward(read, IMAGES), forward(NETWORK, IMAGES), atol=1e-5)
    made = np.asarray(keras.saving.load_model(source)(IMAGES.astype(np.float32)))
    np.testing.assert_allclose(made, forward(NETWORK, IMAGES), atol=1e-4)


@pytest.mark.parametrize("precision", [Precision.INT8_STATIC, Precision.W8A16])
def test_integers_alone_refuse_it_by_name(
    precision: Precision, source: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConversionError, match=r"'inverse' .a quotient of two values."):
        convert(source, ConvertOptions((Format.TFLITE,), (precision,), tmp_path))


def test_no_mlp_is_said_to_have_it() -> None:
    with pytest.raises(UsageError, match="--activation is one of gelu"):
        import_options({"activation": "reciprocal"}, lambda words: None)
