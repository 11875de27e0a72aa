"""`vitedge inspect`: what a file is."""

from __future__ import annotations

from pathlib import Path

import click

from vitedge.cli_options import PATH, json_option
from vitedge.cli_output import print_json


@click.command()
@click.argument("file", type=PATH)
@json_option
def inspect(file: Path, as_json: bool) -> None:
    """Shows what FILE is: a model's config, or an artefact's metadata and operators."""
    from vitedge.inspection import inspect
    from vitedge.tables import print_inspection

    found = inspect(file)
    if as_json:
        print_json(found.to_dict())
    else:
        print_inspection(found)


PLUGIN = inspect
