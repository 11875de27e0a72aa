"""Queries and keys are rounded in a better basis where there is one, and nothing else changes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given, settings

from tests.models import random_images, random_vit
from tests.test_rewrite_exact import TOLERANCE, relative_difference, vits
from vitedge.elements.plain_vit import Block, PlainViT
from vitedge.network.operators import Linear
from vitedge.quantize.calibrate import calibrate
from vitedge.quantize.queries import balance_queries
from vitedge.rewrite import apply_rewrites


def with_large_channels(vit: PlainViT, factor: float) -> PlainViT:
    """The same scores by a query channel that is large, and a key channel that is small."""
    factors = np.ones(vit.config.attention_dim, np.float32)
    factors[:: vit.config.head_dim] = factor

    def changed(block: Block) -> Block:
        return replace(
            block,
            q=Linear(block.q.weight * factors, block.q.bias * factors),
            k=Linear(block.k.weight / factors, block.k.bias / factors),
        )

    return vit.map_blocks(changed)


@given(vit=vits())
@settings(max_examples=30, deadline=None, derandomize=True)
def test_balanced_queries_compute_the_same(vit: PlainViT) -> None:
    rewritten, _ = apply_rewrites(vit)
    large = rewritten if vit.blocks[0].q_norm else with_large_channels(rewritten, 30.0)
    balanced = balance_queries(large, calibrate(large, random_images(vit, 3)))
    assert relative_difference(large, balanced) < TOLERANCE


def test_only_blocks_with_outliers_get_another_basis() -> None:
    plain, _ = apply_rewrites(random_vit(dim=48, head_dim=16))
    large = with_large_channels(plain, 60.0)
    statistics = calibrate(plain, random_images(plain, 8))
    mixed = replace(plain, blocks=(plain.blocks[0], large.blocks[1]))
    balanced = balance_queries(mixed, statistics)
    assert balanced.blocks[0] is plain.blocks[0]
    assert np.abs(balanced.blocks[1].q.weight).max() < np.abs(large.blocks[1].q.weight).max() / 5
