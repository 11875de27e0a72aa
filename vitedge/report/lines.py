"""The content of a chart of lines over epochs, however it is drawn."""

from __future__ import annotations

from dataclasses import dataclass

# Okabe and Ito's, as those of formats; one for each line of a chart.
COLOURS = ("#0072B2", "#D55E00")


@dataclass(frozen=True)
class Line:
    """One quantity over the epochs.

    Attributes:
        name: The name in words, for the legend and the tooltip.
        points: Epoch and value.
    """

    name: str
    points: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Chart:
    """Lines that share an axis.

    Attributes:
        name: Identifier of its place.
        title: The title of the axis.
        lines: One or more.
        caption: The content of the chart, in a sentence.
    """

    name: str
    title: str
    lines: tuple[Line, ...]
    caption: str
