"""The operators of a TFLite file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vitedge.artifacts.contents import Operator
from vitedge.errors import missing_package
from vitedge.files.tflite_verifier import demand_sound


def read_operators(path: Path) -> Iterator[Operator]:
    """See ``FormatTools``."""
    try:
        from ai_edge_litert import schema_py_generated as schema
    except ImportError as error:
        raise missing_package("ai-edge-litert", "tflite") from error
    demand_sound(path)
    model = schema.Model.GetRootAsModel(path.read_bytes(), 0)
    graphs = [model.Subgraphs(index) for index in range(model.SubgraphsLength())]
    codes = [model.OperatorCodes(index) for index in range(model.OperatorCodesLength())]
    operators = [
        (graph, graph.Operators(index))
        for graph in graphs
        for index in range(graph.OperatorsLength())
    ]
    names = _names_of(schema.BuiltinOperator)
    types = _names_of(schema.TensorType)

    def type_of(graph: Any, tensor: int) -> str:
        return "-" if tensor < 0 else types[graph.Tensors(tensor).Type()].lower()

    for graph, operator in operators:
        code = codes[operator.OpcodeIndex()]
        number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        name = names.get(number, f"operator {number}")
        if name == "CUSTOM":
            name = f"CUSTOM {(code.CustomCode() or b'').decode(errors='replace')}"
        yield Operator(
            name,
            tuple(type_of(graph, tensor) for tensor in _vector(operator.InputsAsNumpy())),
            tuple(type_of(graph, tensor) for tensor in _vector(operator.OutputsAsNumpy())),
        )


def _vector(numbers: Any) -> list[int]:
    """A vector of a flatbuffer, which is the number 0 where it is left out."""
    return [] if isinstance(numbers, int) else [int(number) for number in numbers]


def _names_of(enumeration: type) -> dict[int, str]:
    return {value: name for name, value in vars(enumeration).items() if isinstance(value, int)}
