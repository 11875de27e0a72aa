"""An element that the package does not know converts to every format and precision as it is.

``tests/support/elements/gated_relu_squared.py`` is all that was written for it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.support.elements.gated_relu_squared import gated_relu_squared
from vitedge.converters.tools import converters, precisions_of
from vitedge.elements.attention import AttentionWeights, attention
from vitedge.elements.kinds import Pooling
from vitedge.elements.patches import patches
from vitedge.elements.pooling import pooled
from vitedge.images.image_sets import ImageSet
from vitedge.images.preprocess import Preprocessing
from vitedge.images.samples import ArraySamples
from vitedge.network.network import Builder, Network
from vitedge.network.operators import Add, Concatenate, Constant, Linear, Norm, Pixels, Standardize
from vitedge.pipeline.convert import ConvertOptions, convert
from vitedge.pipeline.keras_model import write_keras
from vitedge.targets.formats import Format, all_formats
from vitedge.targets.precisions import Precision, all_precisions

SIZE, DIM, WIDE, HEADS = 16, 24, 40, 3

# Signal-to-noise ratio of the logits on noise, in dB; a graph that computes something else has
# less than none.
LEAST_DB = {
    Precision.FP32: 80.0,
    Precision.FP16: 50.0,
    Precision.INT8: 20.0,
    Precision.INT4: 5.0,
    Precision.INT8_STATIC: 12.0,
    Precision.W8A16: 20.0,
}


def made_of_it() -> Network:
    rng = np.random.default_rng(0)

    def array(*shape: int, scale: float = 1.0, shift: float = 0.0) -> np.ndarray:
        return (rng.standard_normal(shape) * scale + shift).astype(np.float32)

    def linear(inputs: int, outputs: int) -> Linear:
        return Linear(array(inputs, outputs, scale=inputs**-0.5), array(outputs, scale=0.1))

    def norm() -> Norm:
        return Norm(array(DIM, scale=0.2, shift=1.0), array(DIM, scale=0.1), 1e-6)

    net = Builder()
    pixels = net("pixels", Pixels(SIZE, SIZE, 3))
    pixels = net("pixels/shifted", Standardize((0.5,) * 3, (0.25,) * 3), pixels)
    x = net("patch", linear(48, DIM), patches(net, pixels, (4, 4), "patches"))
    x = net("embedded", Add(), x, net("positions", Constant(array(16, DIM, scale=0.5))))
    x = net("tokens", Concatenate(0), net("prefix", Constant(array(1, DIM))), x)
    for index in range(2):
        name = f"blocks.{index}"
        weights = AttentionWeights(*(linear(DIM, DIM) for _ in range(4)))
        mixed = attention(
            net, net(f"{name}.norm1", norm(), x), weights, name, heads=HEADS, scale=8**-0.5
        )
        x = net(f"{name}/attended", Add(), x, mixed)
        layers = linear(DIM, WIDE), linear(DIM, WIDE), linear(WIDE, DIM)
        grown = gated_relu_squared(net, net(f"{name}.norm2", norm(), x), *layers, name)
        x = net(f"{name}/out", Add(), x, grown)
    x = pooled(net, net("norm", norm(), x), Pooling.CLASS, 1)
    preprocessing = Preprocessing((SIZE, SIZE), mean=(0.5,) * 3, std=(0.25,) * 3)
    return net.network({"logits": net("head", linear(DIM, 10), x)}, preprocessing)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("source") / "gated.keras"
    write_keras(made_of_it(), path)
    return path


@pytest.mark.thorough
@pytest.mark.parametrize("precision", all_precisions())
@pytest.mark.parametrize("target", all_formats())
def test_it_converts_and_computes_what_the_network_computes(
    target: Format, precision: Precision, source: Path, tmp_path: Path
) -> None:
    converter = next(each for each in converters() if each.format is target)
    if precision not in precisions_of(converter):
        pytest.skip(f"{target} has no {precision} at all")
    images = np.random.default_rng(1).integers(0, 256, (24, SIZE, SIZE, 3), np.uint8)
    options = ConvertOptions(formats=(target,), precisions=(precision,), output=tmp_path)
    (written,) = convert(source, options, calibration=ImageSet("noise", ArraySamples(images, None)))
    parity = written.metadata.parity
    assert parity is not None
    assert parity.sqnr_db is None or parity.sqnr_db >= LEAST_DB[precision]
    if precision in (Precision.INT8, Precision.INT4):
        assert written.metadata.quantization["weights"].startswith(str(precision))
