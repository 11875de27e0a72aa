"""Merging of tokens in a runtime's graph: what was found is kept as places, not as a matrix.

A matrix product with all tokens would move each that stays as it is through a multiplication. So
those are gathered, in one step for all; only the tokens that disappear are added through a small
matrix, ``(new, merged)``.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Generic

import numpy as np

from vitedge.converters.emitter import Emitter
from vitedge.network.network import Network, Value
from vitedge.network.operators import Match
from vitedge.network.steps import Tensor
from vitedge.quantize import Recipe


@dataclass(frozen=True, eq=False)
class _Found(Generic[Tensor]):
    """The matches of one place.

    Attributes:
        name: The name of the value.
        kept: The old token at each new place, ``(batch, new)``.
        gone: The old tokens that disappear, ``(batch, merged)``.
        into: Ones where a token that disappears goes, ``(batch, new, merged)``.
        size: New and old tokens, and how many are merged.
        shares: The factor of each kept and each merged token, by the operator that counts them.
    """

    name: str
    kept: Tensor
    gone: Tensor
    into: Tensor
    size: tuple[int, int, int]
    shares: dict[Value, tuple[Tensor, Tensor, Tensor]] = field(default_factory=dict)


class MergingEmitter(Emitter[Tensor]):
    """The steps of merging, by the few steps that a subclass provides."""

    def __init__(self, network: Network, recipe: Recipe, batch: int) -> None:
        super().__init__(network, recipe, batch)
        self._found: dict[Value, _Found[Tensor]] = {}
        self._logarithms: dict[Value, Tensor] = {}

    @abstractmethod
    def largest(self, x: Tensor, name: str) -> tuple[Tensor, Tensor]:
        """The largest number along the last axis of ``(batch, a, b)``, and its place."""

    @abstractmethod
    def descending(self, x: Tensor, name: str) -> Tensor:
        """The places of ``(batch, a)`` from the largest number to the smallest."""

    @abstractmethod
    def first_places(self, x: Tensor, first: int, count: int, name: str) -> Tensor:
        """Neighbours along the last axis of integers ``(batch, a)``."""

    @abstractmethod
    def looked_up(self, table: Sequence[int], places: Tensor, name: str) -> Tensor:
        """Constants by their place; integers of the shape of ``places``."""

    @abstractmethod
    def gathered(self, x: Tensor, places: Tensor, name: str) -> Tensor:
        """Gathers the ``(batch, b)`` places of each image along axis 1 of ``(batch, a, ...)``."""

    @abstractmethod
    def with_constants(
        self, before: Sequence[int], x: Tensor, behind: Sequence[int], name: str
    ) -> Tensor:
        """Integers ``(batch, a)`` between constants that are the same for all images."""

    @abstractmethod
    def one_hot(self, places: Tensor, size: int, name: str) -> Tensor:
        """``(batch, a)`` places as columns of floats ``(batch, size, a)``, each with a one."""

    @abstractmethod
    def matrix_product(
        self, a: Tensor, b: Tensor, name: str, *, transposed: bool = False
    ) -> Tensor:
        """Multiplies ``(batch, n, k)`` by ``(batch, k, m)``, or by ``(batch, m, k)`` transposed."""

    @abstractmethod
    def elements(self, operator: str, a: Tensor, b: Tensor, name: str) -> Tensor:
        """``add``, ``multiply`` or ``divide``, with broadcasting."""

    @abstractmethod
    def row_sums(self, x: Tensor, name: str) -> Tensor:
        """Sums over the last axis, which stays."""

    @abstractmethod
    def logarithm(self, x: Tensor, name: str) -> Tensor:
        """Natural logarithm."""

    def counted_softmax(self, value: Value, x: Tensor, counts: Tensor) -> Tensor:
        """See ``Steps``: the logarithm of a count, added to a score, multiplies the share."""
        source, places = value.inputs[1], value.shape[-1]
        if source not in self._logarithms:
            name = f"{source.name}/logarithm"
            self._logarithms[source] = self.logarithm(counts, name)
        shape = (self.batch, *(1,) * (len(value.shape) - 1), places)
        often = self.reshape(self._logarithms[source], shape, f"{value.name}/often")
        return self.softmax(value, self.elements("add", x, often, f"{value.name}/counted"))

    def match(self, value: Value, match: Match, x: Tensor) -> None:
        """See ``Steps``."""
        name, (new, old), merged = value.name, value.shape, match.merged
        finders, found = match.finders(old), match.found(old)
        similar = self.matrix_product(
            self.places_along(x, 1, tuple(finders), f"{name}/finders"),
            self.places_along(x, 1, tuple(found), f"{name}/found"),
            f"{name}/similar",
            transposed=True,
        )
        best, partners = self.largest(similar, f"{name}/best")
        order = self.descending(best, f"{name}/order")
        first = self.first_places(order, 0, merged, f"{name}/first")
        rest = self.first_places(order, merged, len(finders) - merged, f"{name}/rest")
        kept = self.looked_up(finders, rest, f"{name}/rest/tokens")
        partners = self.gathered(partners, first, f"{name}/partners")
        places = range(new - len(found), new)
        self._found[value] = _Found(
            name,
            self.with_constants(range(match.fixed), kept, found, f"{name}/kept"),
            self.looked_up(finders, first, f"{name}/gone"),
            self.one_hot(self.looked_up(places, partners, f"{name}/places"), new, f"{name}/into"),
            (new, old, merged),
        )

    def match_matrix(self, value: Value) -> Tensor:
        """See ``Steps``."""
        found, name = self._found[value], value.name
        old = found.size[1]
        kept = self.transposed_last(self.one_hot(found.kept, old, f"{name}/kept/columns"), name)
        gone = self.transposed_last(
            self.one_hot(found.gone, old, f"{name}/gone/columns"), f"{name}/gone/rows"
        )
        moved = self.matrix_product(found.into, gone, f"{name}/moved")
        return self.elements("add", kept, moved, name)

    def transposed_last(self, x: Tensor, name: str) -> Tensor:
        """The last two axes of three in the other order."""
        return self.transpose(x, (0, 2, 1), f"{name}/rows")

    def merge(self, value: Value, x: Tensor, counts: Tensor | None) -> Tensor:
        """See ``Steps``."""
        found, name = self._found[value.inputs[0]], value.name
        _, of_kept, of_gone = self._shares(value, found, counts)
        kept = self.gathered(x, found.kept, f"{name}/kept")
        gone = self.gathered(x, found.gone, f"{name}/gone")
        added = self.matrix_product(of_gone, gone, f"{name}/added")
        scaled = self.elements("multiply", kept, of_kept, f"{name}/scaled")
        return self.elements("add", scaled, added, name)

    def count(self, value: Value, counts: Tensor | None) -> Tensor:
        """See ``Steps``."""
        return self._shares(value, self._found[value.inputs[0]], counts)[0]

    def _shares(
        self, value: Value, found: _Found[Tensor], counts: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The number of tokens in each new one, and the parts of kept and merged tokens."""
        source = value.inputs[-1]
        if source not in found.shares:
            found.shares[source] = self._new_shares(found, counts)
        return found.shares[source]

    def _new_shares(
        self, found: _Found[Tensor], counts: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        name, into, merged = found.name, found.into, found.size[2]
        if counts is None:
            kept = self.constant(f"{name}/one", np.ones((1, 1, 1), np.float32))
        else:
            kept = self.gathered(counts, found.kept, f"{name}/kept/counts")
            gone = self.gathered(counts, found.gone, f"{name}/gone/counts")
            gone = self.reshape(gone, (self.batch, 1, merged), f"{name}/gone/row")
            into = self.elements("multiply", into, gone, f"{name}/into/counted")
        total = self.row_sums(into, f"{name}/more")
        total = self.elements("add", total, kept, f"{name}/counts")
        of_kept = self.elements("divide", kept, total, f"{name}/kept/share")
        of_gone = self.elements("divide", into, total, f"{name}/gone/share")
        return total, of_kept, of_gone
