"""Sums, products and functions element by element, of tensors that lie in different ways."""

from __future__ import annotations

import math
from enum import Enum

import numpy as np

from vitedge.importers.lift.draft import Draft, Fixed, Tensor
from vitedge.importers.lift.views import Axis, View, refined
from vitedge.network.kinds import Activation
from vitedge.network.network import Value
from vitedge.network.operators import Activate, Add, Linear, Multiply, Norm, Shape, Softmax


class Elementwise(Enum):
    """Arithmetic of two tensors."""

    SUM = Add()
    PRODUCT = Multiply()


def combined(draft: Draft, how: Elementwise, a: Tensor, b: Tensor) -> Tensor:
    """The sum or product of two tensors of the source, with its rules of broadcasting."""
    if not isinstance(a, View) and not isinstance(b, View):
        fixed: Fixed = a + b if how is Elementwise.SUM else a * b
        return fixed
    shape = np.broadcast_shapes(a.shape, b.shape)
    a, b = _padded(a, len(shape)), _padded(b, len(shape))
    if not isinstance(a, View):
        a, b = b, a
    assert isinstance(a, View)
    if isinstance(b, View):
        return _of_two(draft, how, a, b, shape)
    return _with_fixed(draft, how, a, b, shape)


def scaled(draft: Draft, x: Tensor, factor: float) -> Tensor:
    """A tensor times a number."""
    if not isinstance(x, View):
        return np.asarray(x * factor, x.dtype)
    return combined(draft, Elementwise.PRODUCT, x, np.asarray(factor, np.float64))


def negated(draft: Draft, a: Tensor) -> Tensor:
    """A tensor with its sign turned."""
    return scaled(draft, a, -1)


def activated(draft: Draft, kind: Activation, x: View) -> View:
    """A non-linearity of every element."""
    return x.on(draft(Activate(kind), x.value))


def along(draft: Draft, x: View, axis: int, operator: Linear | Norm | Softmax) -> View:
    """Operators on one axis of the source, which they may leave with another size."""
    last = len(x.factors) - 1
    if last < 0 or x.axis_of(x.axes[axis]) != last:
        rest = [each for place, each in enumerate(x.axes) if place != axis and each]
        value = draft.lying(x, [*rest, x.axes[axis]])
        order = [*(size for place, size in enumerate(x.shape) if place != axis), x.shape[axis]]
        seen = View.whole(value, tuple(order))
        places = [*range(axis), len(order) - 1, *range(axis, len(order) - 1)]
        x, last = seen.transposed(places), len(seen.factors) - 1
        if not seen.axes[-1]:  # of size 1, where a factor is nowhere
            return View.whole(draft(operator, value), (*order[:-1], _made(operator, 1))).transposed(
                places
            )
    made = draft(operator, x.value)
    first = sum(map(len, x.factors[:last]))
    axes = list(x.axes)
    axes[axis] = (first,) if made.shape[-1] > 1 else ()
    return View(made, (*x.factors[:last], made.shape[-1:] if axes[axis] else ()), tuple(axes))


def _made(operator: Linear | Norm | Softmax, size: int) -> int:
    return operator.weight.shape[1] if isinstance(operator, Linear) else size


def _padded(tensor: Tensor, rank: int) -> Tensor:
    more = rank - len(tensor.shape)
    if isinstance(tensor, View):
        return View(tensor.value, tensor.factors, ((),) * more + tensor.axes)
    return tensor.reshape((1,) * more + tensor.shape)


def _with_fixed(draft: Draft, how: Elementwise, a: View, b: Fixed, shape: Shape) -> View:
    if b.size == 1:
        if float(b.reshape(())) == (0.0 if how is Elementwise.SUM else 1.0) and a.shape == shape:
            return a
        if a.shape == shape:
            return a.on(draft(how.value, a.value, draft.constant(b.reshape(()))))
    if a.shape == shape:
        laid = _laid(b, a)
        if laid is None:
            a = draft.in_order(a)
            laid = _laid(b, a)
        assert laid is not None
        return a.on(draft(how.value, a.value, draft.constant(laid)))
    value = draft.lying(a, a.axes)
    return View.whole(draft(how.value, value, draft.constant(b)), shape)


def _laid(b: Fixed, a: View) -> Fixed | None:
    """A constant as the value of a view lies; None where that repeats it within an axis.

    Along the last axis alone it is repeated: pixels that are shuffled out of channels have a factor
    or a term for each of what several channels become, which a layer before takes in.
    """
    sizes, shape = a.sizes, []
    for place, axis in enumerate(a.axes):
        whole = b.shape[place] > 1
        shape += [sizes[each] if whole else 1 for each in axis]
    turned = b.reshape(shape).transpose([a.order.index(each) for each in range(len(sizes))])
    last = len(a.factors[-1]) if a.factors else 0
    if last and math.prod(turned.shape) == math.prod(turned.shape[-last:]) > 1:
        turned = np.broadcast_to(turned, (*turned.shape[:-last], *a.factors[-1]))
    found: list[int] = []
    start = 0
    for factors in a.factors:
        part = turned.shape[start : start + len(factors)]
        start += len(factors)
        if part != factors and math.prod(part) != 1:
            return None
        found.append(math.prod(part))
    while found and found[0] == 1:
        found.pop(0)
    return turned.reshape(found)


def _of_two(draft: Draft, how: Elementwise, a: View, b: View, shape: Shape) -> View:
    if b.shape == shape and (a.shape != shape or draft.age(b.value) < draft.age(a.value)):
        a, b = b, a
    if a.shape == shape:
        try:
            one, two = refined(a, b)
            axes = laid_like(one, two)
        except ValueError:
            axes = None
        if axes is None:
            a = draft.in_order(a)
            one, two = refined(a, b) if b.shape != shape else (a, draft.in_order(b))
            axes = laid_like(one, two)
        if axes is not None:
            value: Value = draft.lying(two, axes)
            return one.on(draft(how.value, one.value, value))
    first, second = (draft.lying(each, each.axes) for each in (a, b))
    return View.whole(draft(how.value, first, second), shape)


def laid_like(a: View, b: View) -> list[Axis] | None:
    """The factors of ``b`` in the order of the axes of ``a``'s value, where both are cut alike.

    Axes of size 1 in ``b`` stay so; None where one is part of an axis of the value.
    """
    partner: dict[int, int] = {}
    for first, second in zip(a.axes, b.axes, strict=True):
        partner.update(zip(first, second, strict=True) if second else ())
    found: list[Axis] = []
    for axis in range(len(a.factors)):
        factors = a.of_axis(axis)
        held = tuple(partner[each] for each in factors if each in partner)
        if held and len(held) != len(factors):
            return None
        found.append(held)
    return found
