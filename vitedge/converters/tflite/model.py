"""Building a TFLite flatbuffer operator by operator.

The stock route to a ``.tflite`` traces Python, lowers it through MLIR and lets pattern matchers
guess what was meant. A ViT needs some twenty operators; writing them down takes a second and
leaves nothing to guess. The schema is LiteRT's own (``ai_edge_litert.schema_py_generated``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from vitedge.artifacts.metadata import METADATA_KEY, Metadata
from vitedge.converters.joined import packed_nibbles
from vitedge.converters.tflite.metadata import ENTRY as CLIENT_METADATA
from vitedge.converters.tflite.metadata import client_metadata
from vitedge.errors import ConversionError, missing_package
from vitedge.network.operators import Array
from vitedge.quantize import IntegerWeight, Range

# Offsets within a flatbuffer are 32 bits, signed in some readers.
MAX_BYTES = 2**31 - 1

# The schema version of every TFLite file since 2018.
_SCHEMA_VERSION = 3

# Kernels read constants with vector instructions, and mapped files are read where they lie.
_ALIGNMENT = 16

# Operators whose results have the scale of an input, and of which: they move numbers, choose among
# them or mix neighbours.
_MOVED_INPUT = {
    "RESHAPE": 0,
    "TRANSPOSE": 0,
    "SLICE": 0,
    "SPLIT": 1,
    "GATHER": 0,
    "PAD": 0,
    "PADV2": 0,
    "MAX_POOL_2D": 0,
    "AVERAGE_POOL_2D": 0,
    "RESIZE_NEAREST_NEIGHBOR": 0,
    "RESIZE_BILINEAR": 0,
}


# Operators that make integers of another width than they read.
_CHANGES_WIDTH = ("QUANTIZE", "SOFTMAX")

_FLOATS = ("FLOAT32",)

# NumPy's name of a type, and the schema's.
_DTYPES = {
    "f4": "FLOAT32",
    "f2": "FLOAT16",
    "i8": "INT64",
    "i4": "INT32",
    "i2": "INT16",
    "i1": "INT8",
}


def load_schema() -> Any:
    """LiteRT's schema module."""
    try:
        from ai_edge_litert import schema_py_generated
    except ImportError as error:
        raise missing_package("ai-edge-litert", "convert") from error
    return schema_py_generated


class TFLiteModel:
    """A model of one subgraph under construction; tensors are the integers it hands out.

    Args:
        ranges: The range of each output of an all-integer model, by the output's name. Operators
            that only move numbers keep the range of their input. Without ranges, outputs are
            float32.
    """

    def __init__(self, ranges: Mapping[str, Range] | None = None) -> None:
        self._ranges = ranges
        self._range_of: dict[int, Range] = {}
        self._schema = load_schema()
        self._buffers: list[Any] = [self._schema.BufferT()]  # the first is empty by definition
        self._tensors: list[Any] = []
        self._names: set[str] = set()
        self._operators: list[Any] = []
        self._codes: dict[tuple[int, int], int] = {}
        self._inputs: list[int] = []

    def shape(self, tensor: int) -> tuple[int, ...]:
        """Shape of a tensor."""
        return tuple(int(size) for size in self._tensors[tensor].shape)

    def dtype(self, tensor: int) -> str:
        """Type of a tensor's numbers, in the schema's words."""
        kinds = vars(self._schema.TensorType)
        number = self._tensors[tensor].type
        return next(str(name) for name, each in kinds.items() if each == number)

    def type_number(self, dtype: str) -> int:
        """The schema's number of a type."""
        return int(getattr(self._schema.TensorType, dtype))

    def input(self, name: str, shape: Sequence[int], dtype: str = "FLOAT32") -> int:
        """Adds a graph input."""
        tensor = self._tensor(name, shape, dtype)
        if self._ranges is not None:
            self._lay_down(tensor, self._ranges[name])
        self._inputs.append(tensor)
        return tensor

    def make_unsigned(self, tensor: int) -> None:
        """Makes an int8 tensor uint8, of the same range, as clients want inputs and outputs."""
        scale, zero = self._range_of[tensor].scale_and_zero_point()
        self._tensors[tensor].type = self._schema.TensorType.UINT8
        self._set_quantization(tensor, np.asarray([scale], np.float32), np.asarray([zero]))

    def constant(self, name: str, values: npt.NDArray[Any]) -> int:
        """Adds a constant; its dtype is the array's."""
        return self._tensor(name, values.shape, _DTYPES[values.dtype.str[1:]], self._buffer(values))

    def range_of(self, tensor: int) -> Range:
        """The range of an integer activation."""
        return self._range_of[tensor]

    def integer_constant(self, name: str, values: Array, covered: Range) -> int:
        """Adds a float array as integers of a range."""
        scale, zero = _signed(covered)
        limits = np.iinfo(f"i{covered.bits // 8}")
        integers = (np.rint(values / scale) + zero).clip(limits.min, limits.max)
        tensor = self.constant(name, integers.astype(limits.dtype))
        self._lay_down(tensor, covered)
        return tensor

    def integer_bias(
        self, name: str, values: Array, steps: npt.NDArray[np.float64], bits: int
    ) -> int:
        """Adds a bias in steps of input scale times weight scale, ``(outputs,)`` each.

        Args:
            name: Name of the tensor.
            values: The bias.
            steps: The value of one unit of each output.
            bits: The width of the layer's input; the bias has 32 bits for 8, and 64 for 16.
        """
        dtype = np.int32 if bits == 8 else np.int64
        limits = np.iinfo(np.int32) if bits == 8 else np.iinfo(np.int64)
        whole = np.rint(values.astype(np.float64) / steps).clip(limits.min / 2, limits.max / 2)
        tensor = self.constant(name, whole.astype(dtype))
        self._set_quantization(tensor, steps.astype(np.float32), np.zeros(len(steps), np.int64))
        return tensor

    def _lay_down(self, tensor: int, covered: Range) -> None:
        scale, zero = _signed(covered)
        self._range_of[tensor] = covered
        self._tensors[tensor].type = getattr(self._schema.TensorType, f"INT{covered.bits}")
        self._set_quantization(tensor, np.asarray([scale], np.float32), np.asarray([zero]))

    def _set_quantization(
        self, tensor: int, scale: Array, zero: npt.NDArray[np.int64], axis: int = 0
    ) -> None:
        quantization = self._schema.QuantizationParametersT()
        quantization.scale, quantization.zeroPoint = scale, zero
        quantization.quantizedDimension = axis
        self._tensors[tensor].quantization = quantization

    def depthwise_weight(self, name: str, weight: IntegerWeight, shape: Sequence[int]) -> int:
        """Adds an integer weight ``(window, outputs)`` with the outputs last, as TFLite wants it.

        Args:
            name: Name of the tensor.
            weight: The integers and their scales.
            shape: ``(1, rows, columns, outputs)``.
        """
        tensor = self.constant(name, weight.values.reshape(shape))
        zeros = np.zeros(len(weight.scale), np.int64)
        self._set_quantization(tensor, weight.scale, zeros, axis=len(shape) - 1)
        return tensor

    def weight(self, name: str, weight: IntegerWeight, shape: Sequence[int] | None = None) -> int:
        """Adds an integer weight ``(inputs, outputs)`` as TFLite wants it: outputs first.

        Args:
            name: Name of the tensor.
            weight: The integers and their scales.
            shape: The shape to split the inputs into, outputs first; None leaves them.
        """
        if weight.zero is not None:
            raise ConversionError(f"the 4-bit weights of '{name}' have zero points, TFLite's none")
        values = weight.values.T
        if weight.bits == 4:
            return self._grouped_weight(name, weight)
        tensor = self.constant(name, values if shape is None else values.reshape(shape))
        self._set_quantization(tensor, weight.scale, np.zeros(len(weight.scale), np.int64))
        return tensor

    def _grouped_weight(self, name: str, weight: IntegerWeight) -> int:
        """4-bit weights with a scale for each output, or for each group of 32 of its inputs."""
        schema = self._schema
        values = weight.values.T
        tensor = self._tensor(name, values.shape, "INT4", self._buffer(packed_nibbles(values)))
        outputs = values.shape[0]
        if weight.group == values.shape[1]:
            scale = weight.scale.reshape(outputs)
            self._set_quantization(tensor, scale, np.zeros(outputs, np.int64))
            return tensor
        groups = schema.BlockwiseQuantizationT()
        groups.scales = self.constant(f"{name}/scale", weight.scale.T.astype(np.float16))
        groups.zeroPoints, groups.blockSize = -1, weight.group
        quantization = schema.QuantizationParametersT()
        quantization.detailsType = schema.QuantizationDetails.BlockwiseQuantization
        quantization.details = groups
        self._tensors[tensor].quantization = quantization
        return tensor

    def operator(
        self,
        code: str,
        inputs: Sequence[int],
        shape: Sequence[int],
        *,
        name: str,
        options: dict[str, Any] | None = None,
        version: int = 1,
        dtype: str = "FLOAT32",
    ) -> int:
        """Adds an operator with one output, and returns that output.

        Args:
            code: Name of the operator in the schema's ``BuiltinOperator``.
            inputs: Its input tensors in order; -1 leaves an optional one out.
            shape: Shape of the output.
            name: Name of the output.
            options: Fields of the operator's options table, plus ``"table"``, that table's name.
            version: Least operator version that has the features used.
            dtype: The dtype of the output, in the schema's words; with ranges, the ranges decide.
        """
        return self.operator_many(code, inputs, [shape], [name], options, version, [dtype])[0]

    def operator_many(
        self,
        code: str,
        inputs: Sequence[int],
        shapes: Sequence[Sequence[int]],
        names: Sequence[str],
        options: dict[str, Any] | None = None,
        version: int = 1,
        dtypes: Sequence[str] = (),
    ) -> list[int]:
        """Adds an operator with several outputs; see ``operator``."""
        outputs = [
            self._tensor(name, shape, dtype)
            for name, shape, dtype in zip(
                names, shapes, dtypes or _FLOATS * len(names), strict=True
            )
        ]
        if self._ranges is not None:
            for name, output in zip(names, outputs, strict=True):
                moved = _MOVED_INPUT.get(code)
                covered = self._ranges[name] if moved is None else self._range_of[inputs[moved]]
                self._lay_down(output, covered)
            self._check_widths(code, [*inputs, *outputs], names[0])
        operator = self._schema.OperatorT()
        number = getattr(self._schema.BuiltinOperator, code)
        operator.opcodeIndex = self._codes.setdefault((number, version), len(self._codes))
        operator.inputs = np.asarray(inputs, np.int32)
        operator.outputs = np.asarray(outputs, np.int32)
        if options is not None:
            fields = dict(options)
            table = fields.pop("table")
            operator.builtinOptionsType = getattr(self._schema.BuiltinOptions, table)
            operator.builtinOptions = getattr(self._schema, f"{table}T")()
            for field, value in fields.items():
                if not hasattr(operator.builtinOptions, field):
                    raise AttributeError(f"{table} has no field {field}")
                setattr(operator.builtinOptions, field, value)
        self._operators.append(operator)
        return outputs

    def _check_widths(self, code: str, tensors: Sequence[int], name: str) -> None:
        # Kernels take it for granted, and compute nonsense where it is not so.
        widths = {self._range_of[each].bits for each in tensors if each in self._range_of}
        if len(widths) > 1 and code not in _CHANGES_WIDTH:
            raise ConversionError(
                f"'{name}' ({code}) would mix integers of 8 and 16 bits, which TFLite has no "
                "operator for; take int8, fp16 or fp32"
            )

    def to_bytes(self, outputs: Mapping[str, int], description: str, metadata: Metadata) -> bytes:
        """The finished flatbuffer.

        Args:
            outputs: The tensors that the graph returns, in order, by their signature names.
            description: One line for viewers.
            metadata: The metadata for ``vitedge.artifacts.metadata``, and for other clients.

        Raises:
            ConversionError: The file would be larger than a flatbuffer can be.
        """
        import flatbuffers

        total = sum(len(buffer.data) for buffer in self._buffers if buffer.data is not None)
        if total + (1 << 20) > MAX_BYTES:
            raise ConversionError(
                f"a TFLite file cannot hold {total / 2**30:.1f} GiB of weights (its limit is "
                "2 GiB); convert with --fp16 or --int8, or to --format onnx or openvino"
            )
        model = self._model(outputs, description, metadata)
        builder = flatbuffers.Builder(total + (1 << 20))
        builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
        return bytes(builder.Output())

    def _model(self, outputs: Mapping[str, int], description: str, metadata: Metadata) -> Any:
        schema = self._schema
        graph = schema.SubGraphT()
        graph.name = "main"
        graph.tensors, graph.operators = self._tensors, self._operators
        graph.inputs = np.asarray(self._inputs, np.int32)
        graph.outputs = np.asarray(list(outputs.values()), np.int32)
        model = schema.ModelT()
        model.version, model.description = _SCHEMA_VERSION, description
        model.subgraphs = [graph]
        model.operatorCodes = [self._operator_code(*key) for key in self._codes]
        model.buffers = list(self._buffers)
        describe(model, metadata, outputs)
        model.signatureDefs = [self._signature(outputs)]
        return model

    def _operator_code(self, number: int, version: int) -> Any:
        code = self._schema.OperatorCodeT()
        code.builtinCode, code.version = number, version
        # Readers from before 2020 know only this byte; 127 says "look at builtinCode".
        code.deprecatedBuiltinCode = min(number, 127)
        return code

    def _signature(self, outputs: Mapping[str, int]) -> Any:
        def named(tensor: int, name: str) -> Any:
            entry = self._schema.TensorMapT()
            entry.name, entry.tensorIndex = name, tensor
            return entry

        signature = self._schema.SignatureDefT()
        signature.signatureKey = "serving_default"
        signature.inputs = [
            named(tensor, self._tensors[tensor].name.decode()) for tensor in self._inputs
        ]
        signature.outputs = [named(tensor, name) for name, tensor in outputs.items()]
        return signature

    def _tensor(self, name: str, shape: Sequence[int], dtype: str, buffer: int = 0) -> int:
        number, free = 1, name
        while free in self._names:  # tools that quantize TFLite files take each name once
            number += 1
            free = f"{name}/{number}"
        self._names.add(free)
        tensor = self._schema.TensorT()
        tensor.name = free.encode()
        tensor.shape = np.asarray(shape, np.int32)
        tensor.type = getattr(self._schema.TensorType, dtype)
        tensor.buffer = buffer
        self._tensors.append(tensor)
        return len(self._tensors) - 1

    def _buffer(self, values: npt.NDArray[Any]) -> int:
        flat = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
        self._buffers.append(aligned_buffer(flat))
        return len(self._buffers) - 1


def describe(model: Any, metadata: Metadata, outputs: Iterable[str]) -> None:
    """Adds our metadata to a ``ModelT``, and TFLite's own beside it."""
    entries = {
        METADATA_KEY: metadata.to_json().encode(),
        CLIENT_METADATA: client_metadata(metadata, outputs),
    }
    model.metadata = list(model.metadata or [])
    for name, content in entries.items():
        entry = load_schema().MetadataT()
        entry.name, entry.buffer = name, len(model.buffers)
        model.buffers.append(aligned_buffer(np.frombuffer(content, np.uint8)))
        model.metadata.append(entry)


def aligned_buffer(values: npt.NDArray[np.uint8]) -> Any:
    """A flatbuffer's buffer of these bytes, at an address that kernels can read from."""
    schema = load_schema()

    class AlignedBuffer(schema.BufferT):  # type: ignore[misc,name-defined]  # untyped
        """The generated ``Pack`` ignores the schema's ``force_align``."""

        def Pack(self, builder: Any) -> int:  # noqa: N802  # flatbuffers' name
            builder.StartVector(1, len(self.data), _ALIGNMENT)
            builder.head -= len(self.data)
            end = builder.head + len(self.data)
            builder.Bytes[builder.head : end] = self.data.tobytes()
            data = builder.EndVector()
            schema.BufferStart(builder)
            schema.BufferAddData(builder, data)
            return int(schema.BufferEnd(builder))

    buffer = AlignedBuffer()
    buffer.data = values
    return buffer


def _signed(covered: Range) -> tuple[float, int]:
    """Scale and zero point of signed integers, which TFLite has."""
    scale, zero = covered.scale_and_zero_point()
    return scale, zero - covered.levels // 2
