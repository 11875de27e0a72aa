"""Places taken along an axis, repetition, and means over axes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from vitedge.importers.lift.draft import Draft, Tensor
from vitedge.importers.lift.views import Axis, View
from vitedge.network.operators import Mean, Shape, Take


def taken(draft: Draft, x: Tensor, axis: int, places: Sequence[int]) -> Tensor:
    """Some places along an axis, in the order given."""
    places = [place % x.shape[axis] for place in places]
    if places == list(range(x.shape[axis])):
        return x
    if not isinstance(x, View):
        return x.take(places, axis)
    if not x.axes[axis]:  # one place, several times
        return repeated(draft, x, axis, len(places))
    home = next(each for each in range(len(x.factors)) if x.axes[axis][0] in x.of_axis(each))
    own = x.of_axis(home)
    # Blocks of a packed layer are its outputs; parts of each head are better cut by head.
    is_block = own[: len(x.axes[axis])] == x.axes[axis]
    is_within = len(places) == 1 and len(x.axes[axis]) == 1
    if not is_block and not is_within:
        x = draft.in_order(x)
        home = next(each for each in range(len(x.factors)) if x.of_axis(each) == x.axes[axis])
        own = x.of_axis(home)
    sizes = x.sizes
    before = math.prod(sizes[each] for each in own if each < x.axes[axis][0])
    after = math.prod(sizes[each] for each in own if each > x.axes[axis][-1])
    numbers = np.arange(math.prod(x.factors[home])).reshape(before, x.shape[axis], after)
    wanted = numbers[:, places].ravel()
    value = draft(Take(home, tuple(wanted.tolist())), x.value)
    return draft.without_ones(with_axis(x, axis, len(places)).on(value))


def with_axis(x: View, axis: int, size: int) -> View:
    """A view in which an axis that lies in one piece has another size."""
    old = x.axes[axis]
    home = next(each for each in range(len(x.factors)) if old[0] in x.of_axis(each))
    start = old[0] - x.of_axis(home)[0]
    factors = x.factors[home]
    new = (*factors[:start], *((size,) if size > 1 else ()), *factors[start + len(old) :])
    fewer = len(old) - (size > 1)
    axes: list[Axis] = [
        tuple(each - fewer if each > old[-1] else each for each in other) for other in x.axes
    ]
    axes[axis] = (old[0],) if size > 1 else ()
    return View(x.value, (*x.factors[:home], new, *x.factors[home + 1 :]), tuple(axes))


def repeated(draft: Draft, x: Tensor, axis: int, times: int) -> Tensor:
    """An axis of size 1 so many times."""
    if not isinstance(x, View):
        return x.repeat(times, axis)
    if times == 1:
        return x
    rest = [each for place, each in enumerate(x.axes) if each or place == axis]
    at = sum(1 for place, each in enumerate(x.axes) if each and place < axis)
    value = draft(Take(at, (0,) * times), draft.lying(x, rest))
    return View.whole(value, (*x.shape[:axis], times, *x.shape[axis + 1 :]))


def expanded(draft: Draft, x: Tensor, shape: Shape) -> Tensor:
    """A tensor broadcast to a shape."""
    if not isinstance(x, View):
        return np.broadcast_to(x, np.broadcast_shapes(x.shape, shape))
    shape = np.broadcast_shapes(x.shape, shape)
    x = View(x.value, x.factors, ((),) * (len(shape) - len(x.axes)) + x.axes)
    made: Tensor = x
    for axis, size in enumerate(shape):
        if made.shape[axis] != size:
            made = repeated(draft, made, axis, size)
    return made


def averaged(draft: Draft, x: View, axes: Sequence[int], *, keep: bool) -> View:
    """The mean over axes of the source."""
    gone = {factor for axis in axes for factor in x.axes[axis]}
    kept = [each for place, each in enumerate(x.axes) if place not in axes]
    if gone:
        whole = [each for each in range(len(x.factors)) if gone.issuperset(x.of_axis(each))]
        whole = [each for each in whole if x.of_axis(each)]
        covered = {factor for axis in whole for factor in x.of_axis(axis)}
        if covered != gone or whole != list(range(whole[0], whole[-1] + 1)):
            left = [each for each in kept if each]
            order = [*left[:-1], tuple(sorted(gone, key=x.order.index)), *left[-1:]]
            value, place = draft.lying(x, order), len(left[:-1])
            made = draft(Mean(place), value)
            shape = tuple(size for axis, size in enumerate(x.shape) if axis not in axes)
            return _seen(View.whole(made, shape), x, axes, keep)
        value = x.value
        if len(whole) > 1:
            joined = [*_axes_of(x)]
            joined[whole[0] : whole[-1] + 1] = [sum(joined[whole[0] : whole[-1] + 1], ())]
            value = draft.lying(x, joined)
        made = draft(Mean(whole[0]), value)
        fewer = {each: sum(1 for one in gone if one < each) for each in x.order}
        factors = tuple(each for place, each in enumerate(x.factors) if place not in whole)
        axes_left = tuple(tuple(each - fewer[each] for each in axis) for axis in kept)
        return _seen(View(made, factors, axes_left), x, axes, keep)
    return _seen(View(x.value, x.factors, tuple(kept)), x, axes, keep)


def _axes_of(x: View) -> list[Axis]:
    return [x.of_axis(axis) for axis in range(len(x.factors))]


def _seen(made: View, x: View, axes: Sequence[int], keep: bool) -> View:
    if not keep:
        return made
    left = iter(made.axes)
    return replace(
        made, axes=tuple(() if axis in axes else next(left) for axis in range(len(x.axes)))
    )
