"""The answers of a loaded model, for `vitedge predict`."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from vitedge.classifier import Classifier, Embedder, Mapper, Regressor, load
from vitedge.errors import DataError, UsageError
from vitedge.files.staging import write_whole
from vitedge.loaded.model import LoadedModel
from vitedge.network.tasks import Task

Answer: TypeAlias = tuple[str, dict[str, Any], str]
"""An image, what is said of it (JSON-ready, with ``lines`` for people), and what is wrong."""


def answers_of(
    artifact: Path,
    images: Sequence[Path],
    top: int,
    *,
    threshold: float,
    output: Path | None,
    on: tuple[str | None, int | None],
) -> Iterator[Answer]:
    """Each image with what the artefact says of it, or with what is wrong with it.

    Args:
        artifact: The file.
        images: Paths of pictures.
        top: The largest number of classes or labels to name.
        threshold: Least probability of a label.
        output: File for embeddings, or for one image's map.
        on: Target and threads.

    Raises:
        UsageError: ``output`` does not fit what the model gives.
        VitedgeError: See ``load``.
    """
    with load(artifact, *on) as model:
        _demand_output(model, images, output)
        rows: list[npt.NDArray[np.float32]] = []
        for image in images:
            try:
                found = _answer(model, image, top, threshold, output, rows)
            except DataError as error:
                yield str(image), {}, str(error)
            else:
                yield str(image), found, ""
        if rows and output is not None:
            write_whole(output, _npy(np.stack(rows)))


def _demand_output(model: LoadedModel, images: Sequence[Path], output: Path | None) -> None:
    """Refuses an output that the answers do not fit into.

    Raises:
        UsageError: The answers do not fit into the output.
    """
    suffix = None if output is None else output.suffix.lower()
    match model:
        case Embedder() if suffix != ".npy":
            raise UsageError("the model gives embeddings: say where to with --output FILE.npy")
        case Mapper() if len(images) > 1:
            raise UsageError(
                f"the model gives a map of each image: name one image, not {len(images)}"
            )
        case Mapper() if suffix not in (".npy", ".png"):
            raise UsageError(
                "the model gives a map of the image: say where to with --output FILE.npy, or "
                "--output FILE.png"
            )
        case Classifier() | Regressor() if output is not None:
            raise UsageError(f"the model gives {model.task.words}; leave out --output")
        case _:
            pass


def _answer(
    model: LoadedModel,
    image: Path,
    top: int,
    threshold: float,
    output: Path | None,
    rows: list[npt.NDArray[np.float32]],
) -> dict[str, Any]:
    match model:
        case Classifier():
            ranking = model.classify(image, top)
            if model.task is Task.LABELS:
                ranking = [each for each in ranking if each[1] >= threshold]
            lines = [f"{probability:7.2%}  {label}" for label, probability in ranking]
            nothing = f"no label of {threshold:.0%} or more"
            return {"classes": ranking, "lines": lines or [nothing]}
        case Regressor():
            (values,) = model.predict([image])
            names = model.labels or tuple(map(str, range(len(values))))
            numbers = [(name, float(value)) for name, value in zip(names, values, strict=True)]
            return {
                "numbers": numbers,
                "lines": [f"{value:.6g}  {name}" for name, value in numbers],
            }
        case Embedder():
            (vector,) = model.embed([image])
            rows.append(vector)
            size = " x ".join(map(str, vector.shape))
            words = f"{size} numbers in row {len(rows) - 1} of {output}"
            return {"row": len(rows) - 1, "output": str(output), "lines": [words]}
        case Mapper():
            assert output is not None
            found = model.predict(image)
            as_picture = output.suffix.lower() == ".png"
            write_whole(output, _png(found) if as_picture else _npy(found))
            low, high = float(np.nanmin(found)), float(np.nanmax(found))
            size = " x ".join(map(str, found.shape))
            words = f"{size} numbers from {low:.4g} to {high:.4g} in {output}"
            return {"output": str(output), "low": low, "high": high, "lines": [words]}
        case _:
            raise AssertionError(model)


def _npy(array: npt.NDArray[np.float32]) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=False)
    return stream.getvalue()


def _png(found: npt.NDArray[np.float32]) -> bytes:
    """A map as a grey picture: black the least number, white the largest; unseen places black.

    Raises:
        UsageError: The map has several channels.
    """
    from PIL import Image

    planes = found.reshape(*found.shape[:2], -1)
    if planes.shape[2] != 1:
        raise UsageError(
            f"the map has {planes.shape[2]} channels, a picture one: write it to a .npy file"
        )
    plane = planes[..., 0]
    low, high = np.nanmin(plane), np.nanmax(plane)
    shares = (plane - low) / max(float(high - low), 1e-30)
    grey = np.round(np.nan_to_num(shares) * 255).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(grey).save(stream, "PNG")
    return stream.getvalue()
