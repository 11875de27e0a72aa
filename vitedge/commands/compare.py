"""`vitedge compare`: where an artefact leaves its model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from vitedge.commands.grouped import GroupedCommand
from vitedge.commands.options import PATH, import_options, json_option, read_source_options
from vitedge.terminal.output import print_json, warn


@click.command(cls=GroupedCommand)
@click.argument("model", type=PATH)
@click.argument("artifact", type=PATH)
@click.option("--data", type=PATH, help="Images to compare on.  [default: synthetic ones]")
@click.option(
    "--calibration",
    type=PATH,
    help="The photos that ARTIFACT was made with, where that has a --width.",
)
@import_options
@json_option
def compare(
    model: Path,
    artifact: Path,
    data: Path | None,
    calibration: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Shows layer by layer how much of MODEL's signal ARTIFACT keeps, in MODEL's own names.

    The artefact itself runs, in its own runtime. A layer's figure contains its own error and that
    of all layers before it.
    """
    from dataclasses import asdict

    from vitedge.api.compare import compare
    from vitedge.report.shown import print_shown
    from vitedge.terminal.display import progress_on_stderr

    with progress_on_stderr() as progress:
        found = compare(
            model,
            artifact,
            data=data,
            calibration=calibration,
            progress=progress,
            warn=warn,
            **read_source_options(options),
        )
    if as_json:
        print_json(asdict(found))
    else:
        print_shown(found)


PLUGIN = compare
