"""Weights of convolutions make up for one another's errors, and biases for what is left."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.networks import Random
from vitedge.network.evaluate import evaluate
from vitedge.network.kinds import Activation
from vitedge.network.network import Network
from vitedge.network.operators import (
    Activate,
    Array,
    Convolution,
    Mean,
    Product,
    Reshape,
    Softmax,
)
from vitedge.quantize import Activations, Recipe, stage_convolutions
from vitedge.quantize.break_even import BreakEven
from vitedge.quantize.calibrate import calibrate
from vitedge.quantize.chosen_inputs import PIXELS, ranges_of_images
from vitedge.quantize.convolutions import convolution_weights, rounded_convolutions
from vitedge.quantize.recipe import Quantized, quantize
from vitedge.quantize.simulate import simulate, with_integer_weights
from vitedge.quantize.worth import time_of
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


def decibels_of(made: Quantized, exact: Network) -> float:
    """The signal over the error of the images that the rule looks at."""
    shown = np.stack(images(1, 12)[:4])
    found = simulate(made.network, made.recipe, shown, activations=Activations.PER_TOKEN)
    wanted = evaluate(exact, shown)["logits"]
    return float(10 * np.log10(np.square(wanted).sum() / np.square(found - wanted).sum()))


def test_convolutions_between_stages_become_integers_where_they_save_enough_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    exact = between_stages()
    names = ["first", "second"]
    before = in_integers(exact, in_stages=False)
    assert not set(names) & set(before.recipe.weights)
    times = {each.name: time_of(each) for each in exact.values}
    counts = set()
    for each_percent in (0.0, 0.002, 0.005, 0.5, 100.0):
        monkeypatch.setattr(stage_convolutions, "WORTHWHILE_DB", 100 * each_percent)
        made = in_integers(exact, in_stages=True)
        now = [name for name in names if name in made.recipe.weights]
        # The first ones stay float: what they lose passes through all that is behind.
        assert now == names[len(names) - len(now) :]
        share = sum(times[name] for name in now) / sum(times.values())
        lost = decibels_of(before, exact) - decibels_of(made, exact)
        assert lost <= 100 * each_percent * share + 0.01
        words = made.recipe.description
        assert [*filter(None, words.get("convolutions in integers", "").split(", "))] == now
        assert not {*now} & {*words["float layers"].split(", ")}
        counts.add(len(now))
    assert counts >= {0, 2}
    assert "stem" in made.recipe.description["float layers"]


def convolution(window: int, channels: int, outputs: int, stride: int = 1) -> Convolution:
    """Of zeros."""
    weight = np.zeros((window, window, channels, outputs), np.float32)
    return Convolution(weight, np.zeros(outputs, np.float32), (stride, stride))


def test_the_size_of_a_convolution_is_its_products_over_what_is_quantized() -> None:
    window_by_window, at_once = BreakEven(0, 20), BreakEven(0, 20, convolves=True)
    # 1728 x 17 / 1745 is 17; an image that is quantized once has 192 x 9 x 17 / 209, which is 140.
    head = convolution(3, 192, 17)
    assert not window_by_window.takes_convolution(head)
    assert at_once.takes_convolution(head)
    # One output takes as long as 16: 9 x 4 x 16 / 20 is 29, but 9 x 2 x 16 / 18 is 16.
    assert at_once.takes_convolution(convolution(3, 4, 1))
    assert not at_once.takes_convolution(convolution(3, 2, 1))
    # Windows that do not overlap are the same for both: 4 x 24 x 24 / 120 is 19.
    for each in (window_by_window, at_once):
        assert not each.takes_convolution(convolution(2, 24, 24, stride=2))
        assert each.takes_convolution(convolution(2, 32, 32, stride=2))
    assert not BreakEven(0, None, convolves=True).takes_convolution(head)


def test_pixels_are_convolved_in_integers_only_where_the_runtime_is_faster_so() -> None:
    exact = between_stages()
    shown = images(1, 12)
    statistics = calibrate(exact, shown)

    def taken(**of_pixels: bool) -> set[str]:
        made = quantize(
            exact,
            Precision.INT8,
            statistics,
            activations=Activations.STATIC_OR_TOKEN_SCALED,
            images=lambda: shown,
            break_even=BreakEven(0, 10, convolves=True, in_stages=True, **of_pixels),
        )
        found = {"stem", "first", "second"} & set(made.recipe.weights)
        assert not {"stem", "first", "second"} - found & set(made.recipe.inputs)
        return found

    assert taken(convolves_pixels=True) == {"stem", "first", "second"}
    assert taken() == {"first", "second"}


def test_images_are_rounded_between_all_numbers_that_they_can_have() -> None:
    made = Random(23)
    shifted = made.image(24)
    raw = made.convolution("raw", made.pixels, 8, (2, 2), strides=(2, 2))
    behind = made.convolution("behind", raw, 8, (3, 3))
    normed = made.convolution("normed", shifted, 8, (3, 3))
    exact = made.network(map=behind, other=normed)
    dim = [(each // 2 + 20).astype(np.uint8) for each in images(1, 8)]
    found = ranges_of_images(exact, ["raw", "behind", "normed"], calibrate(exact, dim))
    assert found["raw"] == PIXELS
    # Pixels have a range, whatever these images have; means and deviations are those of ``image``.
    assert (found["normed"].low, found["normed"].high) == pytest.approx((-2.5, 2.5))
    seen: list[Array] = []

    def see(name: str, image: Array) -> None:
        if name == "behind":
            seen.append(image)

    evaluate(exact, np.stack(dim), at_convolution=see)
    wanted = pytest.approx((seen[0].min(), seen[0].max()), rel=1e-4)
    assert (found["behind"].low, found["behind"].high) == wanted
