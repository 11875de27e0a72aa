"""Gradients are those that small steps show, on networks of all operators."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest

from tests.support.merged_networks import merged_network
from tests.support.random_networks import assembled_network
from tests.support.random_operators import composed_network
from tests.support.random_weights import random_pixels
from vitedge.network.differentiate import record_gradients
from vitedge.network.evaluate import evaluate
from vitedge.network.network import Network, Value
from vitedge.network.operators import Array, Linear
from vitedge.network.structure import after_layers, layers_on, readers

# Length of the step over all numbers of an input. Rounding of the outputs is 1e-7, so of the
# difference 1e-4; its curvature leaves less, but where a maximum or a ReLU changes its mind.
_STEP = 3e-3
_TOLERANCE = 0.02


def gradients(
    network: Network, pixels: np.ndarray, directions: dict[str, Array]
) -> dict[Value, tuple[Array, Array | None]]:
    found: dict[Value, tuple[Array, Array | None]] = {}

    def keep(value: Value, x: Array, gradient: Array | None) -> None:
        found[value] = x.copy(), None if gradient is None else gradient.copy()

    outputs = record_gradients(network, pixels, directions, keep)
    for name, values in evaluate(network, pixels).items():
        np.testing.assert_array_equal(outputs[name], values)
    return found


def change(
    network: Network, pixels: np.ndarray, directions: dict[str, Array], value: Value, step: Array
) -> float:
    """How much the outputs change along the directions for a step at the layers on a value."""
    names = {each.name for each in layers_on(value, readers(network))}
    ends = []
    for sign in (1, -1):
        made = evaluate(
            network, pixels, lambda name, x, s=sign: x + s * step if name in names else None
        )
        ends.append(
            sum(
                float((each.astype(np.float64) * directions[name]).sum())
                for name, each in made.items()
            )
        )
    return (ends[0] - ends[1]) / 2


@pytest.mark.parametrize("seed", range(0, 30, 5))
@pytest.mark.parametrize("make", [assembled_network, composed_network, merged_network])
def test_gradients_are_those_of_small_steps(make: Callable[[int], Network], seed: int) -> None:
    compared: Counter[bool] = Counter()
    for each in range(seed, seed + 5):
        network, pixels, rng = make(each), random_pixels(each), np.random.default_rng(each)
        directions = {
            name: rng.standard_normal((2, *value.shape)).astype(np.float32)
            for name, value in network.outputs.items()
        }
        for value, (_, gradient) in gradients(network, pixels, directions).items():
            if gradient is None or np.linalg.norm(gradient) < 0.05:
                continue
            along = gradient / np.linalg.norm(gradient)
            step = (_STEP * along).astype(np.float32)
            found = change(network, pixels, directions, value, step) / _STEP
            expected = float(np.linalg.norm(gradient))
            compared[abs(found - expected) < _TOLERANCE * expected] += 1
    assert compared[True] > 5
    assert compared[False] <= compared[True] // 25  # where a step crosses a kink


def test_layers_on_pixels_have_no_gradient_and_all_others_one() -> None:
    network = assembled_network(1)
    directions = {
        name: np.ones((2, *value.shape), np.float32) for name, value in network.outputs.items()
    }
    found = gradients(network, random_pixels(), directions)
    read = {value.inputs[0] for value in network.values if isinstance(value.operator, Linear)}
    assert found.keys() == {each for each in read if not each.is_constant}
    behind = after_layers(network)
    for value, (x, gradient) in found.items():
        assert (gradient is not None) == (value in behind)
        if gradient is not None:
            assert gradient.shape == x.shape == (2, *value.shape)
