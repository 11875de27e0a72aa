"""The precisions: which numbers of an artefact are stored and computed how, a row each."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

from vitedge.targets.open_names import OpenName
from vitedge.targets.tolerances import Tolerance


class Arithmetic(StrEnum):
    """The places of integers in a graph."""

    FLOAT = "float"
    """Nowhere."""
    MIXED = "mixed"
    """In linear layers; everything between them stays float."""
    INTEGER = "integer"
    """Everywhere, from the pixels to the logits."""


@dataclass(frozen=True)
class PrecisionRow:
    """Everything that is to be said of a precision.

    Attributes:
        name: The name on the command line, in file names and in metadata.
        help: The help of its option on the command line.
        arithmetic: The place of integers in the graph.
        weight_bits: The width of each weight.
        activation_bits: The width of the inputs of products; None if they stay float, or as a
            runtime has them.
        grouped: Whether groups of weights share a scale; otherwise all weights of an output do.
        tolerance: The least agreement of an artefact with its reference's logits.
    """

    name: str
    help: str
    arithmetic: Arithmetic
    weight_bits: int
    activation_bits: int | None
    tolerance: Tolerance
    grouped: bool = False


# The last number of each tolerance was measured on DeiT-tiny: float32 in another engine 85-110 dB,
# float16 weights 50-60, bfloat16 in place of float32 34, good int8 14-26, int8 that has lost its
# accuracy 3-5.
ROWS: dict[str, PrecisionRow] = {
    row.name: row
    for row in (
        PrecisionRow(
            "fp32",
            "Write float32 artefacts.",
            Arithmetic.FLOAT,
            weight_bits=32,
            activation_bits=None,
            # Sums in another order differ by 1e-6 of the range; a wrong epsilon or GELU by 1e-3.
            tolerance=Tolerance(1e-4, 80.0, 50.0),
        ),
        PrecisionRow(
            "fp16",
            "Write artefacts with half-precision weights.",
            Arithmetic.FLOAT,
            weight_bits=16,
            activation_bits=None,
            # Weights rounded to 11 bits give 60 dB.
            tolerance=Tolerance(1e-2, 40.0, 30.0),
        ),
        PrecisionRow(
            "int8",
            "Write 8-bit artefacts, for CPUs and GPUs.",
            Arithmetic.MIXED,
            weight_bits=8,
            activation_bits=8,
            # A right int8 graph of a trained model gives 15 to 30 dB, a wrong one under 5.
            tolerance=Tolerance(0.5, 10.0, 8.0),
        ),
        # 8 bits where there are products, 16 in the residual stream and its norms.
        PrecisionRow(
            "int8-static",
            "Write all-integer artefacts, for NPUs.",
            Arithmetic.INTEGER,
            weight_bits=8,
            activation_bits=8,
            tolerance=Tolerance(0.5, 8.0, 7.0),
        ),
        PrecisionRow(
            "w8a16",
            "Write all-integer artefacts with 16-bit activations.",
            Arithmetic.INTEGER,
            weight_bits=8,
            activation_bits=16,
            # What is left is the rounding of int8 weights.
            tolerance=Tolerance(0.5, 15.0, 12.0),
        ),
        PrecisionRow(
            "int4",
            "Write artefacts with 4-bit weights.",
            Arithmetic.MIXED,
            weight_bits=4,
            activation_bits=None,
            # 4-bit weights of a trained model give 12 to 20 dB.
            tolerance=Tolerance(0.7, 6.0, 5.0),
            grouped=True,
        ),
    )
}
"""The rows by name, in the order in which they are listed. A row added is a precision added."""


class Precision(OpenName):
    """The numbers of an artefact and their computation: the name of a row.

    The constants are for whoever means one row and no other.
    """

    FP32: ClassVar[Precision]
    FP16: ClassVar[Precision]
    INT8: ClassVar[Precision]
    INT8_STATIC: ClassVar[Precision]
    W8A16: ClassVar[Precision]
    INT4: ClassVar[Precision]

    @classmethod
    def known(cls) -> Collection[str]:
        """The names of all rows."""
        return ROWS

    @property
    def row(self) -> PrecisionRow:
        """The row of this name."""
        return ROWS[self]

    @property
    def is_float(self) -> bool:
        """Whether nothing in it is an integer."""
        return self.row.arithmetic is Arithmetic.FLOAT

    @property
    def rounds_inputs(self) -> bool:
        """Whether integer layers stand between float ones and read integers, as formats make them.

        Of integers with groups of weights each runtime has its own way instead.
        """
        return self.row.arithmetic is Arithmetic.MIXED and self.row.activation_bits is not None

    @property
    def all_integer(self) -> bool:
        """Whether no operator computes in float."""
        return self.row.arithmetic is Arithmetic.INTEGER


Precision.FP32 = Precision("fp32")
Precision.FP16 = Precision("fp16")
Precision.INT8 = Precision("int8")
Precision.INT8_STATIC = Precision("int8-static")
Precision.W8A16 = Precision("w8a16")
Precision.INT4 = Precision("int4")


def all_precisions() -> tuple[Precision, ...]:
    """All precisions, in the order of their rows."""
    return tuple(map(Precision, ROWS))
