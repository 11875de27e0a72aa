"""Saved models that have an importer by name are lifted to the same numbers without it."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from tests.support.golden_cases import golden_cases
from vitedge.elements.vision_transformer import network_of
from vitedge.importers.lift import lift
from vitedge.importers.lift.keras_files import open_keras_model
from vitedge.network.evaluate import forward

CASES = {case.name: case for case in golden_cases()}

# Probing rounds each entry of a matrix to float32, and two blocks add up.
TOLERANCE = 2e-5


@pytest.mark.skipif(
    importlib.util.find_spec("keras_hub") is None, reason="needs keras-hub: pip install keras-hub"
)
@pytest.mark.parametrize("name", ["keras_hub_vit", "keras_hub_deit", "keras_hub_averaged"])
def test_a_saved_model_of_keras_hub_is_lifted_as_well_as_read_by_name(name: str) -> None:
    case = CASES[name]
    preprocessing = case.preprocessing
    probe = open_keras_model(case.model).probe()
    lifted = lift(probe, mean=tuple(preprocessing["mean"]), std=tuple(preprocessing["std"]))
    images, logits = case.expected()
    difference = np.abs(forward(network_of(lifted.vit), images) - logits).max()
    assert difference <= TOLERANCE * np.ptp(logits)
    assert lifted.vit.config.depth == 2
