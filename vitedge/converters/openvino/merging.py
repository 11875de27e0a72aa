"""Merging of tokens by OpenVINO's operators; places are int32."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from vitedge.converters.openvino.nodes import OpenVINONodes


class OpenVINOMerging(OpenVINONodes):
    """The steps of ``MergingEmitter``."""

    def largest(self, x: Any, name: str) -> tuple[Any, Any]:
        """See ``MergingEmitter``."""
        one = self._number(1, f"{name}/one")
        found = self._ops.topk(x, one, 2, "max", "none", "i32", name=name)
        rows = list(found.output(0).shape)[:2]
        best, places = (
            self.reshape(found.output(at), tuple(rows), f"{name}/{word}")
            for at, word in enumerate(("numbers", "places"))
        )
        return best, places

    def descending(self, x: Any, name: str) -> Any:
        """See ``MergingEmitter``."""
        count = self._number(x.shape[1], f"{name}/count")
        return self._ops.topk(x, count, 1, "max", "value", "i32", name=name).output(1)

    def first_places(self, x: Any, first: int, count: int, name: str) -> Any:
        """See ``MergingEmitter``."""
        ends = [self._integers(each) for each in ((first,), (first + count,), (1,), (1,))]
        return self._ops.slice(x, *ends, name=name)

    def looked_up(self, table: Sequence[int], places: Any, name: str) -> Any:
        """See ``MergingEmitter``."""
        numbers = self.constant(f"{name}/table", np.asarray(table, np.int32))
        return self._ops.gather(numbers, places, self._number(0, f"{name}/axis"), name=name)

    def gathered(self, x: Any, places: Any, name: str) -> Any:
        """See ``MergingEmitter``; along one axis for all images.

        OpenVINO 2026.4 crashes in a Gather that has each image's own places, of a few numbers each.
        """
        (batch, old, *rest), (_, new) = x.shape, places.shape
        if batch > 1:
            starts = self.constant(
                f"{name}/starts", old * np.arange(batch, dtype=np.int32)[:, None]
            )
            places = self._ops.add(places, starts, name=f"{name}/places")
        rows = self.reshape(x, (batch * old, *rest), f"{name}/rows")
        wanted = self.reshape(places, (batch * new,), f"{name}/wanted")
        found = self._ops.gather(
            rows, wanted, self._number(0, f"{name}/axis"), name=f"{name}/found"
        )
        return self.reshape(found, (batch, new, *rest), name)

    def with_constants(
        self, before: Sequence[int], x: Any, behind: Sequence[int], name: str
    ) -> Any:
        """See ``MergingEmitter``."""
        parts = [x]
        if before:
            parts.insert(0, self._repeated(before, f"{name}/before"))
        if behind:
            parts.append(self._repeated(behind, f"{name}/behind"))
        return self._ops.concat(parts, 1, name=name)

    def _repeated(self, numbers: Sequence[int], name: str) -> Any:
        return self.constant(name, np.tile(np.asarray(numbers, np.int32), (self.batch, 1)))

    def one_hot(self, places: Any, size: int, name: str) -> Any:
        """See ``MergingEmitter``."""
        on, off = (self._scalar(f"{name}/{word}", at) for word, at in (("on", 1.0), ("off", 0.0)))
        return self._ops.one_hot(places, self._number(size, f"{name}/size"), on, off, 1, name=name)

    def matrix_product(self, a: Any, b: Any, name: str, *, transposed: bool = False) -> Any:
        """See ``MergingEmitter``."""
        return self._ops.matmul(a, b, False, transposed, name=name)

    def elements(self, operator: str, a: Any, b: Any, name: str) -> Any:
        """See ``MergingEmitter``."""
        return getattr(self._ops, operator)(a, b, name=name)

    def row_sums(self, x: Any, name: str) -> Any:
        """See ``MergingEmitter``."""
        return self._ops.reduce_sum(x, self._integers((-1,)), True, name=name)

    def logarithm(self, x: Any, name: str) -> Any:
        """See ``MergingEmitter``."""
        return self._ops.log(x, name=name)

    def _number(self, number: int, name: str) -> Any:
        return self.constant(name, np.asarray(number, np.int64))
