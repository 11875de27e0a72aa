"""Smoothing and balancing are exact: they move factors, and the statistics move along."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

from tests.contract.test_rewrites import TOLERANCE, networks, relative_difference
from tests.support.models import random_images, random_network
from vitedge.network.network import Network
from vitedge.quantize import Activations
from vitedge.quantize.calibrate import calibrate
from vitedge.quantize.smoothing import BalanceMeasuredValues, ScaleChannels
from vitedge.rewrite import apply_rewrites


@given(network=networks())
@settings(max_examples=30, deadline=None, derandomize=True)
def test_balanced_and_smoothed_models_compute_the_same(network: Network) -> None:
    network, _ = apply_rewrites(network)
    statistics = calibrate(network, random_images(network, 6))
    balanced, statistics = BalanceMeasuredValues().apply(network, statistics)
    smoothed, _, _ = ScaleChannels(Activations.STATIC).apply(balanced, statistics)
    assert relative_difference(network, smoothed) < TOLERANCE


@pytest.mark.parametrize("activations", list(Activations))
def test_moved_statistics_are_those_of_the_moved_model(activations: Activations) -> None:
    network, _ = apply_rewrites(random_network(dim=48))
    images = random_images(network, 8)
    moved, statistics = BalanceMeasuredValues().apply(network, calibrate(network, images))
    moved, statistics, _ = ScaleChannels(activations).apply(moved, statistics)
    measured = calibrate(moved, images)
    for name, known in statistics.inputs.items():
        fresh = measured.inputs[name]
        # Second moments run through two basis changes in float32.
        np.testing.assert_allclose(known.mean, fresh.mean, atol=1e-3, err_msg=name)
        scale = np.abs(fresh.moments).max()
        np.testing.assert_allclose(known.moments / scale, fresh.moments / scale, atol=1e-3)
