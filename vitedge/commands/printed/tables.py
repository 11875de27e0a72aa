"""What the command line prints for people."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.table import Table

from vitedge.bench.workers.messages import Probed
from vitedge.inspection.compare import Comparison
from vitedge.inspection.description import Inspection
from vitedge.pick.run import Picked
from vitedge.report.results import Report
from vitedge.report.text_table import notes, render_table, without_room
from vitedge.targets.target import Target
from vitedge.terminal.printable import printable


def _console() -> Console:
    """Stdout, on which no text is taken for rich's markup or for the name of an emoji."""
    return Console(markup=False, emoji=False, highlight=False)


def _add(table: Table, *cells: str, style: str | None = None) -> None:
    """Adds a row of text that is foreign, or may be."""
    table.add_row(*map(printable, cells), style=style)


def print_report(report: Report) -> None:
    """The bench's table on stdout, with what it has no room for below."""
    console = _console()
    console.print(render_table(report, console.width))
    if titles := without_room(report, console.width):
        words = f"no room for: {', '.join(titles)}; a wider terminal and --markdown have it"
        console.print(words, style="dim")
    for note in notes(report):
        console.print(note, style="dim")


def print_comparison(comparison: Comparison) -> None:
    """Layer by layer, in the order of computation, what is left of the signal."""
    console = _console()
    table = Table(box=None, pad_edge=False)
    table.add_column("layer")
    table.add_column("SQNR dB", justify="right")
    table.add_column("")
    for layer in comparison.errors.layers:
        known = layer.sqnr_db is not None
        bar = "#" * round(min(max(layer.sqnr_db or 0.0, 0.0), 60.0) / 2) if known else "equal"
        _add(table, layer.name, f"{layer.sqnr_db:.1f}" if known else "", bar)
    console.print(table)
    console.print(
        f"{comparison.agreement:.1%} of {comparison.n} images ({comparison.images}) keep their top "
        "class; each figure holds the errors of all layers before it",
        style="dim",
    )


def print_pick(picked: Picked) -> None:
    """What could be shipped, what could not, and the choice in words with its command."""
    console = _console()
    choice, summary = picked.choice, picked.report.pick
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("")
    table.add_column("artefact", overflow="fold", min_width=16)
    table.add_column("target", no_wrap=True)
    for heading in ("p50 ms", "MB", "top-1 %", "lost (95 %)"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("misses", overflow="fold")
    for each in choice.contenders:
        row, drop = each.row, each.drop
        _add(
            table,
            "*" if each.on_front else "",
            *(Path(row.artifact).name, str(row.target)),
            *(f"{each.latency_ms:#.3g}", f"{row.size_mb:#.3g}"),
            "" if row.accuracy is None else f"{row.accuracy.top1:.1f}",
            # Adding zero makes -0.0 positive.
            f"{drop.points + 0.0:.1f} ({drop.low:.1f} to {drop.high:.1f})",
            ", ".join(miss.limit for miss in each.misses),
            style="bold" if each is choice.best else None,
        )
    if choice.contenders:
        console.print(table)
        console.print("* on the front: none is better in latency, size and accuracy at once\n")
    for note in notes(picked.report):
        console.print(note, style="dim")
    for name, reason in picked.refused.items():
        console.print(printable(f"{name}: not made: {reason}"), style="dim")
    if summary is not None:
        console.print(f"\n{printable(summary.words)}")
        if summary.command:
            # A command is to be copied: no line break inside it.
            console.print(f"\n{printable(summary.command)}", soft_wrap=True)


def print_targets(found: Mapping[Target, Probed]) -> None:
    """Every target with its state."""
    console = _console()
    table = Table(box=None, pad_edge=False)
    for heading in ("target", "state", "detail"):
        table.add_column(heading, overflow="fold")
    for target, state in found.items():
        _add(table, str(target), str(state.readiness), state.detail)
        if state.remedy:
            _add(table, "", "", state.remedy)
    console.print(table)


def print_inspection(found: Inspection) -> None:
    """A model's config, or an artefact's metadata and operators."""
    console = _console()
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in _facts(found):
        _add(table, name, value)
    console.print(table)
    if found.inputs or found.outputs:
        console.print()
        console.print(_ports(found))
    if not found.operators:
        return
    listing = Table("operator", "inputs", "outputs", box=None, pad_edge=False)
    listing.add_column("count", justify="right")
    for operator, count in found.operators:
        inputs, outputs = ", ".join(operator.inputs), ", ".join(operator.outputs)
        _add(listing, operator.name, inputs, outputs, str(count))
    console.print()
    console.print(listing)


def _ports(found: Inspection) -> Table:
    table = Table(
        "", "name", "shape", "type", "layout", "range", "meaning", box=None, pad_edge=False
    )
    for side, ports in (("input", found.inputs), ("output", found.outputs)):
        for port in ports:
            shape = " x ".join("?" if size < 0 else str(size) for size in port.shape)
            cells = (side, port.name, shape, port.dtype, port.layout, port.range_words)
            _add(table, *cells, port.meaning)
    return table


def _facts(found: Inspection) -> list[tuple[str, str]]:
    facts = [("file", f"{found.path}, {found.size_mb:.2f} MB")]
    if found.parameters:
        facts.append(("parameters", f"{found.parameters:,}"))
    if found.macs:
        facts.append(("MACs", f"{found.macs / 1e6:,.1f} million an image"))
    if found.classes:
        names = ", ".join(found.labels[:5]) + (", ..." if found.classes > 5 else "")
        facts.append(
            ("classes", f"{found.classes}: {names}" if found.labels else str(found.classes))
        )
    if found.preprocessing is not None:
        prepared = found.preprocessing
        inside = f"inside the model: mean {prepared.mean}, std {prepared.std}"
        facts.append(("preprocessing", f"{prepared.words}; {inside}"))
    if found.read:
        facts.append(("read", found.read))
    facts += [(name, str(value)) for name, value in found.config.items()]
    facts += [
        (f"for {client}", need or "nothing is missing") for client, need in found.clients.items()
    ]
    if found.metadata is None:
        if found.operators:
            facts.append(("metadata", "none: vitedge did not write this file"))
        return facts
    metadata = found.metadata
    facts += [
        ("precision", str(metadata.precision)),
        ("source", f"{metadata.source.name} ({metadata.source.path})"),
        ("source SHA-256", metadata.source.sha256),
        ("rewrites", ", ".join(metadata.rewrites) or "none"),
    ]
    facts += [(f"quantized {name}", words) for name, words in metadata.quantization.items()]
    if metadata.calibration is not None:
        kind, n = metadata.calibration.kind, metadata.calibration.n
        facts.append(("calibration", f"{n} {kind}, SHA-256 {metadata.calibration.sha256}"))
    if metadata.parity is not None:
        found_db = metadata.parity.sqnr_db
        quality = "equal to the bit" if found_db is None else f"{found_db:.1f} dB"
        agreement = f"top class of {metadata.parity.agreement:.0%}"
        facts.append(("parity", f"{quality}, {agreement} the same, {metadata.parity.n} images"))
    facts.append(("made with", ", ".join(f"{k} {v}" for k, v in metadata.versions.items())))
    return facts
