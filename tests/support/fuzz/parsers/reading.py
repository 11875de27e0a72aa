"""How sources of models are read."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vitedge.converters.generic.model import open_generic
from vitedge.errors import NotAViTError
from vitedge.importers import ImportOptions, read_model

PARSERS = ()


class NotFiniteError(AssertionError):
    """A model was accepted whose weights are not all numbers."""


def read_source(path: Path) -> None:
    """Reads a source as ``vitedge inspect`` does."""
    _read(path, ImportOptions())


def read_checkpoint(path: Path) -> None:
    """The same for weights that do not say how many heads they have."""
    _read(path, ImportOptions(heads=2))


def _read(path: Path, options: ImportOptions) -> None:
    try:
        network = read_model(path, options).network
    except NotAViTError:
        open_generic(path, ImportOptions())
        return
    for name, array in network.named_arrays():
        if not np.isfinite(array).all():
            raise NotFiniteError(f"'{name}' of an accepted model holds NaN or infinity")
