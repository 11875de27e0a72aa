"""The page of a training run: loss, accuracy and learning rate over its epochs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from string import Template
from typing import Protocol

from vitedge.report import plain_lines
from vitedge.report.charts import CONFIG, INK, VEGALITE_VERSION, Spec
from vitedge.report.colours import mark
from vitedge.report.drawing import figure, library, place, script
from vitedge.report.lines import COLOURS, Chart, Line
from vitedge.report.shell import page
from vitedge.report.tables import escape, number

_SHOWN_AT_ONCE = 20


class EpochValues(Protocol):
    """The results of one pass over the training images; see ``vitedge.train.Epoch``."""

    @property
    def number(self) -> int:
        """1 for the first."""

    @property
    def of(self) -> int:
        """Number of all epochs."""

    @property
    def loss(self) -> float:
        """Mean training loss."""

    @property
    def accuracy(self) -> float:
        """Share of training images classified right, 0..1."""

    @property
    def held_out_accuracy(self) -> float | None:
        """The accuracy on held-out images; None if it was not measured."""

    @property
    def learning_rate(self) -> float:
        """The learning rate at the end of the epoch."""

    @property
    def images_per_second(self) -> float:
        """Training speed."""

    @property
    def seconds(self) -> float:
        """Since the start of the run."""

    @property
    def held_out_loss(self) -> float | None:
        """Mean loss of held-out images; None when not measured."""


def render_curve(
    history: Sequence[EpochValues],
    facts: Mapping[str, str],
    *,
    title: str = "vitedge train",
    interactive: bool = True,
) -> str:
    """Renders the page of a run.

    Args:
        history: Its epochs so far; at least one.
        facts: The facts of the training, in words.
        title: Heading of the page.
        interactive: Draw with tooltips, where ``vl-convert-python`` is installed; that takes
            seconds once, and a megabyte.

    Returns:
        A complete HTML document; everything that came from outside is escaped.
    """
    charts = tuple(_charts(history))
    code = library() if interactive else None
    drawn, ending = "", ""
    if code is None:
        drawn = "".join(figure(plain_lines.draw(chart), chart.caption) for chart in charts)
    else:
        drawn = "".join(figure(place(chart.name), chart.caption) for chart in charts)
        ending = script(code, {chart.name: line_chart(chart) for chart in charts})
    body = Template(files("vitedge.report").joinpath("curve.html").read_text("utf-8")).substitute(
        title=escape(title),
        summary=escape(curve_summary(history)),
        charts=drawn,
        epochs=_table(history),
        facts="".join(f"<dt>{escape(key)}</dt><dd>{escape(facts[key])}</dd>" for key in facts),
    )
    return page(title, body, ending)


def curve_summary(history: Sequence[EpochValues]) -> str:
    """Says where the run stands, and which epoch was the best."""
    last = history[-1]
    stands = f"Epoch {last.number} of {last.of}: loss {last.loss:.3f}"
    measured = [epoch for epoch in history if epoch.held_out_accuracy is not None]
    if not measured:
        return f"{stands}, {last.accuracy:.1%} of the training images right. None were held out."
    best = max(measured, key=lambda epoch: epoch.held_out_accuracy or 0.0)
    return (
        f"{stands}, {measured[-1].held_out_accuracy:.1%} of the held-out images right; "
        f"the most, {best.held_out_accuracy:.1%}, after epoch {best.number}."
    )


def _charts(history: Sequence[EpochValues]) -> Iterator[Chart]:
    trained = Line("training", tuple((each.number, 100 * each.accuracy) for each in history))
    held_out = tuple(
        (each.number, 100 * each.held_out_accuracy)
        for each in history
        if each.held_out_accuracy is not None
    )
    accuracies = (trained, Line("held out", held_out)) if held_out else (trained,)
    loss = Line("training", tuple((each.number, each.loss) for each in history))
    lost = tuple(
        (each.number, each.held_out_loss) for each in history if each.held_out_loss is not None
    )
    losses = (loss, Line("held out", lost)) if lost else (loss,)
    rate = Line("learning rate", tuple((each.number, each.learning_rate) for each in history))
    yield Chart(
        "loss",
        "Loss",
        losses,
        "Mean loss: on randomly changed training images, with label smoothing and a teacher if "
        "there are any; on unchanged held-out images after the epoch, so the two lines need not "
        "meet",
    )
    yield Chart(
        "accuracy",
        "Right, %",
        accuracies,
        "Images classified right: randomly changed training images, and unchanged held-out images "
        "after the epoch",
    )
    yield Chart("rate", "Learning rate", (rate,), "Learning rate at the end of each epoch")


def line_chart(chart: Chart) -> Spec:
    """A chart as a Vega-Lite specification."""
    values = [
        {"epoch": epoch, "value": float(f"{value:.5g}"), "line": line.name}
        for line in chart.lines
        for epoch, value in line.points
    ]
    names = [line.name for line in chart.lines]
    legend = None if len(names) == 1 else {"title": None, "symbolType": "stroke"}
    tooltip = [
        {"field": "epoch", "type": "quantitative", "title": "Epoch"},
        {"field": "line", "type": "nominal", "title": "Of"},
        {"field": "value", "type": "quantitative", "title": chart.title, "format": ".4~g"},
    ]
    nearest = {"type": "point", "on": "pointerover", "nearest": True, "clear": "pointerout"}
    return {
        "$schema": f"https://vega.github.io/schema/vega-lite/v{VEGALITE_VERSION[0]}.json",
        "description": plain_lines.in_words(chart),
        "data": {"values": values},
        "width": "container",
        "height": 240,
        "autosize": {"type": "fit-x", "contains": "padding"},
        "encoding": {
            "x": {
                "field": "epoch",
                "type": "quantitative",
                "title": "Epoch",
                "scale": {"zero": False, "nice": False},
                "axis": {"tickMinStep": 1, "format": "d", "labelOverlap": "greedy"},
            },
            "y": {
                "field": "value",
                "type": "quantitative",
                "title": chart.title,
                "scale": {"zero": chart.name == "rate"},
            },
            "color": {
                "field": "line",
                "type": "nominal",
                "scale": {"domain": names, "range": list(map(mark, COLOURS[: len(names)]))},
                "legend": legend,
            },
        },
        "layer": [
            {
                "mark": {"type": "line"},
                # Not told apart by colour alone.
                "encoding": {
                    "strokeDash": {
                        "field": "line",
                        "type": "nominal",
                        "scale": {"domain": names, "range": [[1, 0], [6, 3]][: len(names)]},
                        "legend": legend,
                    }
                },
            },
            {
                "params": [{"name": "nearest", "select": nearest}],
                "mark": {"type": "point", "size": 100, "color": INK, "filled": False},
                "encoding": {
                    "opacity": {
                        "condition": {"param": "nearest", "empty": False, "value": 1},
                        # A single epoch is not a line: its point is shown.
                        "value": 0 if len(values) > len(names) else 1,
                    },
                    "tooltip": tooltip,
                },
            },
        ],
        "config": CONFIG,
    }


def _table(history: Sequence[EpochValues]) -> str:
    """Every epoch in numbers, the best one marked by a word."""
    titles = (
        *("Epoch", "Loss", "Held-out loss", "Training, %", "Held out, %"),
        *("Learning rate", "Images/s", "Time"),
    )
    measured = [each for each in history if each.held_out_accuracy is not None]
    # The first of equals: that is the one whose weights were kept.
    best = max(measured, key=lambda each: each.held_out_accuracy or 0.0, default=None)
    body = "".join(_row(epoch, is_best=epoch is best) for epoch in history)
    head = "".join(f'<th scope="col">{title}</th>' for title in titles)
    is_open = " open" if len(history) <= _SHOWN_AT_ONCE else ""
    return (
        f"<details{is_open}><summary>{len(history)} of {history[-1].of} epochs</summary>"
        f'<div class="scroll"><table class="epochs"><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div></details>"
    )


def _clock(seconds: float) -> str:
    """Minutes and seconds, or hours before them; tenths where a run is quicker than a minute."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _row(epoch: EpochValues, *, is_best: bool) -> str:
    held_out = "–"
    if epoch.held_out_accuracy is not None:
        held_out = f"{100 * epoch.held_out_accuracy:.1f}"
        held_out += " best" if is_best else ""
    cells = (
        str(epoch.number),
        f"{epoch.loss:.4f}",
        "–" if epoch.held_out_loss is None else f"{epoch.held_out_loss:.4f}",
        f"{100 * epoch.accuracy:.1f}",
        held_out,
        f"{epoch.learning_rate:.3g}",
        number(epoch.images_per_second),
        _clock(epoch.seconds),
    )
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"
