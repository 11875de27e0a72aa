"""``vitedge.inspect``: what a file is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from vitedge.api.listening import Tell, python_warning
from vitedge.api.models import Model, opened
from vitedge.api.options import SourceOptions, import_options
from vitedge.inspection import description
from vitedge.inspection.description import Inspection

if TYPE_CHECKING:
    from typing import Unpack


def inspect(
    file: Model, *, warn: Tell = python_warning, **source: Unpack[SourceOptions]
) -> Inspection:
    """Tells what a file is: a model's sizes, or an artefact's metadata and operators.

    Args:
        file: An artefact or a model: a path, or a Keras model in memory.
        warn: Told what is odd; by default Python warns.
        **source: See ``SourceOptions``.

    Raises:
        ModelError: The file is missing, damaged, or neither an artefact nor a model.
    """
    with opened(file, import_options(source, warn)) as found:
        inspected = description.inspect(found.path, found.importing)
    return replace(inspected, path=Path(found.path.name)) if found.in_memory else inspected
