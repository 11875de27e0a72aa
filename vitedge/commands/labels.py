"""`vitedge labels`: the embeddings of texts become a model's head."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from vitedge.commands.grouped import GroupedCommand
from vitedge.commands.options import (
    PATH,
    force_option,
    import_options,
    json_option,
    read_source_options,
)
from vitedge.terminal.output import print_json, warn


@click.command("labels", cls=GroupedCommand)
@click.argument("model", type=PATH)
@click.option(
    "--text-embeddings",
    type=PATH,
    metavar="FILE.npz",
    help="File with `embeddings`, one row for each text, and perhaps `scale` and `bias`.",
)
@click.option(
    "--names", help="Names of the texts, separated by commas, or a file with one name a line."
)
@click.option(
    "--classes",
    help="Texts that MODEL's own text tower embeds, if MODEL is a folder of CLIP or SigLIP: "
    "separated by commas, or a file with one text a line.",
)
@click.option(
    "--template",
    "templates",
    multiple=True,
    metavar="TEXT",
    help="Sentence for each class, such as 'a photo of a {}'; may be repeated.",
)
@click.option("--scale", type=float, help="Factor of the cosines; CLIP's is about 100.")
@click.option("--bias", type=float, help="Term added to the scaled cosines: SigLIP's logit_bias.")
@click.option(
    "--as-labels", is_flag=True, help="Each text is right or wrong by itself, as in SigLIP."
)
@click.option(
    "-o",
    "--output",
    type=PATH,
    default=Path("labelled.keras"),
    show_default=True,
    help="File to write.",
)
@import_options
@force_option
@json_option
def labels_command(
    model: Path,
    text_embeddings: Path | None,
    names: str | None,
    classes: str | None,
    templates: tuple[str, ...],
    scale: float | None,
    bias: float | None,
    as_labels: bool,
    output: Path,
    force: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Makes texts the classes of MODEL, which embeds images: zero-shot labels.

    MODEL's own text model makes the embeddings of the texts, so the device does not need it: either
    now (--classes), or elsewhere before (--text-embeddings and --names). The command writes a Keras
    model with the texts as its classes, which `convert` takes.
    """
    from vitedge.api.labels import label_by_text
    from vitedge.report.shown import print_shown
    from vitedge.terminal.display import progress_on_stderr

    with progress_on_stderr() as progress:
        made = label_by_text(
            model,
            text_embeddings,
            _listed(names),
            output,
            classes=_listed(classes),
            templates=templates,
            scale=scale,
            bias=bias,
            as_labels=as_labels,
            force=force,
            progress=progress,
            warn=warn,
            **read_source_options(options),
        )
    if as_json:
        print_json({"output": str(output), "path": made.read, "classes": made.classes})
    else:
        print_shown(made)


def _listed(texts: str | None) -> Path | list[str] | None:
    """The names with commas between them, or in a file."""
    if texts is None:
        return None
    # Not Path.is_file, which raises for texts that are too long for a name.
    return Path(texts) if os.path.isfile(texts) else texts.split(",")


PLUGIN = labels_command
