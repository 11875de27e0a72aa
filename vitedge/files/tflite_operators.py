"""The needs of TFLite's operators that LiteRT's kernels do not check.

Each rule was found by a file that ended the process: an operator without its inputs, options of
another operator, a stride of zero. Operators that are not listed are left to LiteRT.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

_NO_SCALE_NEEDED = frozenset({0, 1, 2, 4})  # float32, float16, int32, int64
_QUANTIZABLE = frozenset({3, 7, 9, 17, 19, 20})  # uint8, int16, int8, int4, int2, uint4
_FLOAT32 = 0

CUSTOM, _DEQUANTIZE = 32, 6


@dataclass(frozen=True)
class Rule:
    """The needs of one kind of operator.

    Attributes:
        inputs: The least number of inputs, none of which may be left out.
        options: Kind of its options; empty where any or none will do.
        positive: Fields of the options that must be positive, with their values when absent.
        counts_outputs: The field of the options that says how many outputs there are.
        computes: Whether integers of few bits have no meaning for it without their scale.
    """

    inputs: int = 1
    options: str = ""
    positive: dict[int, int] = field(default_factory=dict)
    counts_outputs: int | None = None
    computes: bool = False


def _window(options: str, strides: tuple[int, ...], dilations: tuple[int, ...] = ()) -> Rule:
    positive = dict.fromkeys(strides, 0) | dict.fromkeys(dilations, 1)
    return Rule(2, options, positive, computes=True)


_UNARY, _BINARY = Rule(1, computes=True), Rule(2, computes=True)

# BuiltinOperator of schema.fbs by number.
_RULES: dict[int, Rule] = {
    0: Rule(2, "AddOptions", computes=True),
    1: Rule(1, "Pool2DOptions", dict.fromkeys((1, 2, 3, 4), 0), computes=True),
    2: Rule(1, "ConcatenationOptions", computes=True),
    3: _window("Conv2DOptions", (1, 2), (4, 5)),
    4: _window("DepthwiseConv2DOptions", (1, 2), (5, 6)),
    5: Rule(1, "DepthToSpaceOptions", {0: 0}),
    _DEQUANTIZE: _UNARY,
    8: Rule(1),  # FLOOR
    9: Rule(2, "FullyConnectedOptions", computes=True),
    11: _UNARY,  # L2_NORMALIZATION
    12: Rule(1, "Pool2DOptions", dict.fromkeys((1, 2, 3, 4), 0)),
    14: _UNARY,  # LOGISTIC
    17: Rule(1, "Pool2DOptions", dict.fromkeys((1, 2, 3, 4), 0), computes=True),
    18: Rule(2, "MulOptions", computes=True),
    **dict.fromkeys((19, 20, 21), _UNARY),  # RELU, RELU_N1_TO_1, RELU6
    22: Rule(1),  # RESHAPE
    23: Rule(2, "ResizeBilinearOptions"),
    25: Rule(1, "SoftmaxOptions", computes=True),
    26: Rule(1, "SpaceToDepthOptions", {0: 0}),
    28: _UNARY,  # TANH
    **dict.fromkeys((34, 36, 39), Rule(2)),  # PAD, GATHER, TRANSPOSE
    **dict.fromkeys((37, 38), Rule(3)),  # BATCH_TO_SPACE_ND, SPACE_TO_BATCH_ND
    40: Rule(2, "ReducerOptions", computes=True),
    41: Rule(2, "SubOptions", computes=True),
    42: Rule(2, "DivOptions", computes=True),
    45: Rule(4, "StridedSliceOptions"),
    47: _UNARY,  # EXP
    49: Rule(2, "SplitOptions", {0: 0}, counts_outputs=0),
    50: _UNARY,  # LOG_SOFTMAX
    54: _BINARY,  # PRELU
    **dict.fromkeys((55, 57), Rule(2)),  # MAXIMUM, MINIMUM
    60: Rule(3),  # PADV2
    **dict.fromkeys((64, 65, 123), Rule(3)),  # SELECT, SLICE, SELECT_V2
    67: Rule(3, "TransposeConvOptions", {1: 0, 2: 0}, computes=True),
    **dict.fromkeys((56, 69, 70, 78, 79, 90, 94, 95, 130), Rule(2)),
    **dict.fromkeys((58, 61, 62, 63, 71, 72), Rule(2)),  # comparisons
    **dict.fromkeys((74, 81, 82, 89), Rule(2, "ReducerOptions")),  # sums and extremes
    **dict.fromkeys((75, 76), _UNARY),  # SQRT, RSQRT
    83: Rule(1, "PackOptions"),
    88: Rule(1, "UnpackOptions", counts_outputs=0),
    97: Rule(2, "ResizeNearestNeighborOptions"),
    98: Rule(1, "LeakyReluOptions", computes=True),
    99: _BINARY,  # SQUARED_DIFFERENCE
    100: Rule(2, "MirrorPadOptions"),
    102: Rule(3, "SplitVOptions", {0: 0}, counts_outputs=0),
    106: Rule(1),  # ADD_N
    107: Rule(2),  # GATHER_ND
    111: _UNARY,  # ELU
    114: Rule(1),  # QUANTIZE
    117: _UNARY,  # HARD_SWISH
    126: Rule(2, "BatchMatMulOptions", computes=True),
    132: _window("Conv3DOptions", (1, 2, 3), (5, 6, 7)),
    150: Rule(1, "GeluOptions", computes=True),
    151: Rule(3),  # DYNAMIC_UPDATE_SLICE
}

_ANYTHING = Rule(0)
# RNN, LSTM and SVDF have optional inputs between others.
_RECURRENT = frozenset({16, 24, 27, 35, 44, 46, 52})


def rule_of(builtin: int) -> Rule:
    """The rule of an operator, by its number; of those that are not listed, one that allows all."""
    return _RULES.get(builtin, _ANYTHING)


def demand_inputs(builtin: int, inputs: tuple[int, ...], outputs: tuple[int, ...]) -> None:
    """Refuses an operator that lacks inputs or outputs.

    Raises:
        ValueError: The operator breaks this rule.
    """
    rule = rule_of(builtin)
    if len(inputs) < rule.inputs or (rule.inputs and not outputs):
        raise ValueError(f"operator {builtin} with {len(inputs)} inputs and {len(outputs)} outputs")
    needed = len(inputs) if builtin not in _RECURRENT | {CUSTOM} else 0
    if -1 in inputs[: min(needed, max(rule.inputs, 2))]:
        raise ValueError(f"operator {builtin} without an input that it needs")


def demand_types(builtin: int, operands: list[tuple[int, bool]]) -> None:
    """Refuses integers of few bits that have no scale, where an operator computes with them.

    Args:
        builtin: The operator.
        operands: The element type of each operand, and whether it has a scale.

    Raises:
        ValueError: One has none.
    """
    if not rule_of(builtin).computes:
        return
    if any(kind in _QUANTIZABLE and not scaled for kind, scaled in operands):
        raise ValueError(f"operator {builtin} on integers without a scale")
    if builtin == _DEQUANTIZE and operands[0][0] == _FLOAT32:
        raise ValueError("a DEQUANTIZE of floating-point numbers")


def demand_scales(scales: tuple[float, ...]) -> None:
    """Refuses scales that are not positive numbers.

    Raises:
        ValueError: One is not.
    """
    # NaN makes the sum NaN, whatever it does to the smallest.
    if scales and (not math.isfinite(math.fsum(map(abs, scales))) or min(scales) <= 0):
        raise ValueError("a scale that is not a positive number")
