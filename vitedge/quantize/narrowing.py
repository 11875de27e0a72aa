"""Removes the heads and hidden channels that the outputs miss least.

It is the optimal brain surgeon (Hassibi and Stork, 1993) for whole channels. A layer reads ``x W``.
When the channels ``S`` of ``x`` are removed, the rest ``K`` stands in for them as far as they are
correlated, and what is lost is the residual ``r`` of that regression::

    C = H_KK⁻¹ H_KS,   W_K <- W_K + C W_S,   E[r rᵀ] = ((H⁻¹)_SS)⁻¹

with the covariance ``H`` that error feedback rounds by. With gradients ``g`` of the outputs at
``x``, the squared error of the outputs is ``<E[g gᵀ]_SS, E[r rᵀ]>`` to first order, the same unit
for all layers of a network. So channels are removed one bundle after the other, wherever the least
is lost for the multiplications saved; what remains stands in for all that went before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from vitedge.artifacts.narrowing import Removed
from vitedge.errors import ConversionError
from vitedge.network.coupled import Coupled, Numbers, coupled, without_units
from vitedge.network.network import Network, Value, macs_of, with_operators
from vitedge.network.operators import Linear, Operator
from vitedge.quantize.input_statistics import InputStatistics, Statistics
from vitedge.quantize.rounding import output_hessian

_Matrix: TypeAlias = npt.NDArray[np.float64]

# Hidden channels go so many at a time, and a multiple of it stays: integer kernels take 16 or 32 at
# once. Small layers lose a sixteenth at a time.
BUNDLE, _PARTS = 32, 16

# No layer loses more of its channels: what is predicted from so far away is not trusted.
_MOST = 0.75


def chosen(
    network: Network, statistics: Statistics, share: float, working: Network | None = None
) -> tuple[Removed, ...]:
    """The channels whose removal costs the outputs least.

    Args:
        network: The model.
        statistics: The statistics of this very network, with gradients.
        share: Multiply-accumulates that may be left, over those that there are; 1 removes nothing.
        working: The network that does the work in its place, with the same names: what is not in it
            takes no time. None is the network itself.

    Raises:
        ConversionError: Nothing can be removed, or not so much.
    """
    macs = {value.name: macs_of(value) for value in (working or network).values}
    total = sum(macs.values())
    wanted = (1 - share) * total
    if wanted <= 0:
        return ()
    removals = []
    for place in coupled(network):
        work, watched = _work(place, macs), statistics.inputs[place.readers[0].name]
        if work and len(watched.gradients):
            removals.append(_Removal(place, watched, work))
    if not removals:
        raise ConversionError(
            "this model has no heads or hidden channels that could be removed: what stands between "
            "its linear layers is not understood; leave out --width"
        )
    saved = 0.0
    while saved < wanted:
        cheapest = min(removals, key=lambda each: each.price)
        if not np.isfinite(cheapest.price):
            least = 1 - saved / total
            raise ConversionError(
                f"{share:g} of the work is less than narrower layers leave; take --width "
                f"{least + 0.01:.2f} or more"
            )
        saved += cheapest.go()
    return tuple(each.removed for each in removals if each.gone)


def _work(place: Coupled, macs: Mapping[str, int]) -> int:
    """The multiply-accumulates of all its channels."""
    values = (*place.layers, *place.values, *place.readers)
    return sum(macs.get(value.name, 0) for value in values)


def removed(
    network: Network, statistics: Statistics, removals: Sequence[Removed], *, refit: bool = True
) -> Network:
    """The network without some channels; what remains stands in for them.

    Args:
        network: Left unchanged.
        statistics: The statistics of this very network.
        removals: The channels to remove, place by place.
        refit: Let the layers that read the rest make up for what is gone by least squares; without,
            the mean of what is gone moves into their bias, and that is all.

    Raises:
        ConversionError: The network has no such channels.
    """
    known = {each.read.name: each for each in coupled(network)}
    changed: dict[Value, Operator] = {}
    for each in removals:
        place = known.get(each.read)
        if place is None or not set(each.units) < set(place.rows.tolist()):
            raise ConversionError(f"'{each.read}' has no such channels to remove")
        gone = np.asarray(each.units)
        rows = np.isin(place.rows, gone)
        changed |= without_units(place, gone, changed)
        for reader in place.readers:
            layer = changed.get(reader, reader.operator)
            assert isinstance(layer, Linear)
            watched = statistics.inputs[reader.name]
            changed[reader] = _reading_less(layer, rows, watched, refit=refit)
    return with_operators(network, changed)


def _reading_less(
    layer: Linear, gone: npt.NDArray[np.bool_], watched: InputStatistics, *, refit: bool
) -> Linear:
    """A layer without some of its inputs, ``gone`` of ``(inputs,)``."""
    from scipy.linalg import solve

    weight, mean = layer.weight.astype(np.float64), watched.mean.astype(np.float64)
    lost, left = weight[gone], weight[~gone]
    bias = layer.bias + mean[gone] @ lost
    if refit:
        hessian = output_hessian(watched).astype(np.float64)
        among, across = hessian[np.ix_(~gone, ~gone)], hessian[np.ix_(~gone, gone)]
        more = solve(among, across, assume_a="pos") @ lost
        left, bias = left + more, bias - mean[~gone] @ more
    return Linear(left.astype(np.float32), bias.astype(np.float32))


class _Removal:
    """The channels of one place on their way out, the cheapest first.

    Args:
        place: The layers and the values between.
        watched: The statistics of the value that is read there.
        macs: Multiply-accumulates of all of them; above 0.
    """

    def __init__(self, place: Coupled, watched: InputStatistics, macs: int) -> None:
        self._place, self._macs, self.gone = place, macs, list[int]()
        self._inverse: _Matrix = np.linalg.inv(output_hessian(watched).astype(np.float64))
        weighted = watched.gradients * watched.counts[:, None]
        self._slopes: _Matrix = (weighted.T @ watched.gradients).astype(np.float64)
        self._rows = place.rows
        self._next: tuple[float, Numbers] | None = None
        self._find()

    @property
    def removed(self) -> Removed:
        """All that is gone."""
        of = len(set(self._place.rows.tolist()))
        units = tuple(sorted(self.gone))
        return Removed(self._place.read.name, units, of, heads=self._place.mixes_tokens)

    @property
    def price(self) -> float:
        """The loss of the outputs for each multiplication that the next bundle saves."""
        return np.inf if self._next is None else self._next[0] / self._saved(self._next[1])

    def go(self) -> float:
        """Removes the next bundle; the multiply-accumulates that this saves."""
        assert self._next is not None
        units = self._next[1]
        saved = self._saved(units)
        self._remove(np.isin(self._rows, units))
        self.gone += units.tolist()
        self._find()
        return saved

    def _saved(self, units: Numbers) -> float:
        return float(self._macs * np.isin(self._place.rows, units).mean())

    def _remove(self, out: npt.NDArray[np.bool_]) -> None:
        """Leaves the inverse without some channels, and the slopes of weights that stand in."""
        residual = np.linalg.inv(self._inverse[np.ix_(out, out)])
        across = self._inverse[np.ix_(~out, out)]
        stands_in = -across @ residual
        slopes = self._slopes
        mixed = stands_in @ slopes[np.ix_(out, ~out)]
        inside = stands_in @ slopes[np.ix_(out, out)] @ stands_in.T
        self._slopes = slopes[np.ix_(~out, ~out)] + mixed + mixed.T + inside
        self._inverse = self._inverse[np.ix_(~out, ~out)] - across @ residual @ across.T
        self._rows = self._rows[~out]

    def _find(self) -> None:
        """The cheapest bundle of those that may go."""
        names, sizes = np.unique(self._rows, return_counts=True)
        total = len(set(self._place.rows.tolist()))
        if sizes.max() > 1:  # heads
            count = 1
        else:
            bundle = max(1, min(BUNDLE, total // _PARTS))
            count = len(names) % bundle or bundle
        if len(names) - count < max(1, (1 - _MOST) * total):
            self._next = None
            return
        if count == 1:
            costs = np.asarray([self._cost(self._rows == name) for name in names])
        else:
            costs, names = np.diag(self._slopes) / np.diag(self._inverse), self._rows
        units = names[np.argsort(costs, kind="stable")[:count]]
        self._next = self._cost(np.isin(self._rows, units)), units

    def _cost(self, out: npt.NDArray[np.bool_]) -> float:
        """Squared error of one image's outputs when these go."""
        residual = np.linalg.inv(self._inverse[np.ix_(out, out)])
        return float((self._slopes[np.ix_(out, out)] * residual).sum())
