"""`vitedge import`: a checkpoint becomes a Keras model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from vitedge.commands.grouped import GroupedCommand
from vitedge.commands.options import (
    PATH,
    force_option,
    import_options,
    json_option,
    model_output_option,
    read_source_options,
)
from vitedge.terminal.output import next_command, print_json, warn


@click.command("import", cls=GroupedCommand)
@click.argument("source", type=PATH)
@model_output_option
@click.option("--check", is_flag=True, help="Only read and compare; write nothing.")
@click.option(
    "--images", type=PATH, help="Photos on which logits are compared with the source's, too."
)
@import_options
@force_option
@json_option
def import_command(
    source: Path,
    output: Path,
    check: bool,
    images: Path | None,
    force: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Reads a vision transformer from SOURCE and writes it as a Keras model.

    The model holds its preprocessing and labels; `convert` and Keras itself read it. With --check,
    the command writes nothing and reports what it compared.
    """
    from vitedge.api.importing import import_model
    from vitedge.report.shown import print_shown
    from vitedge.terminal.display import progress_on_stderr

    with progress_on_stderr() as progress:
        imported = import_model(
            source,
            output,
            check=check,
            images=images,
            force=force,
            progress=progress,
            warn=warn,
            **read_source_options(options),
        )
    if as_json:
        result: dict[str, Any] = {"output": None if check else str(output), "path": imported.read}
        result |= {"parameters": imported.parameters, "classes": imported.classes}
        result |= {"task": str(imported.task)}
        print_json(result | ({"checked": imported.findings} if check else {}))
    else:
        print_shown(imported)
        if imported.path is not None:
            next_command(["convert", str(imported.path), "--calibration", "PHOTOS"])


PLUGIN = import_command
