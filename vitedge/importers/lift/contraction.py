"""Sums of products of two tensors, however an einsum spells them: linear layers and products."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from vitedge.importers.lift.arithmetic import along
from vitedge.importers.lift.draft import Draft, Fixed, Tensor, float_array
from vitedge.importers.lift.views import View
from vitedge.network.network import Value
from vitedge.network.operators import Array, Linear, Product


def contracted(draft: Draft, equation: str, a: Tensor, b: Tensor) -> Tensor:
    """Any einsum of two tensors without repeated letters.

    Args:
        draft: The draft that makes the values.
        equation: The equation, as ``numpy.einsum`` takes it.
        a: First operand.
        b: Second operand.

    Raises:
        ValueError: The equation says something else than sums of products of two axes.
    """
    if not isinstance(a, View) and not isinstance(b, View):
        fixed: Fixed = np.einsum(equation, a, b)
        return fixed
    left, right, out = _letters(equation, len(a.shape), len(b.shape))
    left, a = _without_ones(left, a)
    right, b = _without_ones(right, b)
    a, left = _summed_alone(a, left, right + out)
    b, right = _summed_alone(b, right, left + out)
    sizes = dict(zip(left + right, a.shape + b.shape, strict=True))
    seen = [each for each in out if each in sizes]
    both = [each for each in seen if each in left and each in right]
    if isinstance(a, View) and not isinstance(b, View) and not both:
        made = _linear(draft, a, left, b, right, seen)
    elif isinstance(b, View) and not isinstance(a, View) and not both:
        made = _linear(draft, b, right, a, left, seen)
    else:
        made = _product(draft, a, left, b, right, seen, both)
    return made.reshaped(tuple(sizes.get(each, 1) for each in out))


def _letters(equation: str, first: int, second: int) -> tuple[str, str, str]:
    equation = equation.replace(" ", "")
    inputs, _, out = equation.partition("->")
    left, _, right = inputs.partition(",")
    if "->" not in equation:
        letters = sorted(set(left + right) - set(",."))
        once = [each for each in letters if (left + right).count(each) == 1]
        out = ("..." if "." in equation else "") + "".join(once)
    free = [each for each in "ABCDEFGHIJKLMNOPQRSTUVWXYZ" if each not in equation]
    more = {
        each: rank - len(each.replace("...", "")) if "..." in each else 0
        for each, rank in ((left, first), (right, second))
    }
    wide = free[: max(more.values())]

    def spelled(term: str, count: int) -> str:
        return term.replace("...", "".join(wide[len(wide) - count :]))

    terms = spelled(left, more[left]), spelled(right, more[right]), spelled(out, len(wide))
    if any(len(set(each)) != len(each) for each in terms):
        raise ValueError(f"the equation {equation} repeats a letter")
    return terms


def _without_ones(term: str, x: Tensor) -> tuple[str, Tensor]:
    """A term without the axes of size 1: they are repeated, or summed up over one."""
    kept = [place for place, size in enumerate(x.shape) if size > 1]
    letters = "".join(term[place] for place in kept)
    if isinstance(x, View):
        return letters, View(x.value, x.factors, tuple(x.axes[place] for place in kept))
    return letters, x.reshape([x.shape[place] for place in kept])


def _summed_alone(x: Tensor, term: str, others: str) -> tuple[Tensor, str]:
    alone = [place for place, each in enumerate(term) if each not in others]
    if not alone:
        return x, term
    if isinstance(x, View):
        raise ValueError("an operand is summed up by itself")
    kept = "".join(each for each in term if each in others)
    return x.sum(axis=tuple(alone)), kept


def _linear(draft: Draft, a: View, left: str, b: Fixed, right: str, out: Sequence[str]) -> View:
    summed = [each for each in left if each in right]
    added = [each for each in out if each in right]
    kept = [each for each in left if each not in right]
    order = [right.index(each) for each in (*summed, *added)]
    turned = b.transpose(order)
    weight = float_array(
        turned.reshape(
            math.prod(turned.shape[: len(summed)]), math.prod(turned.shape[len(summed) :])
        )
    )
    x = a.transposed([left.index(each) for each in (*kept, *summed)])
    shape = x.shape[: len(kept)]
    one = View(x.value, x.factors, (*x.axes[: len(kept)], sum(x.axes[len(kept) :], ())))
    layer = Linear(weight, np.zeros(weight.shape[1], np.float32))
    made = along(draft, one, len(kept), layer).reshaped((*shape, *turned.shape[len(summed) :]))
    letters = [*kept, *added]
    return made.transposed([letters.index(each) for each in out])


def _product(
    draft: Draft,
    a: Tensor,
    left: str,
    b: Tensor,
    right: str,
    out: Sequence[str],
    both: Sequence[str],
) -> View:
    summed = [each for each in left if each in right and each not in out]
    rows = [each for each in out if each in left and each not in both]
    columns = [each for each in out if each in right and each not in both]
    if rows and columns and out.index(columns[0]) < out.index(rows[0]):
        # Keras multiplies keys by queries; ours is the order of the result.
        return _product_of(draft, b, right, a, left, out, both, columns, rows, summed)
    return _product_of(draft, a, left, b, right, out, both, rows, columns, summed)


def _product_of(
    draft: Draft,
    a: Tensor,
    left: str,
    b: Tensor,
    right: str,
    out: Sequence[str],
    both: Sequence[str],
    rows: Sequence[str],
    columns: Sequence[str],
    summed: Sequence[str],
) -> View:
    first = _matrices(draft, a, left, both, rows, summed)
    transposed = _lies_transposed(b, right, columns, summed)
    parts = (columns, summed) if transposed else (summed, columns)
    second = _matrices(draft, b, right, both, *parts)
    made = draft(Product(transposed), first, second)
    sizes = dict(zip(left, a.shape, strict=True)) | dict(zip(right, b.shape, strict=True))
    letters = [*both, *rows, *columns]
    seen = View.whole(made, tuple(sizes[each] for each in letters))
    return seen.transposed([letters.index(each) for each in out])


def _lies_transposed(b: Tensor, right: str, columns: Sequence[str], summed: Sequence[str]) -> bool:
    """Whether the axes that are summed up are the fastest where the second operand lies."""
    if not isinstance(b, View) or not summed or not columns:
        return False
    axes = {each: b.axes[right.index(each)] for each in (*columns, *summed)}
    return max(axes[summed[-1]]) > max(axes[columns[-1]])


def _matrices(
    draft: Draft,
    x: Tensor,
    term: str,
    both: Sequence[str],
    rows: Sequence[str],
    columns: Sequence[str],
) -> Value:
    order = [term.index(each) for each in (*both, *rows, *columns)]
    if isinstance(x, View):
        turned = x.transposed(order)
        joined = [
            sum(turned.axes[len(both) : len(both) + len(rows)], ()),
            sum(turned.axes[len(both) + len(rows) :], ()),
        ]
        return draft.lying(turned, [*turned.axes[: len(both)], *joined])
    fixed: Array = float_array(x.transpose(order))
    sizes = fixed.shape
    middle, end = len(both), len(both) + len(rows)
    shape = (*sizes[:middle], math.prod(sizes[middle:end]), math.prod(sizes[end:]))
    return draft.constant(fixed.reshape(shape))
