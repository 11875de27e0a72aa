"""The quantizer on networks that are no plain ViT: what it cannot place stays float, by name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest

from tests.support.models import random_images, random_network
from tests.support.networks import (
    convolutional_stages,
    pooled_by_attention,
    rope_and_swiglu,
    windows_with_bias,
)
from tests.support.random_attention import MIXERS
from tests.support.random_networks import Plan, assembled_network
from tests.support.random_operators import composed_network
from vitedge.network.evaluate import evaluate
from vitedge.network.network import Network
from vitedge.network.operators import Convolution, Linear, Product
from vitedge.network.structure import after_layers
from vitedge.quantize import Activations
from vitedge.quantize.calibrate import calibrate
from vitedge.quantize.plan import liftable
from vitedge.quantize.recipe import Quantized, quantize
from vitedge.quantize.sensitivity import rank_layers
from vitedge.quantize.simulate import simulate_outputs
from vitedge.quantize.trace import Kind, Tensor, trace
from vitedge.quantize.widths import operand_names
from vitedge.rewrite import apply_rewrites
from vitedge.targets.precisions import Precision

RUNS = [
    *((Precision.INT8, each) for each in Activations),
    (Precision.INT4, Activations.PER_TOKEN),
    (Precision.INT8_STATIC, Activations.STATIC),
    (Precision.W8A16, Activations.STATIC),
]

# Eight random images are few, and so are eight channels: 22.6 dB was the least of 8 bits in 110
# networks, 14.7 dB of 4 bits. Whatever computes something else is at 0 dB.
LEAST_DB = {Precision.INT4: 12.0}

MAKERS: list[Callable[[int], Network]] = [assembled_network, composed_network]
NAMED = [rope_and_swiglu, windows_with_bias, convolutional_stages, pooled_by_attention]


def sqnr_db(found: np.ndarray, wanted: np.ndarray) -> float:
    error = float(np.square(found.astype(np.float64) - wanted).sum())
    return float(10 * np.log10(np.square(wanted.astype(np.float64)).sum() / max(error, 1e-30)))


def check_floats(made: Quantized) -> None:
    """What has no integers is a name in the description, and no other layer is."""
    said = set(filter(None, made.recipe.description.get("float layers", "").split(", ")))
    layers = {
        each.name for each in made.network.values if isinstance(each.operator, Linear | Convolution)
    }
    assert said == layers - set(made.recipe.weights)
    known = after_layers(made.network)
    for value, _ in made.network.linears():
        if value.inputs[0] not in known and value.name in made.recipe.weights:
            # Nobody measured what an error costs there: raw pixels are integers without any.
            assert made.recipe.inputs[value.name].high in (255.0, 32767 / 128)


def check_every_precision(network: Network, n: int = 8) -> None:
    images, unseen = random_images(network, n, seed=1), random_images(network, 4, seed=2)
    statistics, wanted = calibrate(network, images), evaluate(network, unseen)
    for precision, activations in RUNS:
        make = partial(
            quantize,
            network,
            precision,
            statistics,
            activations=activations,
            images=lambda: images,
        )
        made = make()
        if not precision.all_integer:
            check_floats(made)
        found = simulate_outputs(made.network, made.recipe, unseen, activations=activations)
        for name, values in wanted.items():
            assert sqnr_db(found[name], values) > LEAST_DB.get(precision, 20.0), (precision, name)


@pytest.mark.thorough
@pytest.mark.parametrize("rewritten", [True, False], ids=["rewritten", "as it is"])
@pytest.mark.parametrize("make", MAKERS, ids=["elements", "operators"])
@pytest.mark.parametrize("seed", range(8))
def test_random_networks_compute_nearly_the_same_in_every_precision(
    make: Callable[[int], Network], seed: int, rewritten: bool
) -> None:
    network = make(seed)
    check_every_precision(apply_rewrites(network)[0] if rewritten else network)


@pytest.mark.parametrize("make", NAMED, ids=lambda make: make.__name__)
def test_gates_windows_and_pools_compute_nearly_the_same(make: Callable[[], Network]) -> None:
    # A pooled vector is one row an image, so few images show too little of its range.
    n = 64 if make is pooled_by_attention else 8
    check_every_precision(apply_rewrites(make())[0], n)


@pytest.mark.thorough
@pytest.mark.parametrize("attention", sorted(MIXERS))
def test_elements_that_integers_can_hold_are_not_refused(attention: str) -> None:
    prefix_tokens = 0 if attention == "windows" else 2
    plan = Plan(attention=attention, mlp="swiglu", pooling=None, prefix_tokens=prefix_tokens)
    network, _ = apply_rewrites(assembled_network(3, plan))
    # A pooled vector is one row an image, so few images show too little of its range.
    check_every_precision(network, 32)


def test_layers_on_one_value_share_their_statistics() -> None:
    network = rope_and_swiglu()
    inputs = calibrate(network, random_images(network, 2)).inputs
    assert set(inputs) == {name for name, _ in network.named_linears()}
    assert inputs["blocks.0.q"] is inputs["blocks.0.k"] is inputs["blocks.0.v"]
    assert inputs["blocks.0.q"] is not inputs["blocks.1.q"]


def test_every_output_counts() -> None:
    network = pooled_by_attention()
    images = random_images(network, 4)
    statistics = calibrate(network, images)
    outputs = evaluate(network, images).values()
    energy = sum(float(np.square(each.astype(np.float64)).sum()) for each in outputs) / len(images)
    assert statistics.logit_energy == pytest.approx(energy, rel=1e-5)
    made = quantize(network, Precision.INT8, statistics, activations=Activations.PER_TOKEN)
    ranked = rank_layers(made, images, activations=Activations.PER_TOKEN)
    assert {each.layer for each in ranked} == set(made.recipe.weights)


def test_a_layer_that_reads_a_constant_stays_float_and_is_named() -> None:
    network = pooled_by_attention()
    made = quantize(network, Precision.INT8, calibrate(network, random_images(network, 4)))
    assert "pool.q" not in made.recipe.weights
    assert "pool.q" in made.recipe.description["float layers"]


def test_a_convolution_stays_float_in_int8_and_is_an_integer_without_floats() -> None:
    network, _ = apply_rewrites(windows_with_bias())
    images = random_images(network, 4)
    statistics = calibrate(network, images)
    words = quantize(network, Precision.INT8, statistics).recipe.description["float layers"]
    assert words == "head, stem"
    made = quantize(network, Precision.INT8_STATIC, statistics, images=lambda: images)
    (stem,) = (each for each in network.values if isinstance(each.operator, Convolution))
    exact = stem.operator.weight.reshape(-1, stem.shape[-1])
    kept = made.recipe.weights["stem"]
    assert np.abs(kept.dequantized() - exact).max() < kept.scale.max()
    assert made.recipe.tensors["stem"].bits == 16  # it reads pixels, as first layers do


def test_only_what_writes_a_residual_stream_can_be_lifted_in_int8_static() -> None:
    network = rope_and_swiglu()
    assert {f"blocks.{index}.{part}" for index in range(2) for part in ("out", "fc2")} <= liftable(
        network, Precision.INT8_STATIC
    )
    assert liftable(random_network(), Precision.INT8_STATIC) == {
        f"blocks.{index}.{part}" for index in range(2) for part in ("out", "fc2")
    }
    assert liftable(network, Precision.W8A16) == frozenset()


def traced(network: Network) -> list[Tensor]:
    tensors: list[Tensor] = []

    def made(tensor: Tensor, x: np.ndarray) -> np.ndarray:
        tensors.append(tensor)
        return x

    trace(network, random_images(network, 1), made, lambda _name, x: x)
    return tensors


@pytest.mark.parametrize("make", [*NAMED, random_network], ids=lambda make: make.__name__)
def test_no_two_tensors_of_an_integer_graph_have_one_name(make: Callable[[], Network]) -> None:
    names = [each.name for each in traced(make())]
    assert len(names) == len(set(names))


def test_both_factors_of_a_product_are_narrow() -> None:
    """Turned queries and keys are sums, which are wide: they are made narrow to be read."""
    network = rope_and_swiglu()
    found = {each.name: each for each in traced(network)}
    for product, (first, second) in operand_names(network).items():
        if product.operator == Product(transposed=True):
            assert (found[first].kind, found[second].kind) == (Kind.LEFT, Kind.RIGHT)
            assert found[first].narrow
            assert found[second].narrow
        else:
            assert not {first, second} & set(found)
    assert found["blocks.0/gated"].narrow is False


@pytest.mark.parametrize("make", NAMED, ids=lambda make: make.__name__)
def test_a_trace_computes_the_outputs(make: Callable[[], Network]) -> None:
    network = make()
    images = random_images(network, 2)
    found = trace(network, images, lambda _tensor, x: x, lambda _name, x: x)
    for name, wanted in evaluate(network, images).items():
        # Shares are cut in two, and put together again.
        np.testing.assert_allclose(found[name], wanted, atol=1e-4, err_msg=name)
