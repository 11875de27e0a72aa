"""The weights of a torch model, in either of the two formats they are published in."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

from vitedge.importers.reading.safetensors_file import open_safetensors, safetensors_names
from vitedge.importers.reading.tensors import Tensors
from vitedge.importers.reading.torch_file import open_torch, torch_names


def state_dict_names(path: Path) -> frozenset[str]:
    """Names of the arrays of a ``.safetensors`` or torch file, else empty."""
    return safetensors_names(path) or torch_names(path)


def open_state_dict(path: Path) -> AbstractContextManager[Tensors]:
    """Opens a ``.safetensors`` or torch file.

    Raises:
        ModelError: On entering: it is truncated or neither.
    """
    return open_safetensors(path) if path.suffix == ".safetensors" else open_torch(path)
