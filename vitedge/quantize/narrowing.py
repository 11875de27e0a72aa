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
from typing import NamedTuple, TypeAlias

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
    ways = []
    for place in coupled(network):
        work, watched = _work(place, macs), statistics.inputs[place.readers[0].name]
        if work and len(watched.gradients):
            ways.append(_Way(place, work, _bundles(place, watched)))
    if not ways:
        raise ConversionError(
            "this model has no heads or hidden channels that could be removed: what stands between "
            "its linear layers is not understood; leave out --width"
        )
    saved = 0.0
    while saved < wanted:
        cheapest = min(ways, key=lambda each: each.price)
        if not np.isfinite(cheapest.price):
            least = 1 - saved / total
            raise ConversionError(
                f"{share:g} of the work is less than narrower layers leave; take --width "
                f"{least + 0.01:.2f} or more"
            )
        saved += cheapest.go()
    return tuple(each.removed for each in ways if each.gone)


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


class _Bundle(NamedTuple):
    """Units of one place that go together.

    Attributes:
        units: Their numbers.
        rows: The number of channels that are read less.
        cost: Squared error of one image's outputs from their going, all before them being gone.
    """

    units: tuple[int, ...]
    rows: int
    cost: float


class _Way:
    """The bundles of one place on their way out.

    Args:
        place: The layers and the values between.
        macs: Multiply-accumulates of all of them; above 0.
        bundles: The bundles in the order in which they go.
    """

    def __init__(self, place: Coupled, macs: int, bundles: Sequence[_Bundle]) -> None:
        self._place, self._macs, self._bundles = place, macs, bundles
        self.gone = 0

    @property
    def removed(self) -> Removed:
        """All that is gone."""
        units = sorted(unit for each in self._bundles[: self.gone] for unit in each.units)
        of = len(set(self._place.rows.tolist()))
        return Removed(self._place.read.name, tuple(units), of, heads=self._place.mixes_tokens)

    @property
    def price(self) -> float:
        """The loss of the outputs for each multiplication that the next bundle saves."""
        if self.gone == len(self._bundles):
            return np.inf
        bundle = self._bundles[self.gone]
        return bundle.cost / self._saved(bundle)

    def go(self) -> float:
        """Removes the next bundle; the multiply-accumulates that this saves."""
        self.gone += 1
        return self._saved(self._bundles[self.gone - 1])

    def _saved(self, bundle: _Bundle) -> float:
        return self._macs * bundle.rows / len(self._place.rows)


def _bundles(place: Coupled, watched: InputStatistics) -> list[_Bundle]:
    """The bundles of a place in the order in which they go, the cheapest first."""
    inverse: _Matrix = np.linalg.inv(output_hessian(watched).astype(np.float64))
    weighted = watched.gradients * watched.counts[:, None]
    slopes: _Matrix = (weighted.T @ watched.gradients).astype(np.float64)
    rows, total, found = place.rows, len(set(place.rows.tolist())), list[_Bundle]()
    while True:
        units = _cheapest(rows, inverse, slopes, total)
        if units is None:
            return found
        out = np.isin(rows, units)
        cost = _cost(out, inverse, slopes)
        found.append(_Bundle(tuple(units.tolist()), int(out.sum()), cost))
        inverse, slopes = _without(out, inverse, slopes)
        rows = rows[~out]


def _cheapest(rows: Numbers, inverse: _Matrix, slopes: _Matrix, total: int) -> Numbers | None:
    """The units that go next; None if no more may go.

    Args:
        rows: The unit of each channel that is left.
        inverse: The inverse of the covariance of these channels.
        slopes: The second moments of the outputs' gradients at these channels.
        total: The number of units in the beginning.
    """
    names, sizes = np.unique(rows, return_counts=True)
    is_of_heads = sizes.max() > 1
    bundle = 1 if is_of_heads else max(1, min(BUNDLE, total // _PARTS))
    count = len(names) % bundle or bundle
    if len(names) - count < max(1, (1 - _MOST) * total):
        return None
    if is_of_heads:
        costs = np.asarray([_cost(rows == name, inverse, slopes) for name in names])
    else:
        costs, names = np.diag(slopes) / np.diag(inverse), rows
    units: Numbers = names[np.argsort(costs, kind="stable")[:count]]
    return units


def _cost(out: npt.NDArray[np.bool_], inverse: _Matrix, slopes: _Matrix) -> float:
    """Squared error of one image's outputs when some channels go."""
    residual = np.linalg.inv(inverse[np.ix_(out, out)])
    return float((slopes[np.ix_(out, out)] * residual).sum())


def _without(
    out: npt.NDArray[np.bool_], inverse: _Matrix, slopes: _Matrix
) -> tuple[_Matrix, _Matrix]:
    """The inverse without some channels, and the slopes of weights that stand in for them."""
    across = inverse[np.ix_(~out, out)]
    stands_in = -across @ np.linalg.inv(inverse[np.ix_(out, out)])
    mixed = stands_in @ slopes[np.ix_(out, ~out)]
    inside = stands_in @ slopes[np.ix_(out, out)] @ stands_in.T
    left = inverse[np.ix_(~out, ~out)] + stands_in @ across.T
    return left, slopes[np.ix_(~out, ~out)] + mixed + mixed.T + inside
