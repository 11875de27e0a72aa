"""The parts of an artefact, whoever wrote it: its operators, its inputs and outputs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class Operator:
    """One kind of operator with the types it is used with.

    Attributes:
        name: The format's name for it: ``FULLY_CONNECTED``, ``MatMulInteger``, ``FakeQuantize``.
        inputs: NumPy names of its inputs' element types in order, constants included; ``-``
            where one is left out.
        outputs: Element types of its outputs.
    """

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class Port:
    """An input or output.

    Attributes:
        name: Its name in the file.
        shape: Its sizes; -1 where one is not fixed.
        dtype: NumPy's name of its type.
        layout: The meaning of the axes, such as ``NHWC``; empty if the file does not say.
        low: The smallest number that goes in or comes out, or None where nothing bounds it.
        high: The largest one.
        scale: The value of one integer step, or None for a tensor that is not quantized.
        zero_point: The integer that means 0.
        meaning: The meaning of the numbers; empty if the file does not say.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    layout: str = ""
    low: float | None = None
    high: float | None = None
    scale: float | None = None
    zero_point: int | None = None
    meaning: str = ""

    @property
    def range_words(self) -> str:
        """Its range, and how integers become numbers of it."""
        words = "" if self.low is None or self.high is None else f"{self.low:g} to {self.high:g}"
        if self.scale is None or (self.scale == 1 and not self.zero_point):
            return words
        return f"{words} (integer - {self.zero_point}) x {self.scale:.6g}".strip()


@dataclass(frozen=True)
class Interface:
    """All inputs and outputs of a file.

    Attributes:
        inputs: The inputs, in the file's order.
        outputs: The outputs, in the file's order.
        entries: Names of the metadata entries that the file has.
    """

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    entries: frozenset[str]
