"""Every parser that is fuzzed; a module of this package adds those in its ``PARSERS``."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from tests.support.fuzz.parser import Parser


@cache
def all_parsers() -> dict[str, Parser]:
    """All of them by name."""
    modules = sorted(module.name for module in pkgutil.iter_modules(__path__))
    found = (importlib.import_module(f"{__name__}.{name}").PARSERS for name in modules)
    return {parser.name: parser for parsers in found for parser in parsers}
