"""Torch files that cannot be read weights-only, told apart so that the error says what to do."""

from __future__ import annotations

from pathlib import Path

from vitedge.errors import ModelError
from vitedge.importers import Imported, ImportOptions
from vitedge.importers.reading.torch_file import (
    is_old_torch_file,
    is_torch_file,
    open_torch,
    torch_names,
)


class RefusedTorchImporter:
    """Recognises what the importers of torch's checkpoints have to pass over."""

    name = "torch"
    rank = 0

    def recognizes(self, path: Path) -> bool:
        """A file of torch that holds something else than named tensors, or an old one."""
        if not path.is_file():
            return False
        return is_old_torch_file(path) or (is_torch_file(path) and not torch_names(path))

    def read(self, path: Path, options: ImportOptions) -> Imported:
        """Always raises.

        Raises:
            ModelError: The obstacle, and how to save the weights alone.
        """
        if is_old_torch_file(path):
            raise ModelError(
                f"'{path}' is in torch's format before 1.6, a bare pickle that could run code. If "
                "you trust it, load it with torch and save it again: torch.save(state_dict, ...)"
            )
        with open_torch(path):
            raise ModelError(f"'{path}' holds no model that vitedge knows")


PLUGIN = RefusedTorchImporter()
