"""Registers our Keras layers when, and only when, the program imports Keras itself.

``keras.saving.load_model`` finds custom layers in a registry that lives inside Keras. Importing
Keras to fill it takes seconds, which an app on a device must not pay; asking users for a second
import would break the promise that ``import vitedge`` is enough. So: if Keras is loaded already,
register now, else right after it has been loaded.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType


def install() -> None:
    """Arranges the registration; does nothing when called again."""
    if hasattr(sys.modules.get("keras"), "saving"):
        _register()
    elif not any(isinstance(finder, _KerasFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _KerasFinder())


def _register() -> None:
    importlib.import_module("vitedge.in_keras.model")  # and the class of 0.1 with it


class _KerasFinder(MetaPathFinder):
    """Finds Keras as usual, with a loader that registers our layers afterwards."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != "keras":
            return None
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _RegisteringLoader(spec.loader)
        return spec


class _RegisteringLoader(Loader):
    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        _register()
