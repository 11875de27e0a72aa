"""A digits model that is always there, so that ``vitedge bench`` has something to run.

Made by ``vitedge demo`` (see ``benchmarks/make_builtin.py``): a small ViT on scikit-learn's
handwritten digits, as float32 and int8 artefacts of each format, and the held-out digits.
"""

from __future__ import annotations

from pathlib import Path

from vitedge.images.image_sets import ImageSet, open_images
from vitedge.targets.formats import all_formats

_FOLDER = Path(__file__).parent


def artifacts() -> tuple[Path, ...]:
    """The built-in artefacts of every format."""
    return tuple(
        path
        for path in sorted(_FOLDER.iterdir())
        if path.suffix in {each.suffix for each in all_formats()}
    )


def images() -> ImageSet:
    """The held-out digits that they were never trained on, labelled."""
    return open_images(_FOLDER / "digits.npz", tuple("0123456789"))
