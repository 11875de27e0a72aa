"""Weights of convolutions make up for one another's errors, and biases for what is left."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.networks import Random
from vitedge.network.evaluate import evaluate
from vitedge.network.kinds import Activation
from vitedge.network.network import Network
from vitedge.network.operators import Activate, Array
from vitedge.quantize import Recipe
from vitedge.quantize.calibrate import calibrate
from vitedge.quantize.convolutions import convolution_weights, rounded_convolutions
from vitedge.quantize.simulate import with_integer_weights
from vitedge.targets.precisions import Precision

PADDING = ((1, 1), (1, 1))


def images(seed: int, count: int) -> list[np.ndarray]:
    """Smooth pictures: neighbours are alike, as in photos."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (count, 6, 6, 3)).repeat(4, 1).repeat(4, 2)
    return list((coarse * 0.8 + rng.integers(0, 50, coarse.shape)).astype(np.uint8))


def network(strides: tuple[int, int]) -> Network:
    """Numbers of a GELU, whose mean is not zero, in a convolution."""
    made = Random(21)
    stem = made.convolution("stem", made.image(24), 12, (3, 3), padding=PADDING)
    x = made.net("stem/gelu", Activate(Activation.GELU), stem)
    return made.network(
        map=made.convolution("dense", x, 24, (3, 3), strides=strides, padding=PADDING)
    )


@pytest.mark.parametrize("strides", [(1, 1), (2, 2)])
def test_feedback_leaves_less_error_than_the_nearest_integers(strides: tuple[int, int]) -> None:
    exact = network(strides)
    statistics = calibrate(exact, images(1, 12))
    shown = np.stack(images(2, 6))
    wanted = evaluate(exact, shown)["map"]

    def error(rounded: Network, weights: dict[str, object]) -> Array:
        recipe = Recipe(Precision.INT8, weights=weights)  # type: ignore[arg-type]
        return evaluate(with_integer_weights(rounded, recipe), shown)["map"] - wanted

    nearest = error(exact, dict(convolution_weights(exact, ["dense"])))
    rounded, weights = rounded_convolutions(exact, ["dense"], statistics)
    fed_back = error(rounded, dict(weights))
    assert np.square(fed_back).mean() < np.square(nearest).mean() / 2
    # Biases make up for what is left on average: of new images, most of it.
    mean_of = [np.square(each.mean((0, 1, 2))).mean() for each in (fed_back, nearest)]
    assert mean_of[0] < mean_of[1] / 4


def test_windows_are_in_the_order_of_the_weights() -> None:
    exact = network((2, 2))
    statistics = calibrate(exact, images(1, 8))
    dense = next(each for each in exact.values if each.name == "dense")
    weight = dense.operator.weight  # type: ignore[union-attr]
    made = evaluate(exact, np.stack(images(1, 8)))["map"]
    windows = statistics.windows["dense"]
    predicted = windows.mean @ weight.reshape(-1, weight.shape[-1]) + dense.operator.bias  # type: ignore[union-attr]
    # Every window of these images enters the mean: 12 x 12 are fewer than twice the most.
    np.testing.assert_allclose(predicted, made.mean((0, 1, 2)), rtol=1e-3, atol=1e-4)
