"""Layers stay float where integers would cost too much accuracy."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.models import random_images
from tests.support.networks import Random, lifted_far
from vitedge.artifacts.metadata import (
    FLOAT32_FOR_ACCURACY,
    FLOAT_FOR_ACCURACY,
    FLOAT_OF_LITTLE_WORK,
)
from vitedge.network.evaluate import forward
from vitedge.network.kinds import Activation
from vitedge.network.network import Network
from vitedge.network.operators import Activate, Add, Constant, Linear, Mean
from vitedge.quantize import Activations
from vitedge.quantize.calibrate import calibrate
from vitedge.quantize.float_layers import FLOOR_DB
from vitedge.quantize.recipe import Quantized, quantize
from vitedge.quantize.simulate import simulate
from vitedge.targets.precisions import Precision

WAYS = [Activations.PER_TOKEN, Activations.PER_TENSOR, Activations.STATIC_OR_TOKEN_SCALED]


def with_a_blind_gate(offset: float, outputs: int) -> Network:
    """A network with a layer of few outputs that does not see the offset of its input."""
    made = Random(7)
    net = made.net
    x = made.tokens()
    width = x.shape[-1]
    far = net("far", Constant(np.full(width, offset, np.float32)))
    weight = made.array(width, outputs, scale=width**-0.5)
    weight -= weight.mean(axis=0)
    moved = net("moved", Add(), x, far)
    gate = net("gate", Linear(weight, np.zeros(outputs, np.float32)), moved)
    x = net("gated", Add(), x, made.linear("opened", gate, width))
    for number in range(4):
        inner = net(f"gelu.{number}", Activate(Activation.GELU), made.linear(f"a.{number}", x, 64))
        x = net(f"mixed.{number}", Add(), x, made.linear(f"b.{number}", inner, width))
    return made.network(logits=made.linear("head", net("pooled", Mean(0), x), 5))


def in_integers(network: Network, activations: Activations, *, shown: bool = True) -> Quantized:
    images = random_images(network, 16, seed=1)
    return quantize(
        network,
        Precision.INT8,
        calibrate(network, images),
        activations=activations,
        images=(lambda: images) if shown else None,
    )


def sqnr_db(made: Quantized, network: Network, activations: Activations) -> float:
    unseen = random_images(network, 8, seed=2)
    wanted = forward(network, np.stack([*unseen]))
    found = simulate(made.network, made.recipe, np.stack([*unseen]), activations=activations)
    return float(10 * np.log10(np.square(wanted).sum() / np.square(found - wanted).sum()))


@pytest.mark.parametrize("activations", WAYS)
def test_the_layers_that_make_the_error_stay_float_and_no_others(activations: Activations) -> None:
    network = lifted_far(1000.0)
    coarse = in_integers(network, activations, shown=False)
    assert sqnr_db(coarse, network, activations) < FLOOR_DB
    made = in_integers(network, activations)
    assert made.recipe.description[FLOAT_FOR_ACCURACY] == "blind, blind.2"
    # An offset of a thousand leaves bfloat16 steps of four.
    assert FLOAT32_FOR_ACCURACY in made.recipe.description
    assert set(coarse.recipe.weights) - set(made.recipe.weights) == {"blind", "blind.2"}
    assert sqnr_db(made, network, activations) > FLOOR_DB
    for name, weight in made.recipe.weights.items():
        np.testing.assert_array_equal(weight.values, coarse.recipe.weights[name].values)


@pytest.mark.parametrize("activations", WAYS)
def test_integers_that_keep_the_floor_are_left_alone(activations: Activations) -> None:
    network = lifted_far(0.0)
    made, before = (in_integers(network, activations, shown=each) for each in (True, False))
    assert FLOAT_FOR_ACCURACY not in made.recipe.description
    assert made.recipe.weights.keys() == before.recipe.weights.keys()
    assert made.recipe.description == before.recipe.description


def test_no_more_layers_stay_float_than_the_floor_needs() -> None:
    network = lifted_far(1000.0, ("blind", "blind.2", "blind.3"))
    activations = Activations.PER_TENSOR
    floats = in_integers(network, activations).recipe.description[FLOAT_FOR_ACCURACY]
    assert set(floats.split(", ")) <= {"blind", "blind.2", "blind.3"}


def test_a_model_without_images_is_not_searched() -> None:
    network = lifted_far(1000.0)
    made = in_integers(network, Activations.PER_TENSOR, shown=False)
    assert FLOAT_FOR_ACCURACY not in made.recipe.description


@pytest.mark.parametrize("activations", WAYS)
def test_a_small_layer_that_makes_much_of_the_error_stays_float(activations: Activations) -> None:
    network = with_a_blind_gate(50.0, outputs=2)
    integers = in_integers(network, activations, shown=False)
    made = in_integers(network, activations)
    left = set(made.recipe.description[FLOAT_OF_LITTLE_WORK].split(", "))
    assert {"gate"} <= left <= {"gate", "opened"}
    assert FLOAT_FOR_ACCURACY not in made.recipe.description
    assert set(integers.recipe.weights) - set(made.recipe.weights) == left
    assert sqnr_db(made, network, activations) > sqnr_db(integers, network, activations) + 3


def test_a_layer_with_much_of_the_work_stays_in_integers() -> None:
    """As the one above, with a quarter of all multiplications."""
    network = with_a_blind_gate(50.0, outputs=256)
    made = in_integers(network, Activations.PER_TENSOR)
    assert "gate" in made.recipe.weights
    assert FLOAT_OF_LITTLE_WORK not in made.recipe.description
