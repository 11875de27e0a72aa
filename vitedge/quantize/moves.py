"""The exact moves that need measurements, one after the other, each unless it is left out.

They are rewrites, too: they ask the network, and abstain. But what they do depends on images that
an artefact does not hold, so they cannot be made again from its metadata; ``bases`` has what it
takes to compare an artefact's tensors nevertheless.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from vitedge.network.network import Network
from vitedge.quantize import Activations
from vitedge.quantize.input_statistics import Statistics
from vitedge.quantize.queries import BalanceWorthwhileQueries
from vitedge.quantize.shared import Images, Shared
from vitedge.quantize.smoothing import ScaleChannels
from vitedge.rewrite import MEASURED
from vitedge.rewrite.balance_queries import BalanceQueries


class Moved(NamedTuple):
    """A network that is easier to quantize, and what was done.

    Attributes:
        network: The network, which computes the same outputs.
        statistics: The statistics of that network.
        description: The moves in words.
        changed: Names of the moves that changed something, in order; of ``MEASURED``.
    """

    network: Network
    statistics: Statistics
    description: dict[str, str]
    changed: tuple[str, ...] = ()


def move_difficulty(
    network: Network,
    statistics: Statistics,
    activations: Activations,
    shared: Shared,
    *,
    rounds_queries: bool,
    without: Collection[str] = (),
    images: Images | None = None,
) -> Moved:
    """Centres, balances and scales what is between layers; the outputs stay.

    Args:
        network: The model, left unchanged.
        statistics: The statistics of this very network.
        activations: The runtime's treatment of the inputs of integer layers.
        shared: Keeps what is the same for all activations.
        rounds_queries: Whether queries and keys become integers of 8 bits.
        without: Moves to leave out, of ``vitedge.rewrite.MEASURED``.
        images: The images that the statistics are of; see ``Shared.centred_and_balanced``.
    """
    changed = list(shared.moves(network, statistics, without))
    network, statistics = shared.centred_and_balanced(network, statistics, without, images)
    queries, scaling = BalanceWorthwhileQueries(), ScaleChannels(activations)
    if rounds_queries and queries.name not in without:
        balanced, statistics = queries.apply(network, statistics)
        changed += [queries.name] if balanced is not network else []
        network = balanced
    description: dict[str, str] = {}
    if scaling.name not in without:
        scaled, statistics, exponents = scaling.apply(network, statistics)
        changed += [scaling.name] if scaled is not network else []
        network = scaled
        moved = sum(exponent > 0 for exponent in exponents.values())
        description["smoothing"] = f"channels scaled at {moved} of {len(exponents)} inputs"
    if left_out := [name for name in MEASURED if name in without]:
        description["left out"] = ", ".join(left_out)
    return Moved(network, statistics, description, tuple(changed))


def bases(network: Network) -> tuple[Network, ...]:
    """The network in each basis in which an artefact may hold what its layers make.

    Of all moves, ``scale-channels`` changes no layer's output but that of values, and centring adds
    a constant to keys and values. ``balance-queries`` changes queries and keys of one attention
    together, where the measured numbers say so, to a basis that is found from the weights alone. So
    there are two: as the network is, and with all queries and keys balanced. Values are in a basis
    that only the calibration images could tell; what mixes them is not.

    Args:
        network: Rewritten as the artefact's metadata says.
    """
    balanced = BalanceQueries().apply(network)
    return (network,) if balanced is network else (network, balanced)
