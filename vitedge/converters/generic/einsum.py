"""Einsums of ONNX graphs as matrix products, which quantizers and fast kernels know.

``keras.layers.MultiHeadAttention`` is written in einsums. As such they would stay float: ONNX
Runtime quantizes MatMul and Gemm only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vitedge.files.onnx_apart import infer_types

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True)
class _Product:
    """An einsum of two operands, its letters sorted by what becomes of them."""

    left: str
    right: str
    output: str
    batch: str
    rows: str
    columns: str
    summed: str

    @classmethod
    def of(cls, equation: str) -> _Product | None:
        """Reads ``abc,cd->abd``; None for what one matrix product cannot compute."""
        operands, arrow, output = equation.replace(" ", "").partition("->")
        left, comma, right = operands.partition(",")
        letters = left + right + output
        if not (arrow and comma) or "," in right or not letters.isalpha():
            return None
        if any(len(set(part)) < len(part) for part in (left, right, output)):
            return None  # a diagonal
        both = set(left) & set(right)
        batch = "".join(letter for letter in output if letter in both)
        rows = "".join(letter for letter in left if letter not in both)
        columns = "".join(letter for letter in right if letter not in both)
        summed = "".join(letter for letter in left if letter in both and letter not in batch)
        if set(batch + rows + columns) != set(output):
            return None  # a sum over one operand alone
        return cls(left, right, output, batch, rows, columns, summed)


def einsums_as_products(model: onnx.ModelProto) -> None:
    """Rewrites, in place, each einsum of two operands with constant shapes."""
    if not any(node.op_type == "Einsum" for node in model.graph.node):
        return
    inferred = infer_types(model)
    shapes = {item.name: tuple(item.dims) for item in inferred.initializer}
    for item in (*inferred.input, *inferred.value_info, *inferred.output):
        shapes[item.name] = tuple(dim.dim_value for dim in item.type.tensor_type.shape.dim)
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        product = _Product.of(node.attribute[0].s.decode()) if node.op_type == "Einsum" else None
        known = [shapes.get(name, ()) for name in node.input]
        if product is None or not all(map(all, known)) or () in known:
            nodes.append(node)
        else:
            nodes += _Writer(model, node, product, known).nodes()
    del model.graph.node[:]
    model.graph.node.extend(nodes)


class _Writer:
    """Writes one einsum as Transpose, Reshape and MatMul."""

    def __init__(
        self,
        model: onnx.ModelProto,
        node: onnx.NodeProto,
        product: _Product,
        shapes: Sequence[tuple[int, ...]],
    ) -> None:
        self._model, self._node, self._product = model, node, product
        self._sizes = dict(zip(product.left, shapes[0], strict=True))
        self._sizes |= dict(zip(product.right, shapes[1], strict=True))
        self._constants = {item.name: item for item in model.graph.initializer}
        self._nodes: list[onnx.NodeProto] = []

    def nodes(self) -> list[onnx.NodeProto]:
        """The nodes that take the einsum's place."""
        product, (left, right) = self._product, self._node.input
        first = self._operand(left, product.left, product.rows, product.summed)
        second = self._operand(right, product.right, product.summed, product.columns)
        order = product.batch + product.rows + product.columns
        matrix = [*self._shape(product.batch), self._count(product.rows)]
        matrix.append(self._count(product.columns))
        result = self._add("MatMul", [first, second])
        result = self._reshaped(result, matrix, self._shape(order))
        self._transposed(result, order, product.output)
        self._nodes[-1].output[0] = self._node.output[0]
        return self._nodes

    def _operand(self, name: str, letters: str, rows: str, columns: str) -> str:
        """An operand as matrices ``(*batch, rows, columns)``; a constant is laid out here."""
        import onnx

        batch = self._product.batch if set(self._product.batch) <= set(letters) else ""
        order = batch + rows + columns
        shape = [*self._shape(batch), self._count(rows), self._count(columns)]
        if name not in self._constants:
            moved = self._transposed(name, letters, order)
            return self._reshaped(moved, self._shape(order), shape)
        values = onnx.numpy_helper.to_array(self._constants[name])
        axes = [letters.index(letter) for letter in order]
        laid_out = np.ascontiguousarray(values.transpose(axes).reshape(shape))
        return self._constant(laid_out, f"{name} as a matrix")

    def _shape(self, letters: str) -> list[int]:
        return [self._sizes[letter] for letter in letters]

    def _count(self, letters: str) -> int:
        return math.prod(self._shape(letters))

    def _transposed(self, name: str, before: str, after: str) -> str:
        if before == after:
            return name
        return self._add("Transpose", [name], perm=[before.index(letter) for letter in after])

    def _reshaped(self, name: str, before: list[int], after: list[int]) -> str:
        if before == after:
            return name
        shape = self._constant(np.asarray(after, np.int64), f"{self._next_name()} shape")
        return self._add("Reshape", [name, shape])

    def _constant(self, values: np.ndarray, name: str) -> str:
        import onnx

        if name not in self._constants:
            item = onnx.numpy_helper.from_array(values, name)
            self._model.graph.initializer.append(item)
            self._constants[name] = item
        return name

    def _add(self, operator: str, inputs: list[str], **attributes: object) -> str:
        import onnx

        name = self._next_name()
        self._nodes.append(onnx.helper.make_node(operator, inputs, [name], name, **attributes))
        return name

    def _next_name(self) -> str:
        return f"{self._node.name or self._node.output[0]} {len(self._nodes)}"
