"""`vitedge import`: a checkpoint becomes a Keras model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from vitedge.cli_options import PATH, force_option, import_options, json_option, read_import_options
from vitedge.cli_output import print_json


@click.command("import")
@click.argument("source", type=PATH)
@click.option("-o", "--output", type=PATH, default=Path("model.keras"), show_default=True)
@click.option("--check", is_flag=True, help="Only read and compare; write nothing.")
@import_options
@force_option
@json_option
def import_command(
    source: Path, output: Path, check: bool, force: bool, as_json: bool, **options: Any
) -> None:
    """Reads a Vision Transformer from SOURCE and writes it as a Keras model.

    The model carries its preprocessing and labels; `convert` and Keras itself read it.
    """
    from vitedge.pipeline import import_model
    from vitedge.terminal import progress_on_stderr

    with progress_on_stderr() as progress:
        imported = import_model(
            source,
            None if check else output,
            read_import_options(options),
            force=force,
            progress=progress,
        )
    vit = imported.vit
    if as_json:
        result = {"output": None if check else str(output), "path": imported.path}
        print_json(result | {"parameters": vit.parameters, "classes": vit.config.classes})
        return
    config = vit.config
    click.echo(
        f"{imported.path}: {config.depth} blocks, {config.dim} wide, {config.heads} heads, "
        f"{vit.parameters:,} parameters, {config.classes} classes"
    )
    if not check:
        click.echo(f"wrote {output}")


PLUGIN = import_command
