"""Models of any size lift: images of no square, one and four channels, large patches."""

from __future__ import annotations

import pytest

from tests.support.lift_spellings import SpelledViT, Spelling
from vitedge.elements.vision_transformer import network_of
from vitedge.importers.lift import lift
from vitedge.importers.lift.tensorflow_probe import TensorFlowProbe


@pytest.mark.parametrize(
    "spelling",
    [
        Spelling(image_size=(16, 40), channels=4),
        Spelling(image_size=(32, 64), patch_size=(32, 32), channels=1),
        Spelling(image_size=(24, 16), channels=4, channels_first=True),
    ],
    ids=["four channels", "grey, patches of 32", "four channels first"],
)
def test_models_of_any_size_lift(spelling: Spelling) -> None:
    model = SpelledViT(spelling)
    lifted = lift(TensorFlowProbe(model.call, spelling.image_shape, None))
    network = network_of(lifted.vit)
    assert network.image_shape == (*spelling.image_size, spelling.channels)
    assert lifted.proof.holds
