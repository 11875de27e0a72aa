"""`vitedge inspect`: what a file is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from vitedge.commands.options import PATH, import_options, json_option, read_import_options
from vitedge.terminal.output import print_json


@click.command()
@click.argument("file", type=PATH)
@import_options
@json_option
def inspect(file: Path, as_json: bool, **options: Any) -> None:
    """Shows what FILE is: a model's config, or an artefact's metadata and operators."""
    importing = read_import_options(options)
    from vitedge.commands.printed.tables import print_inspection
    from vitedge.inspection.description import inspect

    found = inspect(file, importing)
    if as_json:
        print_json(found.to_dict())
    else:
        print_inspection(found)


PLUGIN = inspect
