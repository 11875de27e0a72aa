"""What stands between convolutions in an ONNX file keeps its channels first."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from tests.support.networks import Random
from vitedge.artifacts.metadata import Metadata, Source
from vitedge.converters.tools import converter_for
from vitedge.network.channels_first import images_of_convolutions
from vitedge.network.evaluate import forward
from vitedge.network.kinds import Activation
from vitedge.network.network import Network
from vitedge.network.operators import Activate, Add, Concatenate, Mean, Multiply, Reshape
from vitedge.quantize import Activations
from vitedge.quantize.calibrate import calibrate
from vitedge.quantize.recipe import Quantized, quantize
from vitedge.runtimes import run_batches, runtime_for
from vitedge.targets.formats import Format
from vitedge.targets.precisions import Precision
from vitedge.targets.target import Target

SAME = ((1, 1), (1, 1))


def stages() -> Network:
    """A thin and a wide pair of pointwise layers between convolutions, gates, and a norm."""
    made = Random(11)
    net = made.net
    stem = made.convolution("stem", made.image(16), 24, (3, 3), strides=(2, 2), padding=SAME)
    x = net("stem/relu", Activate(Activation.RELU), stem)
    thin = net("thin/silu", Activate(Activation.SILU), made.linear("thin.a", x, 48))
    thin = made.linear("thin.b", thin, 24)
    x = net("scaled", Multiply(), thin, made.constant("scale", 24))
    x = net("shifted", Add(), x, made.constant("shift", 1, 1, 24))
    x = net("placed", Add(), x, made.constant("place", 8, 8, 1))
    x = net("residual", Add(), x, stem)
    rows = net("squeezed", Mean(0), net("squeezed/rows", Reshape((64, 24)), x))
    gate = net("gate", Activate(Activation.SIGMOID), made.linear("excite", rows, 24))
    x = net("gated", Multiply(), x, net("gate/image", Reshape((1, 1, 24)), gate))
    x = net("beside", Concatenate(2), x, stem)
    x = made.convolution("middle", x, 256, (3, 3), padding=SAME)
    wide = net("wide/gelu", Activate(Activation.GELU), made.linear("wide.a", x, 512))
    x = made.linear("wide.b", wide, 256)
    x = made.convolution("last", x, 24, (3, 3), padding=SAME)
    x = made.linear("tokens.a", made.norm("norm", x), 24)
    pooled = net("pooled/mean", Mean(0), net("pooled/rows", Reshape((64, 24)), x))
    return made.network(logits=made.linear("head", pooled, 5))


def pixels_of(network: Network, count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, *network.image_shape), np.uint8)


def written(made: Quantized, folder: Path) -> Path:
    network, precision = made.network, made.recipe.precision
    path = folder / f"stages.{precision}.onnx"
    told = Source("stages.keras", "0" * 64, "by name: test")
    about = Metadata(Format.ONNX, precision, network.labels, network.preprocessing, told)
    converter = converter_for(Format.ONNX, precision)
    converter.convert(network, made.recipe).save(path, about)
    return path


def in_integers(network: Network, pay_from: float) -> Quantized:
    statistics = calibrate(network, list(pixels_of(network, 16, seed=1)))
    return quantize(
        network,
        Precision.INT8,
        statistics,
        activations=Activations.PER_TENSOR,
        integers_pay_from=pay_from,
    )


def computed(path: Path, pixels: np.ndarray) -> np.ndarray:
    session = runtime_for(Target("onnx", "cpu")).open(path, "cpu")
    found = np.concatenate([np.asarray(run_batches(session, each[None])) for each in pixels])
    session.close()
    return found


def operators(path: Path) -> Counter[str]:
    import onnx

    model: Any = onnx.load(str(path))
    return Counter(node.op_type for node in model.graph.node)


def test_images_of_convolutions_end_at_norms_and_at_layers_that_may_not_convolve() -> None:
    network = stages()
    found = {each.name for each in images_of_convolutions(network, lambda layer: True)}
    assert {"pixels/shifted", "thin.b", "shifted", "gated", "beside", "wide.b", "last"} <= found
    assert not found & {"pixels", "tokens.a", "excite", "gate/image", "norm", "pooled/mean"}
    none = {each.name for each in images_of_convolutions(network, lambda layer: False)}
    assert not none & {"thin.a", "thin/silu", "wide.a"}
    assert {"stem/relu", "middle", "last"} <= none


def test_thin_layers_between_convolutions_stay_float_and_wide_ones_become_integers() -> None:
    network = stages()
    assert {"wide.a", "wide.b", "tokens.a"} == set(in_integers(network, 100).recipe.weights)
    every = set(in_integers(network, 0).recipe.weights)
    assert every == {"thin.a", "thin.b", "wide.a", "wide.b", "tokens.a"}
    # Between a wide layer and another, channels stand last already.
    assert "thin.a" not in in_integers(network, 20).recipe.weights


def test_a_float_file_turns_images_only_where_tokens_are_read(tmp_path: Path) -> None:
    network, pixels = stages(), pixels_of(stages(), 3, seed=2)
    path = written(quantize(network, Precision.FP32), tmp_path)
    found, expected = computed(path, pixels), forward(network, pixels)
    assert np.abs(found - expected).max() < 2e-5 * np.ptp(expected)  # sums in another order
    # Of the pixels, of the squeezed image, of its gate, and before the norm.
    assert operators(path)["Transpose"] == 4
    assert operators(path)["Conv"] == 3 + 4


def test_an_integer_file_computes_what_its_layout_does_not_change(tmp_path: Path) -> None:
    network, pixels = stages(), pixels_of(stages(), 3, seed=2)
    expected = forward(network, pixels)

    def noise(pay_from: float) -> float:
        found = computed(written(in_integers(network, pay_from), tmp_path), pixels)
        return float(np.square(found - expected).sum() / np.square(expected).sum())

    thin_in_float, all_in_integers = noise(100), noise(0)
    assert all_in_integers < 10**-2.4  # as of the other networks with 8-bit inputs
    assert thin_in_float < all_in_integers
