"""Merging of tokens by TFLite's operators; places are int32."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vitedge.converters.tflite.images import TFLiteImages

# The first that gathers from each image its own places.
_GATHER_IN_BATCHES = 5

_CODES = {"add": "ADD", "multiply": "MUL", "divide": "DIV"}


class TFLiteMerging(TFLiteImages):
    """The steps of ``MergingEmitter``."""

    def largest(self, x: int, name: str) -> tuple[int, int]:
        """See ``MergingEmitter``."""
        *rows, _ = self.model.shape(x)
        best = self.reduced("REDUCE_MAX", x, len(rows), rows, name, keep=False)
        places = self.model.operator(
            "ARG_MAX",
            [x, self.integers((len(rows),), scalar=True)],
            rows,
            name=f"{name}/places",
            options={"table": "ArgMaxOptions", "outputType": self.model.type_number("INT32")},
            dtype="INT32",
        )
        return best, places

    def descending(self, x: int, name: str) -> int:
        """See ``MergingEmitter``."""
        shape = self.model.shape(x)
        _, places = self.model.operator_many(
            "TOPK_V2",
            [x, self.integers((shape[-1],), scalar=True)],
            [shape, shape],
            [f"{name}/numbers", name],
            {"table": "TopKV2Options"},
            dtypes=["FLOAT32", "INT32"],
        )
        return places

    def first_places(self, x: int, first: int, count: int, name: str) -> int:
        """See ``MergingEmitter``."""
        inputs = [x, self.integers((0, first)), self.integers((self.batch, count))]
        options = {"table": "SliceOptions"}
        shape = (self.batch, count)
        return self.model.operator(
            "SLICE", inputs, shape, name=name, options=options, dtype="INT32"
        )

    def looked_up(self, table: Sequence[int], places: int, name: str) -> int:
        """See ``MergingEmitter``."""
        numbers = self.integers(tuple(table))
        return self._gather(numbers, places, self.model.shape(places), name, 0, 0, "INT32")

    def gathered(self, x: int, places: int, name: str) -> int:
        """See ``MergingEmitter``."""
        made = (*self.model.shape(places), *self.model.shape(x)[2:])
        return self._gather(x, places, made, name, 1, 1, self.model.dtype(x))

    def _gather(
        self,
        x: int,
        places: int,
        shape: Sequence[int],
        name: str,
        axis: int,
        apart: int,
        dtype: str,
    ) -> int:
        options = {"table": "GatherOptions", "axis": axis, "batchDims": apart}
        version = _GATHER_IN_BATCHES if apart else 1
        return self.model.operator(
            "GATHER", [x, places], shape, name=name, options=options, version=version, dtype=dtype
        )

    def with_constants(
        self, before: Sequence[int], x: int, behind: Sequence[int], name: str
    ) -> int:
        """See ``MergingEmitter``."""
        parts = [x]
        if before:
            parts.insert(0, self._repeated(before, f"{name}/before"))
        if behind:
            parts.append(self._repeated(behind, f"{name}/behind"))
        total = sum(self.model.shape(part)[1] for part in parts)
        return self.model.operator(
            "CONCATENATION",
            parts,
            (self.batch, total),
            name=name,
            options={"table": "ConcatenationOptions", "axis": 1},
            dtype="INT32",
        )

    def _repeated(self, numbers: Sequence[int], name: str) -> int:
        return self.constant(name, np.tile(np.asarray(numbers, np.int32), (self.batch, 1)))

    def one_hot(self, places: int, size: int, name: str) -> int:
        """See ``MergingEmitter``."""
        on, off = (
            self.constant(f"{name}/{word}", np.asarray(number, np.float32))
            for word, number in (("on", 1), ("off", 0))
        )
        batch, count = self.model.shape(places)
        return self.model.operator(
            "ONE_HOT",
            [places, self.integers((size,), scalar=True), on, off],
            (batch, size, count),
            name=name,
            options={"table": "OneHotOptions", "axis": 1},
        )

    def matrix_product(self, a: int, b: int, name: str, *, transposed: bool = False) -> int:
        """See ``MergingEmitter``."""
        columns = self.model.shape(b)[1 if transposed else 2]
        options = {"table": "BatchMatMulOptions"} | ({"adjY": True} if transposed else {})
        shape = (*self.model.shape(a)[:2], columns)
        return self.model.operator("BATCH_MATMUL", [a, b], shape, name=name, options=options)

    def elements(self, operator: str, a: int, b: int, name: str) -> int:
        """See ``MergingEmitter``."""
        return self.of_two(_CODES[operator], a, b, name)

    def row_sums(self, x: int, name: str) -> int:
        """See ``MergingEmitter``."""
        *rows, _ = self.model.shape(x)
        return self.reduced("SUM", x, len(rows), (*rows, 1), name)

    def logarithm(self, x: int, name: str) -> int:
        """See ``MergingEmitter``."""
        return self.model.operator("LOG", [x], self.model.shape(x), name=name)
