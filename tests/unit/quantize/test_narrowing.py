"""Heads and hidden channels: what belongs together goes together, and the rest stands in for it."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.models import random_images, random_network
from tests.support.random_attention import MIXERS
from tests.support.random_networks import MLPS, Plan, assembled_network
from tests.support.random_weights import random_pixels
from vitedge.artifacts.narrowing import Removed
from vitedge.elements.kinds import Pooling
from vitedge.errors import ConversionError
from vitedge.network.coupled import Coupled, coupled
from vitedge.network.evaluate import evaluate
from vitedge.network.network import Network, with_operators
from vitedge.network.operators import Linear
from vitedge.quantize.calibrate import Statistics, calibrate
from vitedge.quantize.narrowing import chosen, removed
from vitedge.rewrite.pooled_queries_only import PooledQueriesOnly

# As for rewrites: rounding of float32 along the longest path.
TOLERANCE = 2e-5

MIXED = {name: Plan(attention=name, prefix_tokens=0, pooling=Pooling.MEAN) for name in MIXERS}
PLANS = {f"attention: {name}": plan for name, plan in MIXED.items()} | {
    f"MLP: {name}": Plan(mlp=name, prefix_tokens=0, pooling=Pooling.MEAN) for name in MLPS
}
PLANS |= {
    "class token": Plan(),
    "parallel": Plan(norms="parallel"),
    "sandwich": Plan(norms="sandwich"),
    "attention pooling": Plan(pooling=None),
    "stream too": Plan(outputs="stream too"),
}


def measured(network: Network, pixels: np.ndarray) -> Statistics:
    return calibrate(network, iter(pixels))


def unread(network: Network, place: Coupled, unit: int) -> Network:
    """The network whose layers do not read a unit."""
    operators = {}
    for reader in place.readers:
        layer = reader.operator
        assert isinstance(layer, Linear)
        weight = layer.weight.copy()
        weight[place.rows == unit] = 0
        operators[reader] = Linear(weight, layer.bias)
    return with_operators(network, operators)


@pytest.mark.parametrize("name", PLANS)
def test_what_nobody_reads_is_removed_without_a_change(name: str) -> None:
    network, pixels = assembled_network(3, PLANS[name]), random_pixels(2)
    for place in coupled(network):
        idle = unread(network, place, 1)
        removal = Removed(place.read.name, (1,), 2, heads=place.mixes_tokens)
        made = removed(idle, measured(idle, pixels), [removal])
        assert made.macs < network.macs
        expected = evaluate(idle, pixels)
        for output, values in evaluate(made, pixels).items():
            assert values.shape == expected[output].shape
            error = np.abs(values - expected[output]).max() / np.abs(expected[output]).max()
            assert error < TOLERANCE, (place, output)


@pytest.mark.parametrize(
    ("name", "heads", "hidden"),
    [("attention: rotary", 2, 2), ("MLP: swiglu", 2, 2), ("MLP: normed swiglu", 2, 0)],
)
def test_heads_and_hidden_channels_are_found_unless_a_norm_sees_all_of_them(
    name: str, heads: int, hidden: int
) -> None:
    found = coupled(assembled_network(3, PLANS[name]))
    assert [each.mixes_tokens for each in found].count(True) == heads
    assert [each.mixes_tokens for each in found].count(False) == hidden


def test_all_of_the_width_is_the_network_itself() -> None:
    network = random_network(5, depth=2)
    statistics = measured(network, random_images(network, 4))
    assert chosen(network, statistics, 1.0) == ()
    assert removed(network, statistics, ()) is network


@pytest.mark.parametrize("share", [0.95, 0.8, 0.6])
def test_the_share_counts_only_what_is_computed_in_the_end(share: float) -> None:
    network = random_network(5, depth=3)
    statistics = measured(network, random_images(network, 4))
    working = PooledQueriesOnly().apply(network)
    made = removed(network, statistics, chosen(network, statistics, share, working))
    left = PooledQueriesOnly().apply(made).macs / working.macs
    assert share - 0.1 < left <= share  # the last to go may be a head


def test_what_remains_stands_in_for_what_is_gone() -> None:
    network = random_network(5, depth=3)
    pixels = random_images(network, 24)
    statistics = measured(network, pixels[:16])
    removals = chosen(network, statistics, 0.8)
    expected = evaluate(network, pixels[16:])["logits"]

    def error(*, refit: bool) -> float:
        made = removed(network, statistics, removals, refit=refit)
        return float(np.square(evaluate(made, pixels[16:])["logits"] - expected).mean())

    assert error(refit=True) < error(refit=False)


def test_the_cheapest_go_first() -> None:
    """Channels that nobody reads cost nothing, so they are the ones that are chosen."""
    network = assembled_network(3, Plan(), depth=2)
    place = next(each for each in coupled(network) if not each.mixes_tokens)
    idle = unread(network, place, 7)
    found = chosen(idle, measured(idle, random_pixels(4)), 0.999)
    assert found == (Removed(place.read.name, (7,), 10, heads=False),)


def test_more_than_can_be_removed_is_refused() -> None:
    network = random_network(5, depth=2)
    statistics = measured(network, random_images(network, 4))
    with pytest.raises(ConversionError, match=r"less than narrower layers leave; take --width 0\."):
        chosen(network, statistics, 0.05)
    with pytest.raises(ConversionError, match="'nothing' has no such channels"):
        removed(network, statistics, [Removed("nothing", (0,), 2, heads=True)])
