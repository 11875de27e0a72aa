"""Every rewrite leaves the logits as they are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.models import random_images, random_network
from vitedge.elements.kinds import NormPosition, Pooling
from vitedge.errors import UsageError
from vitedge.network.evaluate import forward
from vitedge.network.kinds import Activation, NormKind
from vitedge.network.network import Network
from vitedge.rewrite import Rewrite, apply_rewrites, rewrites

# Rounding of float32 (6e-8) grows with the few hundred operations on the longest path and with
# the reordering of sums; a wrong formula is off by tenths.
TOLERANCE = 2e-5


@st.composite
def networks(draw: st.DrawFn) -> Network:
    heads, head_dim = draw(st.sampled_from([(1, 4), (2, 6), (3, 8), (4, 4)]))
    return random_network(
        draw(st.integers(0, 2**16)),
        image_size=(16, 16),
        patch_size=draw(st.sampled_from([(4, 4), (8, 4)])),
        channels=draw(st.sampled_from([1, 3])),
        dim=draw(st.sampled_from([8, 12, 24])),
        depth=draw(st.integers(1, 3)),
        heads=heads,
        head_dim=head_dim,
        mlp_dim=draw(st.sampled_from([8, 20])),
        classes=5,
        prefix_tokens=draw(st.integers(2, 4)),
        pooling=draw(st.sampled_from(list(Pooling))),
        activation=draw(st.sampled_from([Activation.GELU, Activation.RELU])),
        norm_position=draw(st.sampled_from(list(NormPosition))),
        norm_kind=draw(st.sampled_from(list(NormKind))),
        qk_norm=draw(st.booleans()),
        input_norm=draw(st.booleans()),
        pooled_norm=draw(st.booleans()),
        head_hidden=draw(st.sampled_from([(), (7,)])),
    )


def relative_difference(network: Network, rewritten: Network) -> float:
    """Largest difference of logits over the range of the logits."""
    images = random_images(network, 2)
    before, after = forward(network, images), forward(rewritten, images)
    return float(np.abs(after - before).max() / np.ptp(before))


@pytest.mark.parametrize("rewrite", rewrites(), ids=lambda rewrite: rewrite.name)
@given(network=networks())
@settings(max_examples=40, deadline=None, derandomize=True)
def test_a_rewrite_alone_leaves_the_logits(rewrite: Rewrite, network: Network) -> None:
    assert relative_difference(network, rewrite.apply(network)) < TOLERANCE


@given(network=networks())
@settings(max_examples=60, deadline=None, derandomize=True)
def test_all_rewrites_together_leave_the_logits(network: Network) -> None:
    rewritten, _ = apply_rewrites(network, extra=[rewrite.name for rewrite in rewrites()])
    assert relative_difference(network, rewritten) < TOLERANCE


@pytest.mark.parametrize("rewrite", rewrites(), ids=lambda rewrite: rewrite.name)
def test_a_rewrite_leaves_its_argument_unchanged(rewrite: Rewrite) -> None:
    network = random_network(prefix_tokens=2, pooling=Pooling.DISTILLED)
    before = {name: array.copy() for name, array in network.named_arrays()}
    rewrite.apply(network)
    for name, array in network.named_arrays():
        np.testing.assert_array_equal(array, before[name])


@pytest.mark.parametrize(
    "rewrite",
    # A basis or a scale that was changed can be changed again.
    [each for each in rewrites() if not each.name.startswith(("rotate", "balance", "scale"))],
    ids=lambda rewrite: rewrite.name,
)
def test_a_rewrite_applied_twice_is_applied_once(rewrite: Rewrite) -> None:
    once = rewrite.apply(random_network())
    assert rewrite.apply(once) is once


def test_names_tell_what_was_applied_and_what_was_left_out() -> None:
    _, applied = apply_rewrites(random_network())
    assert applied[0] == "fold-input-normalization"
    assert applied[-1] == "pooled-queries-only"
    _, fewer = apply_rewrites(random_network(), without=["drop-key-bias"])
    assert set(applied) - set(fewer) == {"drop-key-bias"}


def test_a_misspelt_rewrite_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UsageError, match="did you mean 'drop-key-bias'"):
        apply_rewrites(random_network(), without=["drop-keys-bias"])
