"""The worst layers in a table, for machines without the plotting library."""

from __future__ import annotations

import html
from collections.abc import Sequence
from itertools import groupby

from vitedge.report.layers import DrawnLayer

CAPTION = "The layers of each artefact with the least signal over error, in decibel"
_MOST = 8


def worst_layers(errors: Sequence[DrawnLayer]) -> str:
    """A table with a row for each artefact."""
    rows = []
    for artifact, layers in groupby(errors, key=lambda error: error.artifact):
        worst = sorted(layers, key=lambda error: error.sqnr_db)[:_MOST]
        words = ", ".join(f"{error.layer} {error.sqnr_db:.1f}" for error in worst)
        rows.append(f"<tr><td>{html.escape(artifact)}</td><td>{html.escape(words)}</td></tr>")
    return (
        "<table><thead><tr><th>Artefact</th><th>Worst layers</th></tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table>"
    )
