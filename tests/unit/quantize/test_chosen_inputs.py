"""Tokens are scaled one by one where the outputs gain enough for the time that it takes."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest

from tests.support.models import random_images, random_network
from tests.support.networks import Random
from vitedge.network.kinds import Activation
from vitedge.network.network import Network, macs_of
from vitedge.network.operators import Activate, Convolution, Mean, Reshape
from vitedge.quantize import Activations, Recipe, chosen_inputs
from vitedge.quantize.break_even import BreakEven
from vitedge.quantize.calibrate import calibrate
from vitedge.quantize.chosen_inputs import ChosenInput, _Finer, _worthwhile
from vitedge.quantize.recipe import quantize
from vitedge.quantize.worth import time_of
from vitedge.rewrite import apply_rewrites
from vitedge.targets.precisions import Precision


def finer(now: float, then: float, cost: float) -> _Finer:
    return _Finer(ChosenInput(None, error=now), ChosenInput(None, error=then), cost)


def recipe(network: Network, even: BreakEven) -> Recipe:
    statistics = calibrate(network, random_images(network, 16, seed=1))
    return quantize(
        network,
        Precision.INT8,
        statistics,
        activations=Activations.STATIC_OR_TOKEN_SCALED,
        costly_below_db=300.0,
        break_even=even,
    ).recipe


def test_the_dearer_scaling_is_the_fewer_inputs_are_scaled() -> None:
    network, _ = apply_rewrites(random_network(dim=32, mlp_dim=96))
    before = set(recipe(network, BreakEven()).token_scaled)
    assert set(recipe(network, BreakEven(of_scaling=0.1)).token_scaled) == before
    assert len(before) > 2
    for cost in (1.0, 2.0, 10.0):
        now = set(recipe(network, BreakEven(of_scaling=cost)).token_scaled)
        assert now <= before
        before = now
    assert not before


def test_tokens_of_thin_layers_are_left_to_the_runtime() -> None:
    network, _ = apply_rewrites(random_network(dim=32, mlp_dim=96))
    fc2, out = "blocks.0.fc2", "blocks.0.out"  # 96 numbers to 32, which is 24, and 32 to 32
    divided = recipe(network, BreakEven(of_divided_tokens=24))
    assert fc2 in divided.token_scaled
    assert out not in divided.token_scaled
    left = recipe(network, BreakEven(of_divided_tokens=25))
    assert not {fc2, out} & {*left.token_scaled, *left.inputs}
    assert {fc2, out} <= set(left.weights)


def test_what_gains_half_a_decibel_for_a_percent_is_taken() -> None:
    # Weights and finely rounded inputs make 2 x 0.1, so scaling leaves 0.2 of 1.1: 7.4 dB less.
    cheap, dear = finer(1.0, 0.1, 0.14), finer(1.0, 0.1, 0.16)
    assert _worthwhile([cheap], 0.0) == [cheap]
    assert _worthwhile([dear], 0.0) == []
    # Beside an error that stays, the same gain is less.
    assert _worthwhile([cheap], 1.0) == []


def test_what_gains_much_for_its_time_is_taken_without_the_rest() -> None:
    much, little = finer(1.0, 0.1, 0.01), finer(0.02, 0.001, 0.2)
    assert _worthwhile([little, much], 0.0) == [much]


def test_many_that_gain_little_alone_are_taken_for_what_they_gain_together() -> None:
    # One of them gains 0.4 dB for a percent and a half of the time, all of them 7.4 dB for 15.
    alike = [finer(0.1, 0.01, 0.014) for _ in range(10)]
    assert len(_worthwhile(alike, 0.0)) == 10
    assert _worthwhile(alike[:1], 0.9) == []


def test_what_takes_no_time_is_taken() -> None:
    free = finer(1e-6, 1e-7, 0.0)
    assert _worthwhile([free], 1.0) == [free]


@pytest.mark.parametrize("between", [True, False])
def test_an_image_between_convolutions_costs_twice(
    monkeypatch: pytest.MonkeyPatch, between: bool
) -> None:
    """It is turned for a layer whose tokens are scaled, and back behind it."""
    made = Random(3)
    x = made.convolution("stem", made.image(16), 32, (4, 4), strides=(4, 4))
    if not between:
        x = made.norm("norm", x)
    x = made.net("gelu", Activate(Activation.GELU), x)
    x = made.linear("layer", x, 32)
    pooled = made.net("pooled", Mean(0), made.net("rows", Reshape((16, 32)), x))
    network = made.network(logits=made.linear("head", pooled, 5))
    costs = []

    def watched(asked: Iterable[_Finer], others: float) -> list[_Finer]:
        costs.extend(each.cost for each in asked)
        return []

    monkeypatch.setattr(chosen_inputs, "_worthwhile", watched)
    assert not recipe(network, BreakEven(of_scaling=3.0)).token_scaled
    time = sum(map(time_of, network.values))
    assert costs == [3.0 * 16 * (32 + 32) * (2 if between else 1) / time]


def test_multiplications_are_those_of_all_outputs() -> None:
    made = Random(4)
    x = made.convolution("stem", made.image(16), 24, (3, 3), strides=(2, 2), padding=((1, 1),) * 2)
    tokens = made.net("rows", Reshape((64, 24)), x)
    network = made.network(map=made.linear("layer", tokens, 10))
    found = {each.name: macs_of(each) for each in network.values}
    assert found["layer"] == 64 * 24 * 10
    assert found["stem"] == 64 * 24 * 9 * 3
    assert found["rows"] == 0


def test_a_weight_of_one_token_takes_as_long_to_read_as_25_multiplications() -> None:
    made = Random(6)
    x = made.tokens()
    layer = made.linear("layer", x, 10)
    head = made.linear("head", made.net("pooled", Mean(0), layer), 7)
    assert time_of(layer) == max(x.shape[0], 25) * x.shape[1] * 10
    assert time_of(head) == 25 * 10 * 7


@pytest.mark.parametrize(("classes", "is_float"), [(1000, True), (8000, False)])
def test_a_head_of_more_than_a_million_weights_becomes_integers(
    classes: int, is_float: bool
) -> None:
    made = Random(8)
    net = made.net
    x = made.linear("wide", made.tokens(), 200)
    pooled = net("pooled", Mean(0), net("gelu", Activate(Activation.GELU), x))
    network = made.network(logits=made.linear("head", pooled, classes))
    images = random_images(network, 4, seed=1)
    activations = Activations.STATIC_OR_TOKEN_SCALED
    statistics = calibrate(network, images)
    found = quantize(network, Precision.INT8, statistics, activations=activations).recipe
    assert ("head" not in found.weights) is is_float
    # Four tokens are too few to fix a range.
    assert not {"head"} & {*found.inputs, *found.token_scaled}


def test_a_group_of_a_convolution_reads_its_own_channels() -> None:
    weight = np.zeros((3, 3, 2, 8), np.float32)
    made = Random(5)
    image = made.convolution("stem", made.image(8), 16, (1, 1))
    layer = Convolution(weight, np.zeros(8, np.float32), (1, 1), ((1, 1), (1, 1)), 8)
    value = made.net("grouped", layer, image)
    assert macs_of(value) == 8 * 8 * 8 * 9 * 2
