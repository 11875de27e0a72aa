"""The moves that need measurements leave what any network computes, and say what they changed."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from tests.contract.test_rewrites_of_random_networks import TOLERANCE, difference
from tests.support.models import random_images, random_network
from tests.support.random_networks import Plan, assembled_network
from tests.support.random_weights import random_pixels
from tests.unit.quantize.test_queries import with_large_channels
from vitedge.network.evaluate import evaluate
from vitedge.network.network import Network
from vitedge.quantize import Activations
from vitedge.quantize.calibrate import calibrate
from vitedge.quantize.moves import Moved, bases, move_difficulty
from vitedge.quantize.shared import Shared
from vitedge.rewrite import MEASURED, PREFIX_APART, apply_rewrites


def moved(network: Network, images: np.ndarray, without: tuple[str, ...] = ()) -> Moved:
    return move_difficulty(
        network,
        calibrate(network, images),
        Activations.STATIC,
        Shared(),
        rounds_queries=True,
        without=without,
    )


@pytest.mark.parametrize("seed", range(0, 60, 10))
def test_moves_leave_the_outputs_of_random_networks(seed: int) -> None:
    for each in range(seed, seed + 10):
        network, _ = apply_rewrites(assembled_network(each))
        made = moved(with_large_channels(network, 30.0), random_pixels(each, 4))
        expected = evaluate(network, random_pixels(each))
        assert difference(expected, made.network, each) < TOLERANCE, each


def test_every_move_changes_some_networks_and_says_so() -> None:
    changed: Counter[str] = Counter()
    for seed in range(12):
        network, _ = apply_rewrites(assembled_network(seed))
        large = with_large_channels(network, 30.0)
        changed.update(moved(large, random_pixels(seed, 4)).changed)
    # Tokens are told apart before, by another class.
    assert set(MEASURED) - changed.keys() <= {"scale-channels", PREFIX_APART}


def test_a_move_that_is_left_out_changes_nothing() -> None:
    network, _ = apply_rewrites(random_network())
    images = random_images(network, 8)
    made = moved(network, images, MEASURED)
    assert made.network is network
    assert made.changed == ()
    assert made.description["left out"] == ", ".join(MEASURED)
    assert moved(network, images, ("balance-values",)).changed[0] == "centre-keys-and-values"


def test_queries_are_in_one_of_two_bases() -> None:
    """What compare goes by: without the calibration images, the basis of a layer is one of them."""
    network, _ = apply_rewrites(random_network(dim=48, head_dim=16))
    large = with_large_channels(network, 60.0, "blocks.1")
    # Scaling changes what a layer reads and its weight, and leaves what queries and keys are.
    made = moved(large, random_images(network, 8), ("scale-channels",)).network
    plain, balanced = (dict(each.named_linears()) for each in bases(large))
    layers = dict(made.named_linears())
    for part in "qk":
        assert layers[f"blocks.0.{part}"].weight is plain[f"blocks.0.{part}"].weight
        found, expected = layers[f"blocks.1.{part}"], balanced[f"blocks.1.{part}"]
        np.testing.assert_array_equal(found.weight, expected.weight)


def test_a_network_without_plain_attentions_has_one_basis() -> None:
    network, _ = apply_rewrites(assembled_network(1, Plan(attention="rotary")))
    assert bases(network) == (network,)
