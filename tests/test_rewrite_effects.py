"""What each rewrite is for has happened, and where it must not happen it has not."""

from __future__ import annotations

import numpy as np
import pytest

from tests.models import random_vit
from vitedge.rewrite import apply_rewrites
from vitedge.spec import NormPosition, Pooling


def test_no_bias_scale_gamma_or_normalisation_is_left_in_a_plain_vit() -> None:
    vit, _ = apply_rewrites(random_vit())
    assert vit.config.raw_pixels
    assert vit.config.attention_scale == 1
    assert vit.config.pooled_queries_only
    for block in vit.blocks:
        assert not np.any(block.k.bias)
        assert not np.any(block.v.bias)
    for _, norm in vit.named_norms():
        np.testing.assert_array_equal(norm.gamma, 1)
        np.testing.assert_array_equal(norm.beta, 0)


def test_the_bias_of_normalised_keys_stays() -> None:
    vit, _ = apply_rewrites(random_vit(qk_norm=True))
    assert all(np.any(block.k.bias) for block in vit.blocks)


def test_a_post_norm_vit_keeps_the_gamma_that_feeds_its_sums() -> None:
    vit, _ = apply_rewrites(random_vit(norm_position=NormPosition.POST))
    assert all(np.any(block.norm1.gamma != 1) for block in vit.blocks)


@pytest.mark.parametrize("pooling", [Pooling.MEAN, Pooling.CLASS_AND_MEAN, Pooling.FLATTEN])
def test_all_queries_stay_where_the_head_reads_patches(pooling: Pooling) -> None:
    _, applied = apply_rewrites(random_vit(pooling=pooling))
    assert "pooled-queries-only" not in applied
