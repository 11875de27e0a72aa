"""`vitedge compare`: where an artefact leaves its model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from vitedge.commands.options import PATH, import_options, json_option, read_import_options
from vitedge.terminal.output import print_json


@click.command()
@click.argument("model", type=PATH)
@click.argument("artifact", type=PATH)
@click.option("--data", type=PATH, help="Images to compare on.  [default: synthetic ones]")
@import_options
@json_option
def compare(model: Path, artifact: Path, data: Path | None, as_json: bool, **options: Any) -> None:
    """Shows layer by layer how much of MODEL's signal ARTIFACT keeps, in MODEL's own names.

    The artefact itself runs, in its own runtime. A layer's figure holds its own error and that of
    all layers before it.
    """
    from dataclasses import asdict

    from vitedge.commands.printed.tables import print_comparison
    from vitedge.images.image_sets import open_images
    from vitedge.inspection.compare import compare_layers
    from vitedge.terminal.display import progress_on_stderr

    images = None if data is None else open_images(data)
    with progress_on_stderr() as progress:
        found = compare_layers(
            model, artifact, read_import_options(options), images=images, progress=progress
        )
    if as_json:
        print_json(asdict(found))
    else:
        print_comparison(found)


PLUGIN = compare
