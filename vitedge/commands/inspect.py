"""`vitedge inspect`: what a file is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from vitedge.commands.grouped import GroupedCommand
from vitedge.commands.options import PATH, import_options, json_option, read_source_options
from vitedge.terminal.output import print_json, warn


@click.command(cls=GroupedCommand)
@click.argument("file", type=PATH)
@import_options
@json_option
def inspect(file: Path, as_json: bool, **options: Any) -> None:
    """Describes FILE: a model's sizes, or an artefact's metadata and operators."""
    from vitedge.api.inspect import inspect
    from vitedge.report.shown import print_shown

    found = inspect(file, warn=warn, **read_source_options(options))
    if as_json:
        print_json(found.to_dict())
    else:
        print_shown(found)


PLUGIN = inspect
