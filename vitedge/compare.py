"""``vitedge compare``: where on its way an artefact leaves its model.

The artefact's tensors are compared with those of the float32 model under the very rewrites that
the artefact was made with, so that names and bases are the same. What is compared is what reaches
a layer's output: its own error and that of all layers before it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vitedge.artifact import Metadata, read_metadata
from vitedge.bench.results import LayerError, LayerErrors, Report
from vitedge.data import ImageSet, open_images
from vitedge.errors import ModelError, UsageError
from vitedge.importers import ImportOptions, read_model
from vitedge.intermediates import intermediates
from vitedge.progress import Progress, silent
from vitedge.quantize.trace import trace
from vitedge.rewrite import apply_rewrites, rewrites
from vitedge.synthetic import synthetic_images
from vitedge.vit import Array, ViT

# More change the figures by under half a decibel.
_IMAGES = 8


@dataclass(frozen=True)
class Comparison:
    """An artefact beside its model.

    Attributes:
        errors: Layer by layer, in the order of computation; the last is the logits.
        agreement: Share of images with the same top class, 0..1.
        n: Number of images.
        images: What they are, in words.
    """

    errors: LayerErrors
    agreement: float
    n: int
    images: str


def compare(
    source: Path,
    artifact: Path,
    options: ImportOptions,
    *,
    images: ImageSet | None = None,
    progress: Progress = silent,
) -> Comparison:
    """Runs both on the same images.

    Args:
        source: The model that the artefact was made from.
        artifact: An artefact of ours.
        options: What the source does not say itself.
        images: Images to compare on; the first few are taken. None means synthetic ones.
        progress: Told how far things are.

    Raises:
        UsageError: The artefact is of no known origin, or of another shape than the model.
        ModelError: A file cannot be read, or holds none of the model's tensors.
    """
    metadata = read_metadata(artifact)
    if metadata is None:
        raise UsageError(f"'{artifact}' does not say how it was made; compare takes our artefacts")
    progress("reading the model", 0, 3)
    vit = _as_made(read_model(source, options).vit, metadata)
    chosen = images or synthetic_images(vit.preprocessing, _IMAGES, seed=0)
    pixels = metadata.preprocessing.batch([sample.image for sample in chosen.samples[:_IMAGES]])
    if pixels.shape[1:] != (*vit.config.image_size, vit.config.channels):
        raise UsageError(f"'{artifact}' takes {pixels.shape[1:]}; '{source}' is another model")
    progress("running the model", 1, 3)
    expected = _traced(vit, pixels)
    progress("running the artefact", 2, 3)
    found = _separated(intermediates(artifact, _tensors(vit), pixels), expected)
    if "head" not in found:
        raise ModelError(f"'{artifact}' names none of the model's layers; did a tool rename them?")
    layers = tuple(
        LayerError(name, _sqnr_db(name, found[name], values))
        for name, values in expected.items()
        if name in found
    )
    same = found["head"].argmax(axis=1) == expected["head"].argmax(axis=1)
    errors = LayerErrors(str(artifact), metadata.format, metadata.precision, layers)
    words = chosen.name if images is not None else "synthetic images"
    return Comparison(errors, float(same.mean()), len(pixels), words)


def compare_all(
    source: Path, report: Report, data: Path | None, *, progress: Progress = silent
) -> tuple[LayerErrors, ...]:
    """Compares every artefact of a report that ran with the model that is the bench's reference.

    Raises:
        UsageError: One is not of this model, or does not say how it was made.
        ModelError: The model cannot be read.
    """
    images = None if data is None else open_images(data)
    ran = dict.fromkeys(row.artifact for row in report.rows if row.was_loaded)
    return tuple(
        compare(source, Path(path), ImportOptions(), images=images, progress=progress).errors
        for path in ran
    )


def _as_made(vit: ViT, metadata: Metadata) -> ViT:
    applied = set(metadata.rewrites)
    without = [each.name for each in rewrites() if each.name not in applied]
    extra = [each.name for each in rewrites() if each.name in applied and not each.default]
    return apply_rewrites(vit, without, extra=extra)[0]


def _traced(vit: ViT, pixels: npt.NDArray[np.uint8]) -> dict[str, Array]:
    """The outputs of linear layers and of blocks, ``(N, tokens, width)``, but for values.

    Values have another basis in a quantized artefact, and what mixes them is compared right after.
    """
    linears = {name for name, _ in vit.named_linears() if not name.endswith(".v")}
    seen: dict[str, Array] = {}

    def made(name: str, x: Array, _narrow: bool) -> Array:
        if name in linears or name.endswith(("/attended", "/out")):
            seen[name] = x.reshape(len(x), -1, x.shape[-1])
        return x

    trace(vit, pixels, made, lambda _name, x: x)
    return seen


def _tensors(vit: ViT) -> set[str]:
    """Names that an artefact may hold: layers on the same input may be one product."""
    names = {name for name, _ in vit.named_linears()}
    for index in range(vit.config.depth):
        block = f"blocks.{index}"
        names |= {f"{block}/attended", f"{block}/out", f"{block}.k+{block}.v"}
        names.add(f"{block}.q+{block}.k+{block}.v")
    return names


def _separated(found: dict[str, Array], expected: dict[str, Array]) -> dict[str, Array]:
    """One array for each layer, in the shape of what is expected; the head without features."""
    parts = {}
    for joined, values in found.items():
        names = joined.split("+")
        for name, part in zip(names, np.split(values, len(names), axis=-1), strict=True):
            if name in expected:
                wanted = expected[name]
                width = wanted.shape[-1]
                parts[name] = part.reshape(len(wanted), -1, part.shape[-1])[..., :width]
    return parts


def _sqnr_db(name: str, found: Array, expected: Array) -> float | None:
    if name.endswith(".k"):
        # A constant added to all keys is not seen by softmax, so it is no error.
        found = found - found.mean(axis=(0, 1))
        expected = expected - expected.mean(axis=(0, 1))
    error = float(np.square((found - expected).astype(np.float64)).sum())
    signal = float(np.square(expected.astype(np.float64)).sum())
    return float(10 * np.log10(signal / error)) if error > 0 and signal > 0 else None
