"""Finding plug-ins: a file added is a plug-in added, and packages outside may add theirs."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable
from importlib.metadata import entry_points
from importlib.util import find_spec
from typing import Any


def discover(package: str, path: Iterable[str], *, module: str = "") -> list[Any]:
    """The ``PLUGIN`` of every module of a package that has one, then those from outside.

    Args:
        package: Name of the package; also the entry point group of packages outside.
        path: The package's ``__path__``.
        module: Look into the modules of this name in folders, and not into the package's own.
    """
    inside = pkgutil.iter_modules(path)
    if module:
        names = [f"{package}.{each.name}.{module}" for each in inside if each.ispkg]
        names = [name for name in names if find_spec(name) is not None]
    else:
        names = [f"{package}.{each.name}" for each in inside]
    modules = map(importlib.import_module, names)
    found = [each.PLUGIN for each in modules if hasattr(each, "PLUGIN")]
    return found + [entry.load() for entry in entry_points(group=package)]
