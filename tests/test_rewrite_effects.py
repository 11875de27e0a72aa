"""What each rewrite is for has happened, and where it must not happen it has not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.models import random_vit
from vitedge.rewrite import apply_more, apply_rewrites
from vitedge.rewrite.scale_residual import PLUGIN as SCALE_RESIDUAL
from vitedge.spec import NormKind, NormPosition, Pooling


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


def test_a_scaled_stream_leaves_room_to_square_it_in_half_precision() -> None:
    vit, _ = apply_rewrites(random_vit())
    scaled = SCALE_RESIDUAL.apply(vit)
    for before, after in zip(vit.named_norms(), scaled.named_norms(), strict=True):
        assert after[1].eps == before[1].eps / 256
    np.testing.assert_array_equal(scaled.patch.weight * 16, vit.patch.weight)
    for before, after in zip(vit.blocks, scaled.blocks, strict=True):
        np.testing.assert_array_equal(after.fc2.bias * 16, before.fc2.bias)
        np.testing.assert_array_equal(after.fc1.weight, before.fc1.weight)


def test_massive_tokens_are_gone_from_a_centred_stream() -> None:
    vit = random_vit()
    massive = replace(vit, positions=vit.positions + np.float32(300))
    centred, applied = apply_rewrites(massive, extra=["centre-stream"])
    assert "centre-stream" in applied
    assert np.abs(centred.positions).max() < 2 * np.abs(vit.positions).max()


def test_norms_of_a_centred_stream_need_no_other_weights() -> None:
    vit, _ = apply_rewrites(random_vit(), extra=["centre-stream"])
    plain, _ = apply_more(vit, ["centre-residual"])
    assert plain.config.norm_kind is NormKind.RMS
    for (name, before), (_, after) in zip(vit.named_arrays(), plain.named_arrays(), strict=True):
        assert before is after, name


def test_a_post_norm_stream_is_not_scaled() -> None:
    vit = random_vit(norm_position=NormPosition.POST)
    assert SCALE_RESIDUAL.apply(vit) is vit
