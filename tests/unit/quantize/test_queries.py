"""Queries and keys are rounded in a better basis where there is one, and nothing else changes."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings

from tests.contract.test_rewrites import TOLERANCE, networks, relative_difference
from tests.support.models import random_images, random_network
from vitedge.network.network import Network, map_linears
from vitedge.network.operators import Linear
from vitedge.network.routes import meetings
from vitedge.quantize.calibrate import calibrate
from vitedge.quantize.queries import BalanceWorthwhileQueries
from vitedge.rewrite import apply_rewrites


def with_large_channels(network: Network, factor: float, block: str = "blocks.") -> Network:
    """The same scores by a query channel that is large, and a key channel that is small."""
    factors = {}
    for meeting in meetings(network):
        large = np.ones(meeting.queries.shape[-1], np.float32)
        for queries, _ in meeting.heads:
            large[queries[0]] = factor
        if meeting.queries.name.startswith(block):
            factors |= {meeting.queries.name: large, meeting.keys.name: 1 / large}

    def changed(name: str, layer: Linear) -> Linear:
        if name not in factors:
            return layer
        return Linear(layer.weight * factors[name], layer.bias * factors[name])

    return map_linears(network, changed)


@given(network=networks())
@settings(max_examples=30, deadline=None, derandomize=True)
def test_balanced_queries_compute_the_same(network: Network) -> None:
    rewritten, _ = apply_rewrites(network)
    large = with_large_channels(rewritten, 30.0)
    statistics = calibrate(large, random_images(network, 3))
    balanced, _ = BalanceWorthwhileQueries().apply(large, statistics)
    assert relative_difference(large, balanced) < TOLERANCE


def test_only_blocks_with_outliers_get_another_basis() -> None:
    plain, _ = apply_rewrites(random_network(dim=48, head_dim=16))
    statistics = calibrate(plain, random_images(plain, 8))
    mixed = with_large_channels(plain, 60.0, "blocks.1")
    balanced, _ = BalanceWorthwhileQueries().apply(mixed, statistics)
    before, large, after = (dict(each.named_linears()) for each in (plain, mixed, balanced))
    assert after["blocks.0.q"] is before["blocks.0.q"]
    largest = np.abs(large["blocks.1.q"].weight).max()
    assert np.abs(after["blocks.1.q"].weight).max() < largest / 5
