"""Merging of tokens by ONNX's operators; places are int64."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vitedge.converters.onnx.nodes import OnnxNodes

_NODES = {"add": "Add", "multiply": "Mul", "divide": "Div"}


class OnnxMerging(OnnxNodes):
    """The steps of ``MergingEmitter``."""

    def largest(self, x: str, name: str) -> tuple[str, str]:
        """See ``MergingEmitter``."""
        best = self._node("ReduceMax", [x, self._axis(-1)], name, keepdims=0)
        places = self._node("ArgMax", [x], f"{name}/places", axis=-1, keepdims=0)
        return best, places

    def descending(self, x: str, name: str) -> str:
        """See ``MergingEmitter``; a shape says how many they are."""
        count = self._node("Shape", [x], f"{name}/count", start=-1)
        made = [f"{name}/numbers", name]
        return self._node_many("TopK", [x, count], made, name, axis=-1, largest=1, sorted=1)[1]

    def first_places(self, x: str, first: int, count: int, name: str) -> str:
        """See ``MergingEmitter``."""
        return self.neighbours_along(x, 1, first, count, name)

    def looked_up(self, table: Sequence[int], places: str, name: str) -> str:
        """See ``MergingEmitter``."""
        numbers = self._integers(f"{name}/table", tuple(table))
        return self._node("Gather", [numbers, places], name, axis=0)

    def gathered(self, x: str, places: str, name: str) -> str:
        """See ``MergingEmitter``."""
        last = self._integers("last_axis", (-1,))
        apart = self._node("Unsqueeze", [places, last], f"{name}/places")
        return self._node("GatherND", [x, apart], name, batch_dims=1)

    def with_constants(
        self, before: Sequence[int], x: str, behind: Sequence[int], name: str
    ) -> str:
        """See ``MergingEmitter``."""
        parts = [x]
        if before:
            parts.insert(0, self._repeated(before, f"{name}/before"))
        if behind:
            parts.append(self._repeated(behind, f"{name}/behind"))
        return self._node("Concat", parts, name, axis=1)

    def _repeated(self, numbers: Sequence[int], name: str) -> str:
        return self.constant(name, np.tile(np.asarray(numbers, np.int64), (self.batch, 1)))

    def one_hot(self, places: str, size: int, name: str) -> str:
        """See ``MergingEmitter``."""
        depth = self._integers(f"{name}/size", (size,))
        ends = self.constant(f"{name}/ends", np.asarray([0, 1], np.float32))
        return self._node("OneHot", [places, depth, ends], name, axis=1)

    def matrix_product(self, a: str, b: str, name: str, *, transposed: bool = False) -> str:
        """See ``MergingEmitter``."""
        if transposed:
            b = self.transpose(b, (0, 2, 1), f"{name}/columns")
        return self._node("MatMul", [a, b], name)

    def elements(self, operator: str, a: str, b: str, name: str) -> str:
        """See ``MergingEmitter``."""
        return self._node(_NODES[operator], [a, b], name)

    def row_sums(self, x: str, name: str) -> str:
        """See ``MergingEmitter``."""
        return self._node("ReduceSum", [x, self._axis(-1)], name, keepdims=1)

    def logarithm(self, x: str, name: str) -> str:
        """See ``MergingEmitter``."""
        return self._node("Log", [x], name)
