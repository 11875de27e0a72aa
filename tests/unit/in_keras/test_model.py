"""The Keras model computes what the reference computes, and survives saving."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from tests.support.merged_networks import merged_vit
from tests.support.models import random_images, random_network
from vitedge.elements.kinds import NormPosition, Pooling
from vitedge.images.preprocess import Preprocessing
from vitedge.in_keras.model import from_keras, to_keras
from vitedge.network.blocks import blocks, head_of
from vitedge.network.evaluate import evaluate, forward
from vitedge.network.kinds import MLP_ACTIVATIONS, Activation, NormKind
from vitedge.network.network import Builder, Network, Value, rebuilt
from vitedge.network.operators import (
    Activate,
    Add,
    Concatenate,
    Constant,
    Convolution,
    Linear,
    Mean,
    Multiply,
    Norm,
    Pixels,
    Pool,
    PoolKind,
    Product,
    Reshape,
    Resize,
    ResizeKind,
    Softmax,
    Standardize,
    Take,
    Transpose,
)
from vitedge.network.saved import described


@dataclass(frozen=True)
class Kind:
    name: str
    choices: dict[str, Any] = field(default_factory=dict)


KINDS = [
    Kind("plain"),
    Kind("distilled", {"prefix_tokens": 2, "pooling": Pooling.DISTILLED}),
    Kind("registers", {"prefix_tokens": 5}),
    Kind("mean of patches", {"prefix_tokens": 0, "pooling": Pooling.MEAN}),
    Kind("class and mean", {"pooling": Pooling.CLASS_AND_MEAN}),
    Kind("flattened", {"pooling": Pooling.FLATTEN}),
    Kind("all norms", {"qk_norm": True, "input_norm": True, "pooled_norm": True}),
    Kind(
        "pooled norm of two tokens",
        {"prefix_tokens": 2, "pooling": Pooling.DISTILLED, "pooled_norm": True},
    ),
    Kind("post-norm", {"norm_position": NormPosition.POST}),
    Kind("RMS norm", {"norm_kind": NormKind.RMS}),
    Kind("hidden layers in the head", {"head_hidden": (12, 7)}),
    Kind("grey, not square", {"channels": 1, "image_size": (16, 24), "patch_size": (4, 8)}),
    Kind("narrow heads", {"heads": 2, "head_dim": 5}),
    *(Kind(f"{activation}", {"activation": activation}) for activation in MLP_ACTIVATIONS),
]


@pytest.fixture(params=KINDS, ids=lambda kind: kind.name)
def network(request: pytest.FixtureRequest) -> Network:
    return random_network(**request.param.choices)


def assert_same(first: Network, second: Network) -> None:
    one, other = described(first), described(second)
    assert one[0] == other[0]
    assert one[1].keys() == other[1].keys()
    for name, array in one[1].items():
        assert array.dtype == other[1][name].dtype, name
        np.testing.assert_array_equal(array, other[1][name], err_msg=name)


def assert_computes(model: Any, network: Network) -> None:
    images = random_images(network)
    # Logits are of order 1; sums of some hundred float32 products in another order.
    np.testing.assert_allclose(model(images), forward(network, images), rtol=1e-4, atol=1e-4)


def test_it_computes_what_the_reference_computes(network):
    assert_computes(to_keras(network), network)


def test_there_and_back_changes_nothing(network):
    assert_same(from_keras(to_keras(network)), network)


def test_a_saved_model_comes_back_whole(network, tmp_path):
    path = tmp_path / "model.keras"
    to_keras(network, origin="by hand").save(path)
    model = keras.saving.load_model(path)
    assert model.origin == "by hand"
    assert_same(from_keras(model), network)
    assert_computes(model, network)


def test_raw_pixels_are_left_unnormalised():
    network = random_network()

    def without(value: Value, inputs: tuple[Value, ...]) -> Value | None:
        return inputs[0] if isinstance(value.operator, Standardize) else None

    raw = rebuilt(network, without)
    images = random_images(raw)
    # Pixels reach 255, so logits are of order 100.
    np.testing.assert_allclose(to_keras(raw)(images), forward(raw, images), rtol=1e-3, atol=1e-2)


def test_values_on_the_way_are_computed_and_taken_up():
    model = to_keras(random_network(head_hidden=(6,)))
    images = random_images(model.form)
    parts = blocks(model.form)
    features = head_of(model.form, parts)[0].inputs[0]
    first, made = model.compute([parts[0].end, features], images)
    assert made.shape == (2, *features.shape)
    for known in ({parts[0].end: first}, {features: made}):
        (logits,) = model.compute([model.form.logits], None, given=known)
        np.testing.assert_array_equal(logits, model(images))


def test_thinning_sees_the_branch_of_every_residual_sum():
    network = random_network(depth=3)
    model, images = to_keras(network), random_images(network)
    seen: list[str] = []

    def gone(name: str) -> Any:
        def thin(branch: Any) -> Any:
            seen.append(name)
            return 0 * branch

        return thin

    sums = [each for block in blocks(model.form) for each in block.sums]
    thin = {each.value: (each.branch, gone(each.branch.name)) for each in sums}
    parts = blocks(model.form)
    start, end = model.compute([parts[0].start, parts[-1].end], images, thin=thin)
    assert seen == [f"blocks.{index}.{layer}" for index in range(3) for layer in ("out", "fc2")]
    np.testing.assert_array_equal(start, end)


def every_operator() -> Network:
    """A network with each of the operators, and two outputs."""
    rng = np.random.default_rng(5)

    def array(*shape: int, scale: float = 0.4) -> np.ndarray:
        return (scale * rng.standard_normal(shape)).astype(np.float32)

    def linear(inputs: int, outputs: int) -> Linear:
        return Linear(array(inputs, outputs), array(outputs))

    net = Builder()
    x = net("pixels", Pixels(12, 12, 3))
    x = net("shifted", Standardize((0.5, 0.4, 0.3), (0.2, 0.3, 0.4)), x)
    padding = ((1, 1), (0, 2))
    x = net("stem", Convolution(array(3, 3, 3, 8), array(8), (2, 1), padding), x)
    x = net("depthwise", Convolution(array(3, 3, 1, 16), array(16), (1, 1), padding, 8), x)
    x = net("grouped", Convolution(array(2, 2, 4, 8), array(8), (1, 1), ((0, 0), (0, 0)), 4), x)
    x = net("pool/max", Pool(PoolKind.MAX, (3, 3), (1, 1), padding), x)
    x = net("pool/mean", Pool(PoolKind.AVERAGE, (3, 2), (1, 2), ((1, 1), (1, 0))), x)
    resized = [net(f"resized.{kind}", Resize(4, 4, kind), x) for kind in ResizeKind]
    x = net("beside", Concatenate(2), *resized)
    tokens = net("tokens", Reshape((16, 24)), x)
    shuffled = net("shuffled", Take(0, (3, 1, 1, 0)), tokens)
    probe = net("probe", Constant(array(2, 24)))
    q = net("q", linear(24, 8), net("l2", Norm(array(24), array(24), 1e-6, NormKind.L2), probe))
    k = net("k/rms", Norm(array(8), array(8), 1e-6, NormKind.RMS), net("k", linear(24, 8), tokens))
    table = net("table", Constant(array(16, 8)))
    k = net("k/turned", Multiply(), table, k)
    scores = net("scores", Product(transposed=True), q, k)
    factor = net("factor", Constant(np.asarray(0.3, np.float64)))
    double = net("double", Constant(np.asarray([[0.1, 1 / 3] * 8], np.float64)))
    scores = net("scaled", Multiply(), scores, net("factors", Multiply(), factor, double))
    shares = net("shares", Softmax(), scores)
    mixed = net("mixed", Product(), shares, net("v", linear(24, 8), tokens))
    turned = net("turned", Transpose((1, 0)), mixed)
    both = net("both", Concatenate(0), turned, net("more", Constant(array(1, 2))))
    vector = net("vector", Mean(1), both)
    gate = net("gate", Activate(Activation.SILU), net("gated", linear(9, 9), vector))
    vector = net("product", Multiply(), gate, vector)
    logits = net("logits", linear(9, 5), net("norm", Norm(array(9), array(9), 1e-6), vector))
    outputs = {"logits": logits, "rows": net("rows", Add(), shuffled, shuffled)}
    return net.network(outputs, Preprocessing(size=(12, 12)), tuple("abcde"))


def test_every_operator_computes_what_the_reference_computes(tmp_path):
    network = every_operator()
    images = random_images(network, 3)
    model = to_keras(network)
    found, wanted = model(images), evaluate(network, images)
    assert found.keys() == wanted.keys()
    for name, array in wanted.items():
        np.testing.assert_allclose(found[name], array, rtol=1e-4, atol=1e-4, err_msg=name)
    model.save(tmp_path / "model.keras")
    assert_same(from_keras(keras.saving.load_model(tmp_path / "model.keras")), network)


def test_tables_that_only_multiply_are_no_weights():
    model = to_keras(every_operator())
    names = {one.name for one in model.trainable_variables}
    assert {"probe.values", "more.values", "q.weight", "stem.bias"} <= names
    assert not names & {"table.values", "factor.values", "double.values"}


@pytest.mark.slow
@pytest.mark.parametrize("order", ["import keras; import vitedge", "import vitedge; import keras"])
def test_importing_vitedge_is_all_that_loading_needs(order: str, tmp_path: Path):
    path = tmp_path / "model.keras"
    network = random_network()
    to_keras(network).save(path)
    images = random_images(network)
    np.save(tmp_path / "images.npy", images)
    program = (
        f"{order}; import numpy; model = keras.saving.load_model({str(path)!r}); "
        f"images = numpy.load({str(tmp_path / 'images.npy')!r}); "
        f"numpy.save({str(tmp_path / 'logits.npy')!r}, model(images))"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    # The same operations in another process.
    np.testing.assert_allclose(
        np.load(tmp_path / "logits.npy"), forward(network, images), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("pooling", [Pooling.CLASS, Pooling.MEAN, Pooling.FLATTEN])
def test_merged_tokens_are_merged_alike_and_saved(pooling, tmp_path):
    network = merged_vit(pooling)
    path = tmp_path / "model.keras"
    to_keras(network).save(path)
    model = keras.saving.load_model(path)
    assert_same(from_keras(model), network)
    assert_computes(model, network)
