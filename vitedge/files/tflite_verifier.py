"""TFLite files, verified before any engine sees them.

LiteRT's Python packages load a file without verifying it, and a garbled one ends the process or
takes all memory. Here every offset is followed (``flatbuffer``), and every index, shape, buffer and
quantization parameter is held against what it must fit. It takes some ten milliseconds, as it
leaves the weights alone, and needs no package.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

from vitedge.errors import ModelError
from vitedge.files import tflite_schema
from vitedge.files.flatbuffer import Schema, Table, parse_schema, verify
from vitedge.files.limits import refuse_inflation
from vitedge.files.tflite_operators import (
    CUSTOM,
    demand_inputs,
    demand_scales,
    demand_types,
    rule_of,
)

_VERSION = 3
_MODEL = {"version": 0, "codes": 1, "graphs": 2, "buffers": 4, "metadata": 6}
_MODEL |= {"signatures": 7, "external_groups": 8, "external_buffers": 9}
_TENSORS, _GRAPH_INPUTS, _GRAPH_OUTPUTS, _OPERATORS = 0, 1, 2, 3
_SHAPE, _TYPE, _BUFFER, _QUANTIZATION, _SPARSITY, _SIGNATURE_SHAPE = 0, 1, 2, 4, 6, 7
_IS_VARIABLE, _EXTERNAL_BUFFER = 5, 10
_DEPRECATED_CODE, _BUILTIN_CODE = 0, 3
_CODE, _INPUTS, _OUTPUTS, _OPTIONS_KIND, _OPTIONS, _INTERMEDIATES = 0, 1, 2, 3, 4, 8
_CUSTOM_OFFSET, _CUSTOM_SIZE, _OPTIONS_2_KIND, _OPTIONS_2 = 9, 10, 11, 12
_DATA, _DATA_OFFSET, _DATA_SIZE = 0, 1, 2
_SCALE, _ZERO_POINT, _DETAILS_KIND, _DETAILS, _AXIS = 2, 3, 4, 5, 6
_METADATA_BUFFER = 1
_MAP_TENSOR, _SIGNATURE_INPUTS, _SIGNATURE_OUTPUTS, _SIGNATURE_GRAPH = 1, 0, 1, 4

# Bits of an element of each TensorType; None where it has no fixed size (strings, resources).
_BITS: tuple[int | None, ...] = (
    *(32, 16, 32, 8, 64, None, 8, 16, 64, 8, 64, 128, 64, None, None, 32, 16, 4, 16, 2, 4, 8, 8),
)

# Fields of options that are numbers of subgraphs, by the kind of the options.
_SUBGRAPHS = {
    "IfOptions": (0, 1),
    "WhileOptions": (0, 1),
    "CallOptions": (0,),
    "CallOnceOptions": (0,),
    "StableHLOCompositeOptions": (1,),
    "StablehloReduceOptions": (1,),
    "StablehloReduceWindowOptions": (5,),
    "StablehloSortOptions": (2,),
    "StablehloWhileOptions": (0, 1),
    "StablehloScatterOptions": (6,),
}
_SUBGRAPH_VECTORS = {"StablehloCaseOptions": 0, "StablehloCustomCallOptions": 4}

_MOST_AXES = 8  # of LiteRT's own kernels
_BLOCKWISE = 2
_ARENA_TIMES = 8
"""LiteRT reuses memory: the activations of a ViT together are some ten times what it holds."""


@lru_cache(maxsize=1)
def _schema() -> Schema:
    return parse_schema(tflite_schema.TABLES, tflite_schema.UNIONS)


def demand_sound(path: Path) -> None:
    """Verifies a file; what was found sound is not verified again while it stays unchanged.

    Raises:
        ModelError: The file is missing, truncated, inconsistent, or not a TFLite file.
        SizeError: Its tensors would take more memory than the bound on sources.
    """
    try:
        status = path.stat()
        _verify_once(path, status.st_size, status.st_mtime_ns)
    except OSError as error:
        raise ModelError(f"cannot read '{path}' ({error.strerror or error})") from error


@lru_cache(maxsize=16)
def _verify_once(path: Path, size: int, modified_ns: int) -> None:
    with open_verified(path):
        pass


@contextmanager
def open_verified(path: Path) -> Iterator[Table]:
    """Opens a file that was verified, at its root.

    Raises:
        ModelError: The file is truncated, inconsistent, or not a TFLite file.
        SizeError: Its tensors would take more memory than the bound on sources.
        OSError: The file cannot be read.
    """
    with path.open("rb") as stream:
        try:
            data = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError as error:
            raise ModelError(f"'{path}' is truncated or not a TFLite file (it is empty)") from error
        with data:
            try:
                root = verify(data, _schema(), tflite_schema.MODEL, tflite_schema.IDENTIFIER)
                _Check(path, root, len(data)).run()
            except ValueError as error:
                raise ModelError(f"'{path}' is truncated or not a TFLite file ({error})") from error
            yield root


class _Check:
    """Holds what a file says against itself."""

    def __init__(self, path: Path, root: Table, size: int) -> None:
        self._path, self._root, self._size = path, root, size
        self._codes = [
            max(code.number(_DEPRECATED_CODE, "b"), code.number(_BUILTIN_CODE, "i"))
            for code in root.tables(_MODEL["codes"])
        ]
        self._graphs = root.tables(_MODEL["graphs"])
        self._buffers = [self._length(buffer) for buffer in root.tables(_MODEL["buffers"])]
        self._calls: list[set[int]] = [set() for _ in self._graphs]
        self._claimed = 0

    def run(self) -> None:
        version = self._root.number(_MODEL["version"], "I")
        if version != _VERSION:
            raise ValueError(f"version {version} of the schema, not {_VERSION}")
        if self._root.length(_MODEL["external_groups"]) or self._root.length(
            _MODEL["external_buffers"]
        ):
            raise ValueError("weights in other files, which vitedge does not read")
        if not self._graphs:
            raise ValueError("no subgraph")
        for entry in self._root.tables(_MODEL["metadata"]):
            _demand_index(entry.number(_METADATA_BUFFER, "I"), len(self._buffers), "metadata")
        for index, graph in enumerate(self._graphs):
            self._check_graph(index, graph)
        self._refuse_recursion()
        self._check_signatures()
        refuse_inflation(
            f"the tensors of '{self._path}'", self._claimed // _ARENA_TIMES, self._size
        )

    def _length(self, buffer: Table) -> int:
        """Bytes of a buffer, which past 2 GiB lie behind the flatbuffer."""
        offset, size = buffer.number(_DATA_OFFSET, "Q"), buffer.number(_DATA_SIZE, "Q")
        if offset <= 1:
            return buffer.length(_DATA)
        if offset + size > self._size:
            raise ValueError("a buffer reaches past the end of the file")
        return size

    def _check_graph(self, index: int, graph: Table) -> None:
        tensors = graph.tables(_TENSORS)
        for tensor in tensors:
            self._check_tensor(tensor, len(tensors))
        inputs = graph.numbers(_GRAPH_INPUTS, "i")
        for number in (*inputs, *graph.numbers(_GRAPH_OUTPUTS, "i")):
            _demand_index(number, len(tensors), "input or output of a subgraph")
        constant = {number for number, tensor in enumerate(tensors) if self._is_held(tensor)}
        known = constant.union(inputs)
        for operator in graph.tables(_OPERATORS):
            self._check_operator(operator, tensors, known)
            self._calls[index].update(self._called(operator))
        for number in graph.numbers(_GRAPH_OUTPUTS, "i"):
            if number not in known:
                raise ValueError(f"nothing computes tensor {number}, an output")

    def _is_held(self, tensor: Table) -> bool:
        """Whether a tensor has its values before an operator computes them."""
        is_empty = 0 in tensor.numbers(_SHAPE, "i")
        is_variable = bool(tensor.number(_IS_VARIABLE, "B"))
        return is_empty or is_variable or self._buffers[tensor.number(_BUFFER, "I")] > 0

    def _check_operator(self, operator: Table, tensors: list[Table], known: set[int]) -> None:
        """Holds an operator against the tensors that are known before it, and adds its own."""
        code = operator.number(_CODE, "I")
        _demand_index(code, len(self._codes), "operator code")
        builtin = self._codes[code]
        inputs, outputs = operator.numbers(_INPUTS, "i"), operator.numbers(_OUTPUTS, "i")
        demand_inputs(builtin, inputs, outputs)
        for number in (*outputs, *operator.numbers(_INTERMEDIATES, "i")):
            _demand_index(number, len(tensors), "output of an operator")
        for number in (each for each in inputs if each != -1):
            _demand_index(number, len(tensors), "input of an operator")
        # Compiled parts, such as Vela's, take memory to work in as inputs that nobody computes.
        for number in inputs if builtin != CUSTOM else ():
            if number != -1 and number not in known:
                raise ValueError(f"nothing computes tensor {number} before it is read")
        for number in outputs:
            if number in known and 0 not in tensors[number].numbers(_SHAPE, "i"):
                raise ValueError(f"tensor {number} is computed, and known before")
        known.update(outputs)
        operands = [tensors[number] for number in (*inputs, *outputs) if number != -1]
        demand_types(builtin, [(each.number(_TYPE, "b"), _has_scale(each)) for each in operands])
        self._check_options(operator, builtin, len(outputs))

    def _check_options(self, operator: Table, builtin: int, outputs: int) -> None:
        custom = operator.number(_CUSTOM_OFFSET, "Q")
        if custom > 1 and custom + operator.number(_CUSTOM_SIZE, "Q") > self._size:
            raise ValueError("custom options reach past the end of the file")
        rule = rule_of(builtin)
        if not rule.options:
            return
        options = operator.table(_OPTIONS)
        kind = _kinds("BuiltinOptions")[operator.number(_OPTIONS_KIND, "B")]
        if options is None or kind != rule.options:
            raise ValueError(f"operator {builtin} has options of the kind {kind}")
        for field, default in rule.positive.items():
            if options.number(field, "i", default) <= 0:
                raise ValueError(f"{kind} with a number that is not positive")
        if rule.counts_outputs is not None:
            count = options.number(rule.counts_outputs, "i")
            if count != outputs:
                raise ValueError(f"{kind} of {count} outputs, which are {outputs}")

    def _check_tensor(self, tensor: Table, tensors: int) -> None:
        shape = tensor.numbers(_SHAPE, "i")
        kind = tensor.number(_TYPE, "b")
        if not 0 <= kind < len(_BITS):
            raise ValueError(f"the element type {kind} is unknown")
        if len(shape) > _MOST_AXES or any(size < 0 for size in shape):
            raise ValueError(f"a tensor of shape {shape}")
        if any(size < -1 for size in tensor.numbers(_SIGNATURE_SHAPE, "i")):
            raise ValueError("a tensor's shape signature is negative")
        buffer = tensor.number(_BUFFER, "I")
        _demand_index(buffer, len(self._buffers), "buffer")
        if tensor.number(_EXTERNAL_BUFFER, "I"):
            raise ValueError("a tensor in another file")
        bits, held = _BITS[kind], self._buffers[buffer]
        if bits is not None:
            needed = -(-math.prod(shape) * bits // 8)
            if held and held != needed and tensor.table(_SPARSITY) is None:
                raise ValueError(f"a tensor of {needed:,} bytes in a buffer of {held:,}")
            refuse_inflation(f"a tensor of '{self._path}'", needed, self._size)
            self._claimed += 0 if held else needed
        quantization = tensor.table(_QUANTIZATION)
        if quantization is not None:
            _check_quantization(quantization, shape, tensors)

    def _called(self, operator: Table) -> Iterator[int]:
        """The subgraphs that an operator runs."""
        for union, kind_field, field in (
            ("BuiltinOptions", _OPTIONS_KIND, _OPTIONS),
            ("BuiltinOptions2", _OPTIONS_2_KIND, _OPTIONS_2),
        ):
            number, options = operator.number(kind_field, "B"), operator.table(field)
            if options is None or not number:
                continue
            kind = _kinds(union)[number]
            numbers = [options.number(each, "i") for each in _SUBGRAPHS.get(kind, ())]
            if kind in _SUBGRAPH_VECTORS:
                numbers += options.numbers(_SUBGRAPH_VECTORS[kind], "i")
            for called in numbers:
                _demand_index(called, len(self._graphs), "subgraph of an operator")
                yield called

    def _refuse_recursion(self) -> None:
        left = {index: set(called) for index, called in enumerate(self._calls)}
        while left:
            done = [index for index, called in left.items() if not called & left.keys()]
            if not done:
                raise ValueError("a subgraph that runs itself")
            for index in done:
                del left[index]

    def _check_signatures(self) -> None:
        for signature in self._root.tables(_MODEL["signatures"]):
            graph = signature.number(_SIGNATURE_GRAPH, "I")
            _demand_index(graph, len(self._graphs), "subgraph of a signature")
            tensors = self._graphs[graph].length(_TENSORS)
            for field in (_SIGNATURE_INPUTS, _SIGNATURE_OUTPUTS):
                for entry in signature.tables(field):
                    _demand_index(entry.number(_MAP_TENSOR, "I"), tensors, "tensor of a signature")


@lru_cache(maxsize=2)
def _kinds(union: str) -> tuple[str, ...]:
    return tuple(tflite_schema.UNIONS[union].split())


def _has_scale(tensor: Table) -> bool:
    quantization = tensor.table(_QUANTIZATION)
    if quantization is None:
        return False
    blockwise = quantization.number(_DETAILS_KIND, "B") == _BLOCKWISE
    return blockwise or quantization.length(_SCALE) > 0


def _check_quantization(quantization: Table, shape: tuple[int, ...], tensors: int) -> None:
    scales, zeros = quantization.length(_SCALE), quantization.length(_ZERO_POINT)
    demand_scales(quantization.numbers(_SCALE, "f"))
    if quantization.number(_DETAILS_KIND, "B") == _BLOCKWISE:
        details = quantization.table(_DETAILS)
        if details is None:
            raise ValueError("blockwise quantization without its scales")
        _demand_index(details.number(0, "i"), tensors, "scales of a quantization")
        zero_points = details.number(1, "i", -1)
        if zero_points != -1:
            _demand_index(zero_points, tensors, "zero points of a quantization")
        return
    if scales and zeros not in (0, 1, scales):
        raise ValueError(f"{zeros} zero points for {scales} scales")
    if scales > 1:
        axis = quantization.number(_AXIS, "i")
        _demand_index(axis, len(shape), "axis of a quantization")
        if shape[axis] != scales:
            raise ValueError(f"{scales} scales for {shape[axis]} channels")


def _demand_index(number: int, count: int, what: str) -> None:
    if not 0 <= number < count:
        raise ValueError(f"the {what} is number {number} of {count}")
