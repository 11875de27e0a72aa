"""Smoothing and balancing are exact: they move factors, and the statistics move along."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

from tests.models import random_images, random_vit
from tests.test_rewrite_exact import TOLERANCE, relative_difference, vits
from vitedge.elements.plain_vit import PlainViT
from vitedge.quantize import Activations
from vitedge.quantize.calibrate import calibrate
from vitedge.quantize.smoothing import balance_values, smooth
from vitedge.rewrite import apply_rewrites


@given(vit=vits())
@settings(max_examples=30, deadline=None, derandomize=True)
def test_balanced_and_smoothed_models_compute_the_same(vit: PlainViT) -> None:
    vit, _ = apply_rewrites(vit)
    balanced, statistics = balance_values(vit, calibrate(vit, random_images(vit, 6)))
    smoothed, _, _ = smooth(balanced, statistics, Activations.STATIC)
    assert relative_difference(vit, smoothed) < TOLERANCE


@pytest.mark.parametrize("activations", list(Activations))
def test_moved_statistics_are_those_of_the_moved_model(activations: Activations) -> None:
    vit, _ = apply_rewrites(random_vit(dim=48))
    images = random_images(vit, 8)
    moved, statistics = balance_values(vit, calibrate(vit, images))
    moved, statistics, _ = smooth(moved, statistics, activations)
    measured = calibrate(moved, images)
    for name, known in statistics.inputs.items():
        fresh = measured.inputs[name]
        # Second moments run through two basis changes in float32.
        np.testing.assert_allclose(known.mean, fresh.mean, atol=1e-3, err_msg=name)
        scale = np.abs(fresh.moments).max()
        np.testing.assert_allclose(known.moments / scale, fresh.moments / scale, atol=1e-3)
