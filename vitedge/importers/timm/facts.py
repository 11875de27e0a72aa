"""The facts that timm's weights do not tell of a transformer over patches."""

from __future__ import annotations

from dataclasses import dataclass

from vitedge.elements.kinds import NormPosition
from vitedge.elements.rope import AxialPositions, Pairing
from vitedge.network.kinds import Activation

EPS, CLIP_EPS = 1e-6, 1e-5


@dataclass(frozen=True)
class Rotary:
    """Rotary positions; those of learned frequencies lie in the weights (``rope.freqs``).

    Attributes:
        positions: The way in which angles follow from places.
        pairing: The channels that are turned together.
        mixed: The frequencies are learned, for each block and head.
    """

    positions: AxialPositions
    pairing: Pairing
    mixed: bool = False


@dataclass(frozen=True)
class Facts:
    """The computation that neither names nor shapes of a model's weights tell.

    Attributes:
        activation: The activation of the MLPs; for gated ones the names of the weights tell more.
        eps: The epsilon of every norm.
        norms: The place of the norms.
        heads: The number of heads of each attention; None if nothing tells it.
        image: Height and width in pixels where no positions tell.
        pool: ``token``, ``avg``, ``map`` or empty; None where the weights have to tell.
        pool_heads: The number of heads of the attention pooling; None if it equals that of the
            blocks.
        pool_reads_prefix: The attention pooling reads class token and registers, too.
        rope: Rotary positions, or None.
    """

    activation: Activation = Activation.GELU
    eps: float = EPS
    norms: NormPosition = NormPosition.PRE
    heads: int | None = None
    image: tuple[int, int] | None = None
    pool: str | None = None
    pool_heads: int | None = None
    pool_reads_prefix: bool = False
    rope: Rotary | None = None
