"""The parts of the page below its tables: what changed, image by image and class by class."""

from __future__ import annotations

from collections.abc import Mapping

from vitedge.report.points import file_name
from vitedge.report.quality import Difference, VsFloat
from vitedge.report.results import Report
from vitedge.report.tables import escape

_MISSING = "–"


def picked(report: Report) -> str:
    """The artefact that was picked; the page's summary says why."""
    pick = report.pick
    if pick is None or pick.artifact is None:
        return ""
    kind = "Picked" if pick.meets_budget else "Nearest to the budget"
    name = escape(file_name(pick.artifact))
    return f'<p class="pick">{kind}: <b>{name}</b> on {escape(pick.target)}</p>'


def making(report: Report) -> str:
    """The command that makes the artefact that was picked, and those of the others on the front."""
    pick = report.pick
    if pick is None or not pick.command:
        return ""
    markup = f"<p>This command makes it:</p>{_code(pick.command)}"
    front = {name.rsplit(" on ", 1)[0] for name in pick.front} - {pick.artifact}
    others = [each for each in pick.made_by if each.artifact in front and each.command]
    if others:
        listed = "".join(
            f"<dt>{escape(file_name(each.artifact))}</dt><dd>{_code(each.command)}</dd>"
            for each in others
        )
        summary = "The commands that make the others on the front"
        markup += f"<details><summary>{summary}</summary><dl>{listed}</dl></details>"
    return markup


def _code(command: str) -> str:
    return f"<pre><code>{escape(command)}</code></pre>"


def changes(report: Report) -> str:
    """The images of each row whose top class is not the reference's, and both classes."""
    parts = []
    for row in report.rows:
        found = row.vs_float
        if found is None or not found.flips:
            continue
        summary = (
            f"{escape(row.artifact)} on {escape(row.target)}: {found.flipped} of {found.n} images"
        )
        if found.newly_wrong is not None:
            summary += f" ({found.newly_wrong} newly wrong, {found.newly_right} newly right)"
        parts.append(
            f"<details><summary>{summary}</summary>{_confusions(found, report.thumbnails)}"
            f"{_flips(found, report.thumbnails)}</details>"
        )
    if not parts:
        return ""
    return f"<section><h2>Images that changed class</h2>{''.join(parts)}</section>"


def _confusions(vs_float: VsFloat, thumbnails: Mapping[str, str]) -> str:
    found = vs_float.confusions
    if not any(pair.n > 1 for pair in found):
        return ""  # each pair of classes once is what the images below say
    body = "".join(
        f"<tr><td>{escape(pair.reference)}</td><td>{escape(pair.artifact)}</td>"
        f"<td>{pair.n}</td>"
        f"<td>{''.join(_picture(name, thumbnails) for name in pair.images)}</td></tr>"
        for pair in found
    )
    return (
        '<table class="confusions"><thead><tr><th>Float32 says</th><th>Artefact says</th>'
        f"<th>Images</th><th>Such as</th></tr></thead><tbody>{body}</tbody></table>"
    )


def _flips(vs_float: VsFloat, thumbnails: Mapping[str, str]) -> str:
    body = "".join(_flip(flip, thumbnails) for flip in vs_float.flips)
    more = vs_float.flipped - len(vs_float.flips)
    note = f'<p class="note">The {len(vs_float.flips)} most different.</p>' if more else ""
    return (
        '<table class="flips"><thead><tr>'
        "<th>Image</th><th>Float32 says</th><th>Artefact says</th><th>Label</th></tr></thead>"
        f"<tbody>{body}</tbody></table>{note}"
    )


def _flip(flip: Difference, thumbnails: Mapping[str, str]) -> str:
    told = (flip.image, flip.reference, flip.artifact, flip.label)
    cells = [escape(each or _MISSING) for each in told]
    cells[0] = f"{_picture(flip.image, thumbnails)} {cells[0]}"
    # A tick or a cross, not a colour alone, says who is right.
    for place in (1, 2):
        if flip.label is not None:
            cells[place] += " ✓" if told[place] == flip.label else " ✗"
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _picture(name: str, thumbnails: Mapping[str, str]) -> str:
    address = thumbnails.get(name, "")
    if not address.startswith("data:image/"):
        return ""
    return f'<img src="{escape(address)}" alt="" title="{escape(name)}">'
