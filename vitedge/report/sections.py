"""The parts of the page below its tables: what changed, image by image and class by class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vitedge.report.tables import escape

Row = Mapping[str, Any]

_MISSING = "–"


def picked(report: Mapping[str, Any]) -> str:
    """The command that makes the artefact that was picked."""
    pick = report.get("pick")
    if not pick or not pick["command"]:
        return ""
    return f"<p>It is made by</p><pre><code>{escape(pick['command'])}</code></pre>"


def changes(report: Mapping[str, Any]) -> str:
    """For each row the images whose top class is not the reference's, and which became which."""
    thumbnails = report.get("thumbnails") or {}
    parts = []
    for row in report["rows"]:
        found = row["vs_float"]
        if not found or not found.get("flips"):
            continue
        summary = (
            f"{escape(row['artifact'])} on {escape(row['target'])}: {found['flipped']} of "
            f"{found['n']} images"
        )
        if found.get("newly_wrong") is not None:
            summary += f" ({found['newly_wrong']} newly wrong, {found['newly_right']} newly right)"
        parts.append(
            f"<details><summary>{summary}</summary>{_confusions(found, thumbnails)}"
            f"{_flips(found, thumbnails)}</details>"
        )
    if not parts:
        return ""
    return f"<section><h2>Images that changed class</h2>{''.join(parts)}</section>"


def _confusions(vs_float: Mapping[str, Any], thumbnails: Mapping[str, str]) -> str:
    found = vs_float.get("confusions") or ()
    if not any(pair["n"] > 1 for pair in found):
        return ""  # each pair of classes once is what the images below say
    body = "".join(
        f"<tr><td>{escape(pair['reference'])}</td><td>{escape(pair['artifact'])}</td>"
        f"<td>{pair['n']}</td>"
        f"<td>{''.join(_picture(name, thumbnails) for name in pair['images'])}</td></tr>"
        for pair in found
    )
    return (
        '<table class="confusions"><thead><tr><th>Float32 says</th><th>Artefact says</th>'
        f"<th>Images</th><th>Such as</th></tr></thead><tbody>{body}</tbody></table>"
    )


def _flips(vs_float: Mapping[str, Any], thumbnails: Mapping[str, str]) -> str:
    body = "".join(_flip(flip, thumbnails) for flip in vs_float["flips"])
    more = vs_float["flipped"] - len(vs_float["flips"])
    note = f'<p class="note">The {len(vs_float["flips"])} most different.</p>' if more else ""
    return (
        '<table class="flips"><thead><tr>'
        "<th>Image</th><th>Float32 says</th><th>Artefact says</th><th>Label</th></tr></thead>"
        f"<tbody>{body}</tbody></table>{note}"
    )


def _flip(flip: Mapping[str, Any], thumbnails: Mapping[str, str]) -> str:
    cells = [escape(flip[key] or _MISSING) for key in ("image", "reference", "artifact", "label")]
    cells[0] = f"{_picture(flip['image'], thumbnails)} {cells[0]}"
    # A tick or a cross, not a colour alone, says who is right.
    for place, key in ((1, "reference"), (2, "artifact")):
        if flip["label"] is not None:
            cells[place] += " ✓" if flip[key] == flip["label"] else " ✗"
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _picture(name: str, thumbnails: Mapping[str, str]) -> str:
    address = thumbnails.get(name, "")
    if not address.startswith("data:image/"):
        return ""
    return f'<img src="{escape(address)}" alt="" title="{escape(name)}">'
