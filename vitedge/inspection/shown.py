"""The text and tables of ``vitedge inspect``."""

from __future__ import annotations

from collections.abc import Sequence

from vitedge.inspection.description import Inspection
from vitedge.report.shown import Block, Table


def blocks(found: Inspection) -> Sequence[Block]:
    """Facts, then an artefact's inputs, outputs and operators."""
    shown = [Table(tuple(_facts(found)), ("", ""))]
    if found.inputs or found.outputs:
        shown.append(_ports(found))
    if found.operators:
        shown.append(_operators(found))
    return shown


def _operators(found: Inspection) -> Table:
    rows = tuple(
        (operator.name, ", ".join(operator.inputs), ", ".join(operator.outputs), str(count))
        for operator, count in found.operators
    )
    return Table(rows, ("operator", "inputs", "outputs", "count"), numbers=frozenset([3]))


def _ports(found: Inspection) -> Table:
    rows = tuple(
        (
            side,
            port.name,
            " x ".join("?" if size < 0 else str(size) for size in port.shape),
            *(port.dtype, port.layout, port.range_words, port.meaning),
        )
        for side, ports in (("input", found.inputs), ("output", found.outputs))
        for port in ports
    )
    return Table(rows, ("", "name", "shape", "type", "layout", "range", "meaning"))


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
        same = metadata.parity.agreement
        agreement = "" if same is None else f", top class of {same:.0%} the same"
        facts.append(("parity", f"{quality}{agreement}, {metadata.parity.n} images"))
    facts.append(("made with", ", ".join(f"{k} {v}" for k, v in metadata.versions.items())))
    return facts
