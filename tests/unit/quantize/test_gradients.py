"""The backward pass agrees with what the forward pass does to a small change."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.contract.test_rewrites import networks
from tests.support.models import random_images, random_network
from tests.support.random_networks import assembled_network
from tests.support.random_operators import composed_network
from vitedge.elements.kinds import NormPosition
from vitedge.network.differentiate import record_gradients
from vitedge.network.evaluate import evaluate
from vitedge.network.network import Network, Value
from vitedge.rewrite import apply_rewrites


def directions_for(network: Network, n: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    return {
        name: rng.standard_normal((n, *value.shape)).astype(np.float32)
        for name, value in network.outputs.items()
    }


def gradients_of(
    network: Network, images: np.ndarray, directions: dict[str, np.ndarray]
) -> dict[Value, np.ndarray]:
    gradients: dict[Value, np.ndarray] = {}

    def keep(value: Value, x: np.ndarray, gradient: np.ndarray | None) -> None:
        if gradient is not None:
            gradients[value] = gradient

    record_gradients(network, images, directions, keep)
    return gradients


def mispredicted(network: Network, seed: int) -> float:
    """By how much gradients are wrong about a small error at some layers' input, and its size."""
    images = random_images(network, 2)
    rng = np.random.default_rng(seed)
    directions = directions_for(network, 2, rng)
    gradients = gradients_of(network, images, directions)
    if not gradients:
        return 0.0
    value = list(gradients)[int(rng.integers(len(gradients)))]
    # Large enough to be seen through float32 rounding, small enough to be linear.
    error = 3e-3 * rng.standard_normal(gradients[value].shape).astype(np.float32)
    layers = {each.name for each, _ in network.linears() if each.inputs[0] is value}

    def moved(sign: int) -> float:
        def add(layer: str, x: np.ndarray) -> np.ndarray | None:
            return x + sign * error if layer in layers else None

        outputs = evaluate(network, images, add)
        return sum(float((outputs[name] * directions[name]).sum()) for name in outputs)

    predicted = float((gradients[value] * error).sum())
    size = float(np.abs(gradients[value] * error).sum())
    # A kink of ReLU or the curvature of a softmax leaves a hundredth of the terms' sizes.
    return abs((moved(1) - moved(-1)) / 2 - predicted) / (0.01 * size + 1e-4)


@given(network=networks(), rewritten=st.booleans(), seed=st.integers(0, 99))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_gradients_predict_what_a_small_error_does(
    network: Network, rewritten: bool, seed: int
) -> None:
    if rewritten:
        network, _ = apply_rewrites(network)
    assert mispredicted(network, seed) < 1


@pytest.mark.parametrize(
    "make", [assembled_network, composed_network], ids=["elements", "operators"]
)
def test_gradients_know_every_operator(make) -> None:
    assert [seed for seed in range(40) if mispredicted(make(seed), seed) > 1] == []


def test_a_recorded_gradient_is_that_of_linear_layers_alone_and_stays() -> None:
    """Behind a post-norm the residual sum reads what queries, keys and values read."""
    network = random_network(norm_position=NormPosition.POST)
    images = random_images(network, 2)
    directions = directions_for(network, 2, np.random.default_rng(0))
    at_once: dict[Value, np.ndarray] = {}

    def copy(value: Value, x: np.ndarray, gradient: np.ndarray | None) -> None:
        if gradient is not None:
            at_once[value] = gradient.copy()

    record_gradients(network, images, directions, copy)
    for value, gradient in gradients_of(network, images, directions).items():
        np.testing.assert_array_equal(gradient, at_once[value], err_msg=value.name)
