"""Warns if an artefact is measured on images that made it: its accuracy is then too high."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from vitedge.artifacts.metadata import Metadata, read_metadata
from vitedge.errors import ModelError
from vitedge.images.image_digests import shared_with
from vitedge.images.image_sets import ImageSet
from vitedge.images.seen_images import seen_by

_SHOWN = 3
# How a model is read that vitedge itself made of images; other models' images nobody knows.
_TRAINED_HERE = "by name: vitedge"


def overlaps(artifacts: Iterable[Path], images: ImageSet, folders: Sequence[Path]) -> Iterator[str]:
    """A line for each cause that makes an accuracy on these images too high, or may do so.

    Args:
        artifacts: Files of artefacts; those that cannot be read say nothing.
        images: The images that are measured on.
        folders: The places where folders of training runs may be.

    Raises:
        DataError: An image cannot be read from the disk.
    """
    described = [(path, found) for path in artifacts if (found := _described(path)) is not None]
    # The artefacts of one model have most of this in common, and one line is enough.
    for digests in dict.fromkeys(_calibrations(described)):
        names = [path.name for path, each in described if _calibrated_on(each) == digests]
        yield from _shared(images, digests, "calibrated on", f"{_listed(names)} was")
    unknown = [path.name for path, each in described if _is_not_recorded(each)]
    if unknown:
        yield (
            f"{_listed(unknown)} does not record which images it was calibrated on (made by an "
            f"older vitedge): nobody can tell whether they are in '{images.name}'"
        )
    for source in dict.fromkeys(each.source for _, each in described):
        seen = seen_by(source.sha256, folders)
        if seen is not None:
            yield from _shared(images, seen.learnt_from, "learnt from", f"'{source.name}' has")
            yield from _shared(images, seen.chosen_by, "chosen by", f"'{source.name}' was")
        elif source.path == _TRAINED_HERE:
            yield (
                f"whether '{source.name}' learnt from images of '{images.name}' is not known: the "
                "folder of its training run is neither beside the artefacts nor here"
            )


def _described(path: Path) -> Metadata | None:
    try:
        return read_metadata(path)
    except ModelError:  # the bench gives it a row that says so
        return None


def _calibrated_on(metadata: Metadata) -> tuple[str, ...]:
    return () if metadata.calibration is None else metadata.calibration.images


def _calibrations(described: Iterable[tuple[Path, Metadata]]) -> Iterator[tuple[str, ...]]:
    for _, metadata in described:
        if _calibrated_on(metadata):
            yield _calibrated_on(metadata)


def _is_not_recorded(metadata: Metadata) -> bool:
    found = metadata.calibration
    return found is not None and found.kind == "images" and not found.images


def _shared(images: ImageSet, digests: Sequence[str], how: str, who: str) -> Iterator[str]:
    if not digests:
        return
    found = shared_with(images, digests)
    if not found.names:
        return
    names = ", ".join(f"'{name}'" for name in found.names[:_SHOWN])
    more = ", ..." if len(found.names) > _SHOWN else ""
    of = (
        f"{found.looked_at} images"
        if found.looked_at == len(images.samples)
        else (f"{found.looked_at} compared images")
    )
    yield (
        f"{who} {how} {len(found.names)} of the {of} of '{images.name}' ({names}{more}): accuracy "
        "on them is too high; measure on other images"
    )


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return f"'{names[0]}'{more}"
