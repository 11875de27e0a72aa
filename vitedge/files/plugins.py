"""Finding plug-ins: a file added is a plug-in added, and packages outside may add theirs."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable
from importlib.metadata import entry_points
from typing import Any


def discover(package: str, path: Iterable[str]) -> list[Any]:
    """The ``PLUGIN`` of every module of a package that has one, then those from outside.

    Args:
        package: Name of the package; also the entry point group of packages outside.
        path: The package's ``__path__``.
    """
    modules = [
        importlib.import_module(f"{package}.{each.name}") for each in pkgutil.iter_modules(path)
    ]
    found = [module.PLUGIN for module in modules if hasattr(module, "PLUGIN")]
    return found + [entry.load() for entry in entry_points(group=package)]
