"""`vitedge predict`: what an artefact makes of images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vitedge.commands.grouped import GroupedCommand
from vitedge.commands.options import PATH, TARGET, json_option
from vitedge.errors import UsageError
from vitedge.terminal.output import echo, print_json

if TYPE_CHECKING:
    from vitedge.commands.printed.answers import Answer


@click.command(cls=GroupedCommand)
@click.argument("artifact", type=PATH)
@click.argument("images", nargs=-1, required=True, type=PATH)
@click.option(
    "--top",
    type=click.IntRange(1),
    default=5,
    show_default=True,
    help="Number of classes to print.",
)
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1),
    default=0.5,
    show_default=True,
    help="Least probability of a label that is printed, if each label is right by itself.",
)
@click.option(
    "--output",
    type=PATH,
    help="File for embeddings (.npy, one row for each image) or for a map (.npy, or a grey .png).",
)
@click.option("--force", is_flag=True, help="Overwrite --output.")
@click.option(
    "--target",
    type=TARGET,
    help="Target to run on, such as tflite-cpu.  [default: the format's CPU]",
)
@click.option("--threads", type=click.IntRange(1), help="Threads of the runtime.")
@json_option
def predict(
    artifact: Path,
    images: Sequence[Path],
    top: int,
    threshold: float,
    output: Path | None,
    force: bool,
    target: str | None,
    threads: int | None,
    as_json: bool,
) -> None:
    """Runs ARTIFACT on IMAGES: prints classes, labels or numbers, writes embeddings or a map."""
    from vitedge.files.limits import engine_bytes
    from vitedge.files.staging import refuse_existing
    from vitedge.terminal.crash_guard import guarded

    _refuse_folders(images)
    if output is not None:
        refuse_existing([output], force=force)
    on_cpu = target is None or target.endswith("-cpu")

    def crashed(code: int) -> str:
        from vitedge.bench.process import death_in_words

        return (
            f"the engine crashed on '{artifact}' ({death_in_words(code)}): the file is damaged, or "
            "the engine or its driver has a fault"
        )

    def answers() -> Iterator[Answer]:
        from vitedge.commands.printed.answers import answers_of

        return answers_of(
            artifact, images, top, threshold=threshold, output=output, on=(target, threads)
        )

    results, unreadable = [], 0
    for image, answer, error in guarded(
        answers,
        crashed,
        # Drivers of other devices reserve as much as they like.
        most_bytes=engine_bytes(_size_of(artifact)) if on_cpu else None,
    ):
        if error:
            echo(f"Error: {error}", err=True)
            unreadable += 1
            continue
        lines = answer.pop("lines")
        results.append({"image": image, **answer})
        if not as_json:
            echo(image)
            for line in lines:
                echo(f"  {line}")
    if as_json and results:
        print_json(results)
    if unreadable:
        click.get_current_context().exit(1)


def _refuse_folders(images: Sequence[Path]) -> None:
    """A folder is measured on; `predict` names the images that somebody names.

    Raises:
        UsageError: One is a folder.
    """
    for path in images:
        if not path.is_dir():
            continue
        from vitedge.images.image_sets import (
            is_image,
        )  # NumPy's threads would keep the guard from forking

        for pattern in ("*", "*/*"):
            found = next((each for each in sorted(path.glob(pattern)) if is_image(each)), None)
            if found is not None:
                break
        named = path / pattern if found is None else path / f"{pattern}{found.suffix}"
        raise UsageError(
            f"'{path}' is a folder: name its images, such as {named}; to measure a model on a "
            f"folder, use `vitedge bench --data {path}`"
        )


def _size_of(artifact: Path) -> int:
    """Bytes of an artefact and of its weights; ``vitedge.artifacts`` would load NumPy's threads."""
    parts = (artifact, artifact.with_suffix(".bin"), artifact.with_name(artifact.name + ".data"))
    return sum(part.stat().st_size for part in parts if part.is_file())


PLUGIN = predict
