"""What the recipes of one model for several runtimes have in common.

Runtimes differ in how they quantize inputs. Where that moves no scale between an input and its
weight, their recipes round the very same weight by the same statistics, and rounding is what
quantizing a large model takes its time for.
"""

from __future__ import annotations

from weakref import WeakKeyDictionary, ref

from vitedge.quantize import IntegerWeight
from vitedge.quantize.centring import centre_keys_and_values
from vitedge.quantize.input_statistics import InputStatistics, Statistics
from vitedge.quantize.smoothing import balance_values
from vitedge.vit import Array, ViT


class Shared:
    """Keeps, from one call of ``quantize`` to the next, what would come out the same.

    It serves one ViT and its statistics. What nobody else holds any more is forgotten.
    """

    def __init__(self) -> None:
        self._centred: tuple[ViT, Statistics, ViT, Statistics] | None = None
        self._integers: WeakKeyDictionary[
            InputStatistics, dict[tuple[str, int], tuple[ref[Array], IntegerWeight]]
        ] = WeakKeyDictionary()

    def centred_and_balanced(self, vit: ViT, statistics: Statistics) -> tuple[ViT, Statistics]:
        """Keys and values around zero, values in their best basis, and statistics of it."""
        known = self._centred
        if known is None or known[0] is not vit or known[1] is not statistics:
            moved = balance_values(*centre_keys_and_values(vit, statistics))
            known = self._centred = (vit, statistics, *moved)
        return known[2], known[3]

    def integers(
        self, name: str, weight: Array, watched: InputStatistics, bits: int
    ) -> IntegerWeight | None:
        """The integers of this very weight by these very statistics, if they were kept."""
        known = self._integers.get(watched, {}).get((name, bits))
        return known[1] if known is not None and known[0]() is weight else None

    def keep(
        self, name: str, weight: Array, watched: InputStatistics, integers: IntegerWeight
    ) -> None:
        """Keeps integers as long as their statistics live."""
        kept = self._integers.setdefault(watched, {})
        kept[name, integers.bits] = ref(weight), integers
