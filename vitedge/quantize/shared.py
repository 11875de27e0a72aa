"""What the recipes of one model for several runtimes have in common.

Runtimes differ in how they quantize inputs. Where that moves no scale between an input and its
weight, their recipes round the very same weight by the same statistics, and rounding is what
quantizing a large model takes its time for.
"""

from __future__ import annotations

from collections.abc import Collection
from weakref import WeakKeyDictionary, ref

from vitedge.quantize import IntegerWeight
from vitedge.quantize.centring import centre_keys_and_values
from vitedge.quantize.input_statistics import InputStatistics, Statistics
from vitedge.quantize.smoothing import balance_values
from vitedge.rewrite import BALANCE, CENTRE
from vitedge.rewrite.learnt_grid import Groups
from vitedge.vit import Array, ViT


class Shared:
    """Keeps, from one call of ``quantize`` to the next, what would come out the same.

    It serves the statistics of one ViT, for that and for others whose linear layers have the same
    inputs. Integers are forgotten with the statistics that they were found by.
    """

    def __init__(self) -> None:
        self._centred: dict[tuple[ViT, Statistics, frozenset[str]], tuple[ViT, Statistics]] = {}
        self._integers: WeakKeyDictionary[
            InputStatistics, list[tuple[ref[Array], Groups | None, IntegerWeight]]
        ] = WeakKeyDictionary()

    def centred_and_balanced(
        self, vit: ViT, statistics: Statistics, without: Collection[str] = ()
    ) -> tuple[ViT, Statistics]:
        """Keys and values around zero, values in their best basis, and statistics of it.

        Either is left out where ``without`` names it.
        """
        key = vit, statistics, frozenset(without)
        if key not in self._centred:
            changed = vit, statistics
            if CENTRE not in without:
                changed = centre_keys_and_values(*changed)
            if BALANCE not in without:
                changed = balance_values(*changed)
            self._centred[key] = changed
        return self._centred[key]

    def integers(
        self, weight: Array, watched: InputStatistics, groups: Groups | None
    ) -> IntegerWeight | None:
        """The integers of this very weight by these very statistics, if they were kept.

        Args:
            weight: ``(inputs, outputs)``.
            watched: Of its input.
            groups: Of 4-bit weights; None is 8 bits.
        """
        for known, known_groups, integers in self._integers.get(watched, ()):
            if known() is weight and known_groups == groups:
                return integers
        return None

    def keep(
        self,
        weight: Array,
        watched: InputStatistics,
        groups: Groups | None,
        integers: IntegerWeight,
    ) -> None:
        """Keeps integers as long as their statistics live."""
        self._integers.setdefault(watched, []).append((ref(weight), groups, integers))
