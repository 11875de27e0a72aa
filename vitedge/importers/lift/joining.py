"""Tensors behind one another along an axis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from vitedge.importers.lift.arithmetic import Elementwise, combined
from vitedge.importers.lift.draft import Draft, Tensor, float_array
from vitedge.importers.lift.moving import taken, with_axis
from vitedge.importers.lift.views import Axis, View
from vitedge.network.network import Value
from vitedge.network.operators import Concatenate, Constant, Multiply, Shape, Take


def concatenated(draft: Draft, parts: Sequence[Tensor], axis: int) -> Tensor:
    """Tensors one behind the other along an axis."""
    parts = [each for each in parts if math.prod(each.shape)]
    if len(parts) == 1:
        return parts[0]
    live = [each for each in parts if isinstance(each, View)]
    if not live:
        return np.concatenate([np.asarray(each) for each in parts], axis)
    again = taken_again(draft, live, axis) if len(live) == len(parts) else None
    if again is not None:
        return again
    like = min(live, key=lambda each: draft.age(each.value))
    order = _order_around(like, axis)
    if order is None:
        like = draft.in_order(like)
        order = [each for each in range(len(like.axes)) if like.axes[each] or each == axis]
    values = [_lying(draft, each, order) for each in parts]
    made = draft(Concatenate(order.index(axis)), *values)
    shape = list(like.shape)
    shape[axis] = sum(each.shape[axis] for each in parts)
    seen = View.whole(made, tuple(shape[place] for place in order))
    back: list[Axis] = [()] * len(shape)
    for place, each in zip(order, seen.axes, strict=True):
        back[place] = each
    return replace(seen, axes=tuple(back))


def _order_around(like: View, axis: int) -> list[int] | None:
    """The axes of the source in the order of the value's, where each lies in one piece."""
    found = []
    for each in range(len(like.factors)):
        own = like.of_axis(each)
        place = next((p for p, other in enumerate(like.axes) if other == own), None)
        if own and place is None:
            return None
        if place is not None and own:
            found.append(place)
    if axis not in found:
        found.insert(0, axis)
    return found


def _lying(draft: Draft, x: Tensor, order: Sequence[int]) -> Value:
    if isinstance(x, View):
        return draft.lying(x, [x.axes[place] for place in order])
    rest = [place for place in range(len(x.shape)) if place not in order]
    turned = float_array(x.transpose([*rest, *order]))
    return draft.constant(turned.reshape([x.shape[place] for place in order]))


@dataclass(frozen=True, eq=False)
class _Part:
    """Places of another value, with a sign or any other factor."""

    seen: View
    source: Value
    take: Take
    factor: float


def _part(x: View) -> _Part | None:
    value, factor = x.value, 1.0
    if isinstance(value.operator, Multiply):
        by = value.inputs[1].operator
        if not isinstance(by, Constant) or by.values.shape:
            return None
        value, factor = value.inputs[0], float(by.values)
    take = value.operator
    return _Part(x, value.inputs[0], take, factor) if isinstance(take, Take) else None


def taken_again(draft: Draft, parts: Sequence[View], axis: int) -> Tensor | None:
    """Parts of one tensor in another order, some with a factor: one take, and one product.

    So rotary positions turn pairs, and windows are shifted. None where they are something else.
    """
    known = [each for each in map(_part, parts) if each is not None]
    if len(known) != len(parts) or not _are_alike(known, axis):
        return None
    first, home = known[0].seen, known[0].take.axis
    own, lengths = first.of_axis(home), [len(each.take.places) for each in known]
    factors = [each.factor for each in known]
    count = len(first.axes[axis])
    if count and first.axes[axis] == own[:count]:
        places = [place for each in known for place in each.take.places]
        total = sum(each.shape[axis] for each in parts)
        seen, signs = with_axis(first, axis, total), np.repeat(factors, lengths)
    elif not first.axes[axis] and len(set(lengths)) == 1 and len(own) == 1:
        # Stacked along a new axis, the fastest: pairs of neighbours.
        places = np.stack([each.take.places for each in known], -1).ravel().tolist()
        seen, signs = _with_pairs(first, axis, home, len(known)), np.tile(factors, lengths[0])
    else:
        return None
    made = seen.on(draft(Take(home, tuple(places)), known[0].source))
    if np.all(signs == 1):
        return made
    held = set(seen.of_axis(home))
    shape = [
        size if held & set(each) else 1 for size, each in zip(seen.shape, seen.axes, strict=True)
    ]
    return combined(draft, Elementwise.PRODUCT, made, signs.reshape(shape).astype(np.float32))


def _are_alike(parts: Sequence[_Part], axis: int) -> bool:
    """Whether the parts are of one tensor, and seen alike but for how many places they have."""
    first, home = parts[0], parts[0].take.axis

    def around(x: View) -> tuple[Shape, ...]:
        within = len(x.axes[axis])
        return (*x.factors[:home], x.factors[home][within:], *x.factors[home + 1 :])

    return all(
        each.source is first.source
        and each.take.axis == home
        and each.seen.axes == first.seen.axes
        and around(each.seen) == around(first.seen)
        for each in parts
    )


def _with_pairs(x: View, axis: int, home: int, count: int) -> View:
    """A view whose axis of size 1 becomes the fastest part of an axis of the value."""
    (own,) = x.of_axis(home)
    factors = (*x.factors[:home], (*x.factors[home], count), *x.factors[home + 1 :])
    axes = [tuple(each + (each > own) for each in other) for other in x.axes]
    axes[axis] = (own + 1,)
    return View(x.value, factors, tuple(axes))


def padded(
    draft: Draft, x: Tensor, axis: int, sizes: tuple[int, int], number: float = 0.0
) -> Tensor:
    """A tensor with more places before and after those of an axis; negative sizes cut it."""
    before, after = sizes
    if before < 0 or after < 0:
        x = taken(draft, x, axis, range(max(-before, 0), x.shape[axis] - max(-after, 0)))
    before, after = max(before, 0), max(after, 0)
    shape = list(x.shape)
    parts: list[Tensor] = [x]
    for place, size in ((0, before), (len(parts) + 1, after)):
        if size:
            shape[axis] = size
            parts.insert(place, np.full(shape, number, np.float32))
    return concatenated(draft, parts, axis) if len(parts) > 1 else x
