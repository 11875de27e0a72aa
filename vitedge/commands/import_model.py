"""`vitedge import`: a checkpoint becomes a Keras model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vitedge.commands.options import (
    PATH,
    force_option,
    import_options,
    json_option,
    read_import_options,
)
from vitedge.terminal.output import echo, print_json

if TYPE_CHECKING:
    from vitedge.network.network import Network


@click.command("import")
@click.argument("source", type=PATH)
@click.option("-o", "--output", type=PATH, default=Path("model.keras"), show_default=True)
@click.option("--check", is_flag=True, help="Only read and compare; write nothing.")
@click.option("--images", type=PATH, help="Photos to compare logits with the source's on, too.")
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
    """Reads a Vision Transformer from SOURCE and writes it as a Keras model.

    The model carries its preprocessing and labels; `convert` and Keras itself read it. With
    --check, says what was compared with what instead of writing anything.
    """
    from vitedge.images.image_sets import open_images
    from vitedge.pipeline.convert import import_model
    from vitedge.pipeline.source_check import check_source
    from vitedge.terminal.display import progress_on_stderr

    compared = None if images is None else open_images(images)
    importing = read_import_options(options).compared_on(compared)
    findings: tuple[str, ...] = ()
    with progress_on_stderr() as progress:
        if check:
            checked = check_source(source, importing, progress=progress)
            imported, findings = checked.imported, checked.findings
        else:
            imported = import_model(source, output, importing, force=force, progress=progress)
    network = imported.network
    if as_json:
        result: dict[str, Any] = {"output": None if check else str(output), "path": imported.path}
        result |= {"parameters": network.parameters, "classes": network.classes}
        print_json(result | ({"checked": findings} if check else {}))
        return
    echo(imported.path)
    echo(_sizes(network))
    for finding in findings:
        echo(f"checked: {finding}")
    if not check:
        echo(f"wrote {output}")


def _sizes(network: Network) -> str:
    from vitedge.network.summary import summary

    return f"{summary(network)}, {network.parameters:,} parameters, {network.classes} classes"


PLUGIN = import_command
