"""What stands between convolutions in ONNX and OpenVINO files keeps its channels first."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.networks import Random
from vitedge.artifacts.metadata import Metadata, Source
from vitedge.converters.onnx.any_batch import with_any_batch
from vitedge.converters.tools import converter_for
from vitedge.network.channels_first import images_of_convolutions
from vitedge.network.evaluate import forward
from vitedge.network.kinds import Activation
from vitedge.network.network import Network, Value
from vitedge.network.operators import (
    Activate,
    Add,
    Concatenate,
    Convolution,
    Mean,
    Multiply,
    Product,
    Reshape,
)
from vitedge.quantize import Activations
from vitedge.quantize.break_even import INTEGERS_ALWAYS, BreakEven
from vitedge.quantize.calibrate import calibrate
from vitedge.quantize.recipe import Quantized, quantize
from vitedge.quantize.simulate import simulate
from vitedge.runtimes import run_batches, runtime_for
from vitedge.runtimes.onnx_runtime import multiply_exactly
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
    odd = ((1, 0), (2, 1))
    x = made.convolution("middle", x, 256, (3, 3), strides=(2, 1), padding=odd)
    wide = net("wide/gelu", Activate(Activation.GELU), made.linear("wide.a", x, 512))
    x = made.linear("wide.b", wide, 256)
    x = made.convolution("last", x, 24, (3, 3), padding=SAME)
    x = made.linear("tokens.a", made.norm("norm", x), 24)
    pooled = net("pooled/mean", Mean(0), net("pooled/rows", Reshape((36, 24)), x))
    return made.network(logits=made.linear("head", pooled, 5))


def is_convolution(value: Value) -> bool:
    return isinstance(value.operator, Convolution)


def pixels_of(network: Network, count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, *network.image_shape), np.uint8)


def written(made: Quantized, folder: Path, target: Format = Format.ONNX) -> Path:
    network, precision = made.network, made.recipe.precision
    path = folder / f"stages.{precision}{target.suffix}"
    told = Source("stages.keras", "0" * 64, "by name: test")
    about = Metadata(target, precision, network.labels, network.preprocessing, told)
    converter = converter_for(target, precision)
    converter.convert(network, made.recipe).save(path, about)
    return path


def in_integers(network: Network, pay_from: float, *, asks_tokens: bool = False) -> Quantized:
    """Rounded for a runtime whose break-even is at that number; 0 is that of none."""
    statistics = calibrate(network, list(pixels_of(network, 16, seed=1)))
    return quantize(
        network,
        Precision.INT8,
        statistics,
        activations=Activations.PER_TENSOR,
        break_even=BreakEven(pay_from, pay_from, asks_tokens=asks_tokens)
        if pay_from
        else INTEGERS_ALWAYS,
    )


def computed(path: Path, pixels: np.ndarray, target: str = "onnx") -> np.ndarray:
    session = runtime_for(Target(target, "cpu")).open(path, "cpu")
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
    none = {each.name for each in images_of_convolutions(network, is_convolution)}
    assert not none & {"thin.a", "thin/silu", "wide.a"}
    assert {"stem/relu", "middle", "last"} <= none


def test_thin_layers_stay_float_and_wide_ones_become_integers() -> None:
    network = stages()
    # 24 x 48 / 72 and 24 x 24 x 9 / 240 are less than 100; 432 x 256 / 688 is more.
    wide = {"middle", "wide.a", "wide.b", "tokens.a"}
    assert set(in_integers(network, 100).recipe.weights) == wide
    every_linear = {"thin.a", "thin.b", "wide.a", "wide.b", "tokens.a"}
    assert set(in_integers(network, 0).recipe.weights) == every_linear


def test_thin_layers_of_tokens_stay_float_where_the_runtime_multiplies_them_faster() -> None:
    wide = {"middle", "wide.a", "wide.b"}
    assert set(in_integers(stages(), 100, asks_tokens=True).recipe.weights) == wide
    # 24 x 24 / 48 is 12: what stands between convolutions is measured as tokens are.
    assert "thin.a" in in_integers(stages(), 12, asks_tokens=True).recipe.weights


def test_thin_layers_are_integers_where_there_are_no_others() -> None:
    all_thin = in_integers(stages(), 1000, asks_tokens=True)
    assert set(all_thin.recipe.weights) == set(in_integers(stages(), 0).recipe.weights)


def test_a_convolution_before_attention_stays_float() -> None:
    made = Random(12)
    stem = made.convolution("stem", made.image(16), 128, (3, 3), strides=(2, 2), padding=SAME)
    x = made.convolution("before", stem, 128, (3, 3), padding=SAME)
    rows = made.net("rows", Reshape((64, 128)), x)
    mixed = made.net(
        "mixed", Product(), made.net("scores", Product(transposed=True), rows, rows), rows
    )
    image = made.net("image", Reshape((8, 8, 128)), made.norm("norm", mixed))
    x = made.convolution("behind", image, 128, (3, 3), padding=SAME)
    network = made.network(map=made.convolution("map", x, 1, (3, 3), padding=SAME))
    assert set(in_integers(network, 60).recipe.weights) == {"behind"}


def test_a_float_file_turns_images_only_where_tokens_are_read(tmp_path: Path) -> None:
    network, pixels = stages(), pixels_of(stages(), 3, seed=2)
    path = written(quantize(network, Precision.FP32), tmp_path)
    found, expected = computed(path, pixels), forward(network, pixels)
    assert np.abs(found - expected).max() < 2e-5 * np.ptp(expected)  # sums in another order
    # Of the pixels, of the squeezed image, of its gate, and before the norm.
    assert operators(path)["Transpose"] == 4
    assert operators(path)["Conv"] == 3 + 4


@pytest.mark.parametrize("pay_from", [0, 20, 100])
def test_an_integer_file_computes_what_its_source_does(tmp_path: Path, pay_from: float) -> None:
    network, pixels = stages(), pixels_of(stages(), 3, seed=2)
    expected = forward(network, pixels)
    path = written(in_integers(network, pay_from), tmp_path)
    noise = np.square(computed(path, pixels) - expected).sum() / np.square(expected).sum()
    assert -10 * np.log10(noise) > 24  # as of the other networks with 8-bit inputs
    windows = {0: 0, 20: 2, 100: 1}[pay_from]  # of "last", too
    assert operators(path)["Pad"] == windows
    assert operators(path)["Slice"] == 9 * windows


def test_windows_of_several_images_are_those_of_each(tmp_path: Path) -> None:
    import onnx

    pixels = pixels_of(stages(), 2, seed=2)
    path = written(in_integers(stages(), 100), tmp_path)
    alone = computed(path, pixels[:1])
    onnx.save(with_any_batch(onnx.load(str(path))), str(path))
    import onnxruntime

    options = onnxruntime.SessionOptions()
    multiply_exactly(options)
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"pixels": np.repeat(pixels[:1], 3, 0).astype(np.float32)})
    assert np.abs(found - alone).max() < 1e-5 * np.ptp(alone)


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.INT8])
def test_openvino_files_do_so_with_integers_too(tmp_path: Path, precision: Precision) -> None:
    import openvino

    network, pixels = stages(), pixels_of(stages(), 3, seed=2)
    made = quantize(
        network,
        precision,
        calibrate(network, list(pixels_of(network, 16, seed=1))),
        activations=Activations.STATIC_OR_TOKEN_SCALED,
        costly_below_db=None,
    )
    path = written(made, tmp_path, Format.OPENVINO)
    expected = forward(network, pixels)
    noise = np.square(computed(path, pixels, "openvino") - expected).sum()
    assert -10 * np.log10(noise / np.square(expected).sum()) > 24  # bfloat16, or 8-bit inputs
    found = Counter(each.get_type_name() for each in openvino.Core().read_model(path).get_ops())
    # Of the pixels, of the squeezed image, of its gate, and before the norm.
    assert (found["Transpose"], found["Convolution"]) == (4, 3 + 4)
    assert found["FakeQuantize"] == (5 if precision is Precision.INT8 else 0)


def test_tokens_that_openvino_scales_are_not_convolved(tmp_path: Path) -> None:
    import openvino

    network, pixels = stages(), pixels_of(stages(), 3, seed=2)
    made = quantize(
        network,
        Precision.INT8,
        calibrate(network, list(pixels_of(network, 16, seed=1))),
        activations=Activations.STATIC_OR_TOKEN_SCALED,
        costly_below_db=300.0,
    )
    assert "wide.b" in made.recipe.token_scaled
    path = written(made, tmp_path, Format.OPENVINO)
    expected = forward(network, pixels)
    noise = np.square(computed(path, pixels, "openvino") - expected).sum()
    assert -10 * np.log10(noise / np.square(expected).sum()) > 24
    operators = openvino.Core().read_model(path).get_ops()
    names = {
        each.get_friendly_name() for each in operators if "Convolution" in each.get_type_name()
    }
    assert "wide.b/product" not in names


def test_openvino_convolves_integers(tmp_path: Path) -> None:
    import openvino

    network = stages()
    images = list(pixels_of(network, 16, seed=1))
    activations = Activations.STATIC_OR_TOKEN_SCALED
    made = quantize(
        network,
        Precision.INT8,
        calibrate(network, images),
        activations=activations,
        images=lambda: images,
        break_even=BreakEven(0, 10, convolves=True, convolves_pixels=True, in_stages=True),
    )
    convolutions = {"stem", "middle", "last"}
    assert convolutions < set(made.recipe.weights)
    path = written(made, tmp_path, Format.OPENVINO)
    nodes = openvino.Core().read_model(path).get_ordered_ops()
    rounded = {
        node.get_friendly_name()
        for node in nodes
        if node.get_type_name() == "Convolution"
        and node.input_value(0).get_node().get_type_name() == "FakeQuantize"
    }
    assert {f"{name}/product" for name in convolutions} <= rounded
    pixels = pixels_of(network, 8, seed=2)
    wanted = simulate(made.network, made.recipe, pixels, activations=activations)
    exact = forward(network, pixels)
    found = computed(path, pixels, "openvino")
    # Where numbers lie between two integers an order of additions decides, so the errors differ.
    assert np.square(found - exact).sum() < 2 * np.square(wanted - exact).sum()
