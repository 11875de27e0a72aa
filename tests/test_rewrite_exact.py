"""Every rewrite leaves the logits as they are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vitedge.vit import forward

from tests.models import random_images, random_vit
from vitedge.elements.plain_vit import PlainViT
from vitedge.errors import UsageError
from vitedge.rewrite import Rewrite, apply_rewrites, rewrites
from vitedge.spec import Activation, NormKind, NormPosition, Pooling

# Rounding of float32 (6e-8) grows with the few hundred operations on the longest path and with
# the reordering of sums; a wrong formula is off by tenths.
TOLERANCE = 2e-5


@st.composite
def vits(draw: st.DrawFn) -> PlainViT:
    heads, head_dim = draw(st.sampled_from([(1, 4), (2, 6), (3, 8), (4, 4)]))
    return random_vit(
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


def relative_difference(vit: PlainViT, rewritten: PlainViT) -> float:
    """Largest difference of logits over the range of the logits."""
    images = random_images(vit, 2)
    before, after = forward(vit, images), forward(rewritten, images)
    return float(np.abs(after - before).max() / np.ptp(before))


@pytest.mark.parametrize("rewrite", rewrites(), ids=lambda rewrite: rewrite.name)
@given(vit=vits())
@settings(max_examples=40, deadline=None, derandomize=True)
def test_a_rewrite_alone_leaves_the_logits(rewrite: Rewrite, vit: PlainViT) -> None:
    assert relative_difference(vit, rewrite.apply(vit)) < TOLERANCE


@given(vit=vits())
@settings(max_examples=60, deadline=None, derandomize=True)
def test_all_rewrites_together_leave_the_logits(vit: PlainViT) -> None:
    rewritten, _ = apply_rewrites(vit, extra=[rewrite.name for rewrite in rewrites()])
    assert relative_difference(vit, rewritten) < TOLERANCE


@pytest.mark.parametrize("rewrite", rewrites(), ids=lambda rewrite: rewrite.name)
def test_a_rewrite_leaves_its_argument_unchanged(rewrite: Rewrite) -> None:
    vit = random_vit(prefix_tokens=2, pooling=Pooling.DISTILLED)
    before = {name: array.copy() for name, array in vit.named_arrays()}
    rewrite.apply(vit)
    for name, array in vit.named_arrays():
        np.testing.assert_array_equal(array, before[name])


@pytest.mark.parametrize(
    "rewrite",
    # A basis or a scale that was changed can be changed again.
    [each for each in rewrites() if not each.name.startswith(("rotate", "balance", "scale"))],
    ids=lambda rewrite: rewrite.name,
)
def test_a_rewrite_applied_twice_is_applied_once(rewrite: Rewrite) -> None:
    once = rewrite.apply(random_vit())
    assert rewrite.apply(once) is once


def test_names_tell_what_was_applied_and_what_was_left_out() -> None:
    _, applied = apply_rewrites(random_vit())
    assert applied[0] == "fold-input-normalization"
    assert applied[-1] == "pooled-queries-only"
    _, fewer = apply_rewrites(random_vit(), without=["drop-key-bias"])
    assert set(applied) - set(fewer) == {"drop-key-bias"}


def test_a_misspelt_rewrite_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UsageError, match="did you mean 'drop-key-bias'"):
        apply_rewrites(random_vit(), without=["drop-keys-bias"])
