"""`vitedge predict`: an artefact names images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from vitedge.cli_options import PATH, json_option
from vitedge.cli_output import echo, print_json
from vitedge.errors import DataError


@click.command()
@click.argument("artifact", type=PATH)
@click.argument("images", nargs=-1, required=True, type=PATH)
@click.option("--top", type=click.IntRange(1), default=5, show_default=True)
@click.option("--target", help="Where to run, such as tflite-cpu.  [default: the format's CPU]")
@click.option("--threads", type=click.IntRange(1))
@json_option
def predict(
    artifact: Path,
    images: Sequence[Path],
    top: int,
    target: str | None,
    threads: int | None,
    as_json: bool,
) -> None:
    """Names IMAGES with ARTIFACT, the most probable classes first."""
    from vitedge.classifier import load

    results, unreadable = [], 0
    with load(artifact, target, threads) as classifier:
        for image in images:
            try:
                ranking = classifier.classify(image, top)
            except DataError as error:
                echo(f"Error: {error}", err=True)
                unreadable += 1
                continue
            results.append({"image": str(image), "classes": [list(pair) for pair in ranking]})
            if not as_json:
                echo(str(image))
                for label, probability in ranking:
                    echo(f"  {probability:7.2%}  {label}")
    if as_json and results:
        print_json(results)
    if unreadable:
        click.get_current_context().exit(1)


PLUGIN = predict
