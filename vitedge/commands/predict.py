"""`vitedge predict`: an artefact names images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vitedge.commands.grouped import GroupedCommand
from vitedge.commands.options import PATH, json_option
from vitedge.errors import DataError, UsageError
from vitedge.terminal.output import echo, print_json

if TYPE_CHECKING:
    from vitedge.classifier import Ranking


@click.command(cls=GroupedCommand)
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
    from vitedge.files.limits import engine_bytes
    from vitedge.terminal.crash_guard import guarded

    _refuse_folders(images)
    on_cpu = target is None or target.endswith("-cpu")

    def crashed(code: int) -> str:
        from vitedge.bench.process import death_in_words

        return (
            f"the engine crashed on '{artifact}' ({death_in_words(code)}): the file is damaged, or "
            "the engine or its driver has a fault"
        )

    results, unreadable = [], 0
    for image, ranking, error in guarded(
        lambda: _rankings(artifact, images, top, target, threads),
        crashed,
        # Drivers of other devices reserve as much as they like.
        most_bytes=engine_bytes(_size_of(artifact)) if on_cpu else None,
    ):
        if error:
            echo(f"Error: {error}", err=True)
            unreadable += 1
            continue
        results.append({"image": image, "classes": ranking})
        if not as_json:
            echo(image)
            for label, probability in ranking:
                echo(f"  {probability:7.2%}  {label}")
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


def _rankings(
    artifact: Path, images: Sequence[Path], top: int, target: str | None, threads: int | None
) -> Iterator[tuple[str, Ranking, str]]:
    """Each image with its classes, or with what is wrong with it."""
    from vitedge.classifier import load

    with load(artifact, target, threads) as classifier:
        for image in images:
            try:
                yield str(image), classifier.classify(image, top), ""
            except DataError as error:
                yield str(image), [], str(error)


PLUGIN = predict
