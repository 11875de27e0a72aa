"""Weights of convolutions make up for one another's errors, and biases for what is left."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.networks import Random
from vitedge.network.evaluate import evaluate
from vitedge.network.kinds import Activation
from vitedge.network.network import Network
from vitedge.network.operators import Activate, Array, Mean, Product, Reshape, Softmax
from vitedge.quantize import Activations, Recipe, stage_convolutions
from vitedge.quantize.break_even import BreakEven
from vitedge.quantize.calibrate import calibrate
from vitedge.quantize.convolutions import convolution_weights, rounded_convolutions
from vitedge.quantize.recipe import Quantized, quantize
from vitedge.quantize.simulate import simulate, with_integer_weights
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


def between_stages() -> Network:
    """Two convolutions that are wide enough for integers, and attention behind them."""
    made = Random(22)
    x = made.convolution("stem", made.image(24), 16, (3, 3), strides=(2, 2), padding=PADDING)
    x = made.net("stem/gelu", Activate(Activation.GELU), x)
    x = made.convolution("first", x, 32, (3, 3), strides=(2, 2), padding=PADDING)
    x = made.net("first/gelu", Activate(Activation.GELU), x)
    x = made.convolution("second", x, 64, (3, 3), padding=PADDING)
    rows = made.norm("norm", made.net("rows", Reshape((36, 64)), x))
    scores = made.net("scores", Product(transposed=True), rows, rows)
    shares = made.net("shares", Softmax(), scores)
    mixed = made.net("mixed", Product(), shares, made.linear("values", rows, 64))
    pooled = made.net("pooled", Mean(0), made.linear("out", mixed, 64))
    return made.network(logits=made.linear("head", pooled, 10))


def in_integers(exact: Network, *, in_stages: bool) -> Quantized:
    """Rounded for a runtime that multiplies integers faster from a size of 20 on."""
    shown = images(1, 12)
    return quantize(
        exact,
        Precision.INT8,
        calibrate(exact, shown),
        activations=Activations.PER_TOKEN,
        images=lambda: shown,
        break_even=BreakEven(20, 20, in_stages=in_stages),
    )


def error_of(made: Quantized, exact: Network) -> float:
    """The error of the outputs of the images that the rule looks at."""
    shown = np.stack(images(1, 12)[:4])
    found = simulate(made.network, made.recipe, shown, activations=Activations.PER_TOKEN)
    return float(np.square(found - evaluate(exact, shown)["logits"]).sum())


def test_convolutions_between_stages_become_integers_where_the_outputs_bear_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    exact = between_stages()
    before = in_integers(exact, in_stages=False)
    assert not {"first", "second"} & set(before.recipe.weights)
    taken = set()
    for share in (0.0, 4.0, 1000.0):
        monkeypatch.setattr(stage_convolutions, "_SHARE_OF_OTHERS", share)
        made = in_integers(exact, in_stages=True)
        now = {"first", "second"} & set(made.recipe.weights)
        assert error_of(made, exact) <= (1 + share) * error_of(before, exact) * 1.001
        assert taken <= now
        words = made.recipe.description
        assert set(filter(None, words.get("convolutions in integers", "").split(", "))) == now
        assert not now & set(words["float layers"].split(", "))
        taken = now
    assert taken == {"first", "second"}
    assert "stem" in made.recipe.description["float layers"]
