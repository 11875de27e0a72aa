"""Exact rewrites: another network that computes the same outputs.

A module in this package that ends ``PLUGIN = ...`` is one rewrite, with its mathematics in its
docstring. Packages outside may add theirs under the entry point group ``vitedge.rewrite``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from functools import cache
from typing import Protocol

from vitedge.errors import UsageError, nearest_of
from vitedge.network.network import Network
from vitedge.rewrite.learnt_grid import keeps_grid, learnt_bits
from vitedge.targets.plugins import discover

CENTRE, SCALE = "centre-keys-and-values", "scale-channels"
BALANCE, BALANCE_QUERIES = "balance-values", "balance-queries"
PREFIX_APART = "prefix-apart"

MEASURED = (PREFIX_APART, CENTRE, BALANCE, BALANCE_QUERIES, SCALE)
"""Exact moves that the quantizer makes, because they need calibration's measurements.

They can be left out by these names as rewrites can; an artefact's quantization recipe says so."""


class Rewrite(Protocol):
    """One function-preserving change of a network.

    It exists so that quantizers and converters see one simple form: what a rewrite has folded
    away costs no operator, and what it has rotated or scaled is easier to quantize. It asks the
    network what reads and what writes a value, and leaves alone what it does not understand, so it
    holds for any network.
    """

    @property
    def name(self) -> str:
        """Its name in kebab-case, as the command line and an artefact's recipe spell it."""
        ...

    @property
    def order(self) -> int:
        """Its place in the order: smaller first. A rewrite may rely on all smaller ones."""
        ...

    @property
    def default(self) -> bool:
        """Whether it is applied unless switched off; else it must be asked for."""
        ...

    def apply(self, network: Network) -> Network:
        """The rewritten network.

        Its outputs equal those of ``network`` to float32 rounding. Arithmetic on weights is in
        float64, so that rewrites do not pile up rounding.

        Args:
            network: Left unchanged; values and arrays that do not change are shared.

        Returns:
            ``network`` itself where the rewrite has nothing to do or does not hold.
        """
        ...


@cache
def rewrites() -> tuple[Rewrite, ...]:
    """All rewrites in the order of application."""
    found: list[Rewrite] = discover(__name__, __path__)
    return tuple(sorted(found, key=lambda rewrite: (rewrite.order, rewrite.name)))


def apply_rewrites(
    network: Network, without: Collection[str] = (), *, extra: Collection[str] = ()
) -> tuple[Network, tuple[str, ...]]:
    """Applies all default rewrites; where weights learnt on an integer grid, those that keep it.

    Args:
        network: Left unchanged.
        without: Names of rewrites to leave out.
        extra: Names of rewrites to apply although they are not default.

    Returns:
        The rewritten network, and the names of the rewrites that changed it, in order.

    Raises:
        UsageError: A name in ``without`` or ``extra`` is not a rewrite's.
    """
    _check_names((*without, *extra))
    applied = []
    learnt = learnt_bits(network)
    for rewrite in rewrites():
        if rewrite.name in without or not (rewrite.default or rewrite.name in extra):
            continue
        rewritten = rewrite.apply(network)
        if (
            learnt is not None
            and rewrite.name not in extra
            and not keeps_grid(network, rewritten, learnt)
        ):
            continue  # they learnt behind it already, or can do without
        if rewritten is not network:
            applied.append(rewrite.name)
        network = rewritten
    return network, tuple(applied)


def apply_more(
    network: Network, names: Collection[str], without: Collection[str] = ()
) -> tuple[Network, tuple[str, ...]]:
    """Applies rewrites that are not default on top of what ``apply_rewrites`` did.

    Weights that learnt on an integer grid stay as they are.

    Args:
        network: Left unchanged; arrays that do not change are shared.
        names: The names of the rewrites.
        without: Names to leave out nevertheless.

    Returns:
        The rewritten network, and the names of the rewrites that changed it, in order.

    Raises:
        UsageError: A name is not a rewrite's.
    """
    if learnt_bits(network) is not None:
        return network, ()
    left_out = {each.name for each in rewrites() if each.default} | set(without)
    return apply_rewrites(network, left_out, extra=names)


def _check_names(names: Iterable[str]) -> None:
    known = list(dict.fromkeys([*(rewrite.name for rewrite in rewrites()), *MEASURED]))
    for name in names:
        if name not in known:
            hint = nearest_of(name, known, "there are")
            raise UsageError(f"there is no rewrite '{name}'; {hint}")
