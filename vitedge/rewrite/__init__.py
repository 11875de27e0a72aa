"""Exact rewrites: another ViT that computes the same logits.

A module in this package that ends ``PLUGIN = ...`` is one rewrite, with its mathematics in its
docstring. Packages outside may add theirs under the entry point group ``vitedge.rewrite``.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable
from functools import cache
from typing import Protocol

from vitedge.errors import UsageError
from vitedge.plugins import discover
from vitedge.rewrite.learnt_grid import keeps_grid, learnt_bits
from vitedge.vit import ViT

CENTRE, SCALE = "centre-keys-and-values", "scale-channels"
BALANCE, BALANCE_QUERIES = "balance-values", "balance-queries"

MEASURED = (CENTRE, BALANCE, BALANCE_QUERIES, SCALE)
"""Exact moves that the quantizer makes, because they need calibration's measurements.

They can be left out by these names as rewrites can; an artefact's quantization recipe says so."""


class Rewrite(Protocol):
    """One function-preserving change of a ViT.

    It exists so that quantizers and converters see one simple form: what a rewrite has folded
    away costs no operator, and what it has rotated or scaled is easier to quantize.
    """

    @property
    def name(self) -> str:
        """Its name in kebab-case, as the command line and an artefact's recipe spell it."""
        ...

    @property
    def order(self) -> int:
        """When it is applied: smaller first. A rewrite may rely on all smaller ones."""
        ...

    @property
    def default(self) -> bool:
        """Whether it is applied unless switched off; else it must be asked for."""
        ...

    def apply(self, vit: ViT) -> ViT:
        """The rewritten ViT.

        Its logits equal those of ``vit`` to float32 rounding, whatever the config. Arithmetic on
        weights is in float64, so that rewrites do not pile up rounding.

        Args:
            vit: Left unchanged; arrays that do not change are shared.

        Returns:
            ``vit`` itself where the rewrite has nothing to do or does not hold for its config.
        """
        ...


@cache
def rewrites() -> tuple[Rewrite, ...]:
    """All rewrites in the order of application."""
    found: list[Rewrite] = discover(__name__, __path__)
    return tuple(sorted(found, key=lambda rewrite: (rewrite.order, rewrite.name)))


def apply_rewrites(
    vit: ViT, without: Collection[str] = (), *, extra: Collection[str] = ()
) -> tuple[ViT, tuple[str, ...]]:
    """Applies all default rewrites; where weights learnt on an integer grid, those that keep it.

    Args:
        vit: Left unchanged.
        without: Names of rewrites to leave out.
        extra: Names of rewrites to apply although they are not default.

    Returns:
        The rewritten ViT, and the names of the rewrites that changed it, in order.

    Raises:
        UsageError: A name in ``without`` or ``extra`` is no rewrite's.
    """
    _check_names((*without, *extra))
    applied = []
    learnt = learnt_bits(vit)
    for rewrite in rewrites():
        if rewrite.name in without or not (rewrite.default or rewrite.name in extra):
            continue
        rewritten = rewrite.apply(vit)
        if (
            learnt is not None
            and rewrite.name not in extra
            and not keeps_grid(vit, rewritten, learnt)
        ):
            continue  # they learnt behind it already, or can do without
        if rewritten is not vit:
            applied.append(rewrite.name)
        vit = rewritten
    return vit, tuple(applied)


def apply_more(
    vit: ViT, names: Collection[str], without: Collection[str] = ()
) -> tuple[ViT, tuple[str, ...]]:
    """Applies rewrites that are not default on top of what ``apply_rewrites`` did.

    Weights that learnt on an integer grid stay as they are.

    Args:
        vit: Left unchanged; arrays that do not change are shared.
        names: Of the rewrites.
        without: Names to leave out all the same.

    Returns:
        The rewritten ViT, and the names of the rewrites that changed it, in order.

    Raises:
        UsageError: A name is no rewrite's.
    """
    if learnt_bits(vit) is not None:
        return vit, ()
    left_out = {each.name for each in rewrites() if each.default} | set(without)
    return apply_rewrites(vit, left_out, extra=names)


def _check_names(names: Iterable[str]) -> None:
    known = list(dict.fromkeys([*(rewrite.name for rewrite in rewrites()), *MEASURED]))
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean '{close[0]}'?" if close else f"there are: {', '.join(known)}"
            raise UsageError(f"there is no rewrite '{name}'; {hint}")
