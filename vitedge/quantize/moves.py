"""The exact moves that need measurements, one after the other, each unless it is left out."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from vitedge.quantize import Activations
from vitedge.quantize.input_statistics import Statistics
from vitedge.quantize.queries import balance_queries
from vitedge.quantize.shared import Shared
from vitedge.quantize.smoothing import smooth
from vitedge.rewrite import BALANCE_QUERIES, MEASURED, SCALE
from vitedge.vit import ViT


class Moved(NamedTuple):
    """A ViT that is easier to quantize, statistics of it, and what was done in words."""

    vit: ViT
    statistics: Statistics
    description: dict[str, str]


def move_difficulty(
    vit: ViT,
    statistics: Statistics,
    activations: Activations,
    shared: Shared,
    *,
    rounds_queries: bool,
    without: Collection[str] = (),
) -> Moved:
    """Centres, balances and scales what is between layers; the logits stay.

    Args:
        vit: The model, left unchanged.
        statistics: Of this very ViT.
        activations: What the runtime does with the inputs of integer layers.
        shared: Keeps what is the same for all activations.
        rounds_queries: Whether queries and keys become integers of 8 bits.
        without: Moves to leave out, of ``vitedge.rewrite.MEASURED``.
    """
    vit, statistics = shared.centred_and_balanced(vit, statistics, without)
    if rounds_queries and BALANCE_QUERIES not in without:
        vit = balance_queries(vit, statistics)
    description: dict[str, str] = {}
    if SCALE not in without:
        vit, statistics, exponents = smooth(vit, statistics, activations)
        moved = sum(exponent > 0 for exponent in exponents.values())
        description["smoothing"] = f"channels scaled at {moved} of {len(exponents)} inputs"
    if left_out := [name for name in MEASURED if name in without]:
        description["left out"] = ", ".join(left_out)
    return Moved(vit, statistics, description)
