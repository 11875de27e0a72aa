"""`--tokens`: a model with fewer tokens, and what that alone changes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vitedge.artifacts.token_merging import TokenMerging
from vitedge.images.image_sets import ImageSet
from vitedge.images.synthetic import synthetic_images
from vitedge.network.agreement import agreement
from vitedge.network.network import Network
from vitedge.network.operators import Match
from vitedge.quantize.cores import forward_each
from vitedge.rewrite.alike_on_average import with_groups
from vitedge.rewrite.merge_tokens import Merging
from vitedge.rewrite.token_schedule import Scheduled, scheduled, with_schedule
from vitedge.targets.scores import Scores

# Enough to see that merging is wrong for a model; how many points it costs, ``bench`` says.
_IMAGES = 32


@dataclass(frozen=True, eq=False)
class Merged:
    """A model with merged tokens.

    Attributes:
        network: The network.
        described: The places where tokens are merged, and the effect on the model.
    """

    network: Network
    described: TokenMerging


@dataclass(frozen=True)
class TokenOptions:
    """The number of tokens to merge, and the way.

    Attributes:
        share: The share of the multiply-accumulates that are left, between 0 and 1; None if the
            schedule says it.
        constant: Merge what is alike on average, the same tokens in every picture, for devices that
            cannot sort; else what is alike in each picture, which loses less.
        schedule: The places where tokens are merged, and how many; empty if they follow from the
            share.
    """

    share: float | None = None
    constant: bool = False
    schedule: tuple[Merging, ...] = ()


def merged_as(network: Network, options: TokenOptions, images: ImageSet | None) -> Merged:
    """The model with tokens merged as its options say.

    Args:
        network: Left unchanged.
        options: The number of tokens to merge, and how.
        images: Typical images: what tokens are alike on, and answers are counted on. None counts no
            answers, and finds tokens alike on synthetic images.

    Raises:
        ConversionError: Tokens cannot be merged, or not so many.
    """
    found = _scheduled(network, options)
    if options.constant:
        typical = images or synthetic_images(network.preprocessing, _IMAGES, seed=0)

        def each() -> Iterator[npt.NDArray[np.uint8]]:
            return (network.preprocessing(sample.image) for sample in typical.samples)

        found = with_schedule(network, with_groups(network, found.schedule, each))
    same, n = None, 0
    if images is not None:
        samples = images.samples[:_IMAGES]
        pixels = network.preprocessing.batch([sample.image for sample in samples])
        same, n = _agreement(network, found.network, pixels), len(samples)
    return Merged(found.network, _described(found, same, n))


def _scheduled(network: Network, options: TokenOptions) -> Scheduled:
    if options.share is None:
        return with_schedule(network, options.schedule)
    return scheduled(network, options.share)


def merged_again(network: Network, described: TokenMerging) -> Network:
    """The model with the tokens merged that an artefact says."""
    groups = described.groups or (None,) * len(described.blocks)
    steps = zip(described.blocks, described.tokens, groups, strict=True)
    return with_schedule(network, [Merging(*step) for step in steps]).network


def finds_alike(network: Network) -> bool:
    """Whether what it computes depends on a choice, which the last digit of a number may turn."""
    return any(isinstance(value.operator, Match) for value in network.values)


def _described(found: Scheduled, same: float | None, n: int) -> TokenMerging:
    blocks = tuple(each.block for each in found.schedule)
    tokens = tuple(each.tokens for each in found.schedule)
    groups = tuple(each.groups for each in found.schedule if each.groups is not None)
    n = n if same is not None else 0
    return TokenMerging(blocks, tokens, round(found.share, 4), same, n, groups)


def _agreement(network: Network, merged: Network, pixels: npt.NDArray[np.uint8]) -> float | None:
    before, after = (forward_each(each, pixels) for each in (network, merged))
    return agreement(network.task, after, before, Scores.LOGITS.middle)
