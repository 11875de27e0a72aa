"""Parts that the recipes of one model for several runtimes share.

Runtimes differ in how they quantize inputs. Where that moves no scale between an input and its
weight, their recipes round the very same weight by the same statistics, and rounding is what
quantizing a large model takes its time for.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from typing import TypeAlias
from weakref import WeakKeyDictionary, ref

import numpy as np
import numpy.typing as npt

from vitedge.network.network import Network
from vitedge.network.operators import Array
from vitedge.quantize import IntegerWeight
from vitedge.quantize.calibrate import calibrate
from vitedge.quantize.centring import CentreKeysAndValues
from vitedge.quantize.input_statistics import InputStatistics, Statistics
from vitedge.quantize.smoothing import BalanceMeasuredValues
from vitedge.rewrite.learnt_grid import Groups

Images: TypeAlias = Callable[[], Iterable[npt.NDArray[np.uint8]]]
"""Gives the calibration pixels once more, each uint8 ``(H, W, C)``."""

_Key: TypeAlias = tuple[Network, Statistics, frozenset[str]]


class Shared:
    """Keeps, from one call of ``quantize`` to the next, what would come out the same.

    It serves the statistics of one network, for that and for others whose linear layers have the
    same inputs. Integers are forgotten with the statistics that they were found by.
    """

    def __init__(self) -> None:
        self._centred: dict[_Key, tuple[Network, Statistics, tuple[str, ...]]] = {}
        self._remeasured: dict[_Key, Statistics] = {}
        self._integers: WeakKeyDictionary[
            InputStatistics, list[tuple[ref[Array], tuple[int, Groups | None], IntegerWeight]]
        ] = WeakKeyDictionary()

    def centred_and_balanced(
        self,
        network: Network,
        statistics: Statistics,
        without: Collection[str] = (),
        images: Images | None = None,
    ) -> tuple[Network, Statistics]:
        """Keys and values around zero, values in their best basis, and statistics of it.

        Args:
            network: Left unchanged.
            statistics: The statistics of that network.
            without: Names of moves to leave out.
            images: The images that the statistics are of, for exact extremes in another basis; None
                leaves those that the sampled tokens have, which are too small for static ranges.
        """
        key = network, statistics, frozenset(without)
        moved, found, names = self._moved(*key)
        if images is None or BalanceMeasuredValues.name not in names:
            return moved, found
        if key not in self._remeasured:
            self._remeasured[key] = _remeasured(moved, statistics, found, images)
        return moved, self._remeasured[key]

    def moves(
        self, network: Network, statistics: Statistics, without: Collection[str] = ()
    ) -> tuple[str, ...]:
        """The moves that ``centred_and_balanced`` made."""
        return self._moved(network, statistics, frozenset(without))[2]

    def _moved(
        self, network: Network, statistics: Statistics, without: frozenset[str]
    ) -> tuple[Network, Statistics, tuple[str, ...]]:
        key = network, statistics, without
        if key not in self._centred:
            names = []
            for move in (CentreKeysAndValues(), BalanceMeasuredValues()):
                if move.name not in without:
                    moved, statistics = move.apply(network, statistics)
                    names += [move.name] if moved is not network else []
                    network = moved
            self._centred[key] = network, statistics, tuple(names)
        return self._centred[key]

    def integers(
        self, weight: Array, watched: InputStatistics, bits: int, groups: Groups | None
    ) -> IntegerWeight | None:
        """The integers of this very weight by these very statistics, if they were kept.

        Args:
            weight: ``(inputs, outputs)``.
            watched: The statistics of its input.
            bits: The width of the integers.
            groups: The groups of weights that share scales; None is a scale for each output.
        """
        for known, made_for, integers in self._integers.get(watched, ()):
            if known() is weight and made_for == (bits, groups):
                return integers
        return None

    def keep(
        self,
        weight: Array,
        watched: InputStatistics,
        bits: int,
        groups: Groups | None,
        integers: IntegerWeight,
    ) -> None:
        """Keeps integers as long as their statistics live."""
        self._integers.setdefault(watched, []).append((ref(weight), (bits, groups), integers))


def _remeasured(
    network: Network, before: Statistics, moved: Statistics, images: Images
) -> Statistics:
    """Statistics with the inputs whose channels were mixed measured in their new basis.

    All others are the very same objects, so that integers found by them stay known.
    """
    fresh = calibrate(network, images()).inputs
    inputs = {
        name: known if known is before.inputs[name] else fresh[name]
        for name, known in moved.inputs.items()
    }
    return replace(moved, inputs=inputs)
