"""`vitedge labels`: the embeddings of texts become a model's head."""

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
    read_source_options,
)
from vitedge.terminal.output import print_json, warn


@click.command("labels", cls=GroupedCommand)
@click.argument("model", type=PATH)
@click.option(
    "--text-embeddings",
    type=PATH,
    required=True,
    metavar="FILE.npz",
    help="Holds `embeddings`, a row a text, and perhaps `scale` and `bias`.",
)
@click.option(
    "--names", required=True, help="Of the texts: with commas between, or a file of a name a line."
)
@click.option("--scale", type=float, help="What cosines are multiplied with; CLIP's is about 100.")
@click.option("--bias", type=float, help="What is added then: SigLIP's logit_bias.")
@click.option(
    "--as-labels", is_flag=True, help="Each text is right or not by itself, as of SigLIP."
)
@click.option("-o", "--output", type=PATH, default=Path("labelled.keras"), show_default=True)
@import_options
@force_option
@json_option
def labels_command(
    model: Path,
    text_embeddings: Path,
    names: str,
    scale: float | None,
    bias: float | None,
    as_labels: bool,
    output: Path,
    force: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Lets MODEL, which embeds images, name them by texts: zero-shot labels.

    The texts' embeddings are those of MODEL's own text model, which the device does not need. What
    is written is a Keras model with the texts as its classes; `convert` takes it.
    """
    from vitedge.api.labels import label_by_text
    from vitedge.report.shown import print_shown
    from vitedge.terminal.display import progress_on_stderr

    with progress_on_stderr() as progress:
        made = label_by_text(
            model,
            text_embeddings,
            Path(names) if Path(names).is_file() else names.split(","),
            output,
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


PLUGIN = labels_command
