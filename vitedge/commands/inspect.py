"""`vitedge inspect`: what a file is."""

from __future__ import annotations

from pathlib import Path

import click

from vitedge.cli_options import PATH, check_custom_objects, json_option, trust_options
from vitedge.cli_output import print_json


@click.command()
@click.argument("file", type=PATH)
@trust_options
@json_option
def inspect(file: Path, trust: bool, custom_objects: tuple[str, ...], as_json: bool) -> None:
    """Shows what FILE is: a model's config, or an artefact's metadata and operators."""
    check_custom_objects(custom_objects)
    from vitedge.importers import ImportOptions
    from vitedge.inspection import inspect
    from vitedge.tables import print_inspection

    found = inspect(file, ImportOptions(trust=trust, custom_objects=custom_objects))
    if as_json:
        print_json(found.to_dict())
    else:
        print_inspection(found)


PLUGIN = inspect
