"""`vitedge demo`: all of it on handwritten digits."""

from __future__ import annotations

from pathlib import Path

import click

from vitedge.commands.grouped import GroupedCommand
from vitedge.commands.options import PATH, force_option
from vitedge.terminal.output import echo, when_interrupted


@click.command(cls=GroupedCommand)
@click.option(
    "-o",
    "--output",
    type=PATH,
    default=Path("vitedge-demo"),
    show_default=True,
    help="Folder for everything.",
)
@force_option
def demo(output: Path, force: bool) -> None:
    """Trains a small ViT on handwritten digits, makes nine artefacts of it, and measures them."""
    from vitedge.demo.run import run_demo
    from vitedge.report.shown import print_shown
    from vitedge.terminal.display import progress_on_stderr

    when_interrupted(f"what was written to '{output}' is kept; to begin anew give --force")
    with progress_on_stderr() as progress:
        result = run_demo(output, force=force, progress=progress)
    print_shown(result.report)
    echo(
        f"trained to {result.accuracy:.1%} of {result.held_out} held-out digits; "
        f"model, artefacts, report.json and report.html are in {output}/"
    )


PLUGIN = demo
