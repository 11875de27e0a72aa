"""The ONNX graph of ``engine_graph`` as a torch module, for engines that start from torch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import torch
import torch.nn.functional as F  # noqa: N812  (as torch's own documentation has it)
from onnx import numpy_helper


def module_of(graph: Path) -> torch.nn.Module:
    """A module that computes the graph, operator by operator."""
    return _Graph(onnx.load(graph).graph).eval()


class _Graph(torch.nn.Module):
    def __init__(self, graph: Any) -> None:
        super().__init__()
        self._nodes = [
            (
                _OPERATORS[node.op_type],
                list(node.input),
                list(node.output),
                {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute},
            )
            for node in graph.node
        ]
        self._input, self._output = graph.input[0].name, graph.output[0].name
        self._numbers: dict[str, list[int]] = {}  # shapes and places: no tensors of the graph
        self._names: dict[str, str] = {}
        for each in graph.initializer:
            array = numpy_helper.to_array(each).copy()
            if array.dtype.kind == "i":
                self._numbers[each.name] = array.reshape(-1).tolist()
                continue
            self._names[each.name] = f"array{len(self._names)}"
            self.register_parameter(
                self._names[each.name], torch.nn.Parameter(torch.from_numpy(array), False)
            )

    def forward(self, planes: torch.Tensor) -> torch.Tensor:
        known: dict[str, Any] = {self._input: planes, **self._numbers}
        known |= {name: getattr(self, own) for name, own in self._names.items()}
        for operator, inputs, outputs, options in self._nodes:
            found = operator([known[name] for name in inputs if name], options)
            known |= zip(outputs, found if len(outputs) > 1 else [found], strict=True)
        return known[self._output]


def _gemm(given: list[Any], options: dict[str, Any]) -> torch.Tensor:
    x, weight, *bias = given
    return F.linear(x, weight if options.get("transB") else weight.T, *bias)


def _norm(given: list[Any], options: dict[str, Any]) -> torch.Tensor:
    x, *affine = given
    return F.layer_norm(x, x.shape[-1:], *affine, eps=options.get("epsilon", 1e-5))


def _split(given: list[Any], options: dict[str, Any]) -> Any:
    x, *sizes = given
    axis = options.get("axis", 0)
    wanted = sizes[0] if sizes else x.shape[axis] // options["num_outputs"]
    return x.split(wanted, dim=axis)


def _slice(given: list[Any], options: dict[str, Any]) -> torch.Tensor:
    x, starts, ends, *more = given
    axes = more[0] if more else range(len(starts))
    for axis, start, end in zip(axes, starts, ends, strict=True):
        size = x.shape[axis]
        x = x.narrow(axis, start, min(end, size) - start)
    return x


_OPERATORS: dict[str, Callable[[list[Any], dict[str, Any]], Any]] = {
    "Conv": lambda given, options: F.conv2d(*given, stride=tuple(options["strides"])),
    "Gemm": _gemm,
    "MatMul": lambda given, _: given[0] @ given[1],
    "Add": lambda given, _: given[0] + given[1],
    "Mul": lambda given, _: given[0] * given[1],
    "Concat": lambda given, options: torch.cat(given, dim=options["axis"]),
    "Reshape": lambda given, _: given[0].reshape(given[1]),
    "Transpose": lambda given, options: given[0].permute(*options["perm"]),
    "Split": _split,
    "Slice": _slice,
    "LayerNormalization": _norm,
    "Softmax": lambda given, options: given[0].softmax(options.get("axis", -1)),
    "Gelu": lambda given, options: F.gelu(
        given[0], approximate=options.get("approximate", b"none").decode()
    ),
    "Identity": lambda given, _: given[0],
}
