"""Networks whose tokens are merged on the way."""

from __future__ import annotations

from tests.support.models import random_network
from tests.support.random_networks import Plan, assembled_network, random_plan
from tests.support.random_weights import random_pixels
from vitedge.elements.kinds import Pooling
from vitedge.errors import ConversionError
from vitedge.network.network import Network
from vitedge.rewrite.alike_on_average import with_groups
from vitedge.rewrite.merge_tokens import Merging, merge_tokens

TWICE = (Merging(0, 2), Merging(1, 3))


def merged_network(seed: int) -> Network:
    """Of random elements, with tokens merged twice where they can be; else as it is."""
    network = assembled_network(seed, depth=3)
    try:
        return merge_tokens(network, TWICE)
    except ConversionError:
        return network


def can_merge(seed: int) -> bool:
    """Whether a random network has its tokens merged."""
    return random_plan(seed).attention in ("plain", "cosine", "layer norm", "RMS norm")


def merged_tokens() -> Network:
    """Classes of merged tokens, and tokens that are given back to each place."""
    plan = Plan(pooling=Pooling.CLASS_AND_MEAN, outputs="tokens too")
    return merge_tokens(assembled_network(3, plan, depth=3), TWICE)


def grouped_tokens() -> Network:
    """The same with tokens that are merged in every picture alike."""
    network = assembled_network(3, Plan(pooling=Pooling.MEAN, outputs="tokens too"), depth=3)
    return merge_tokens(network, with_groups(network, TWICE, lambda: iter(random_pixels(2))))


def merged_vit(pooling: Pooling = Pooling.CLASS) -> Network:
    """A plain ViT with merged tokens."""
    return merge_tokens(random_network(5, depth=3, pooling=pooling), TWICE)
