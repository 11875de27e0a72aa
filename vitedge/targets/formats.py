"""The file formats that runtimes execute: a folder of ``converters/`` each, found by its record.

A format's ``format.py`` ends with ``PLUGIN = FormatRecord(...)``, and imports nothing heavy: the
command line asks it for its choices, devices for where an artefact's text lies. Packages outside
may add theirs under the entry point group ``vitedge.converters``.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import ClassVar

from vitedge.targets.open_names import OpenName
from vitedge.targets.plugins import discover
from vitedge.targets.target import Target

_FOLDERS, _RECORD = "vitedge.converters", "format"


def _none_beside(_: Path) -> tuple[Path, ...]:
    return ()


def _all_inside(main: bytes, _: str) -> bytes:
    return main


@dataclass(frozen=True)
class FormatRecord:
    """Everything that is to be said of a format where its own packages may be missing.

    Attributes:
        name: The name on the command line, in file names and in metadata.
        order: The position in lists; the lowest comes first.
        suffix: The extension of an artefact's (main) file, with its dot.
        default_target: The target of its artefacts unless another one is named: its own runtime, on
            the CPU. Whatever other runtimes are installed, artefacts are checked and loaded there.
        extra: The extra of this package that brings its runtime.
        colour: The colour of its marks in charts, as ``#RRGGBB``.
        read_texts: The function that reads the texts that vitedge wrote into a file, by key; it
            gives none for a file of other makers, and raises ``ValueError`` and its like for one
            that is damaged.
        tools: Imports what writes and dissects its files, a ``converters.tools.FormatTools``.
        beside: The files that belong to a main file.
        name_weights: Makes the content of a main file name the SHA-256 of the weights beside it;
            raises ``ModelError`` for what is not such a file.
    """

    name: str
    order: int
    suffix: str
    default_target: Target
    extra: str
    colour: str
    read_texts: Callable[[Path], Mapping[str, str]]
    tools: Callable[[], object]
    beside: Callable[[Path], tuple[Path, ...]] = _none_beside
    name_weights: Callable[[bytes, str], bytes] = _all_inside


class Format(OpenName):
    """A file format that a runtime executes: the name of a record.

    The constants are for whoever means one format and no other.
    """

    TFLITE: ClassVar[Format]
    ONNX: ClassVar[Format]
    OPENVINO: ClassVar[Format]

    @classmethod
    def known(cls) -> Collection[str]:
        """The names of all records."""
        return format_records()

    @property
    def record(self) -> FormatRecord:
        """The record of this name."""
        return format_records()[self]

    @property
    def suffix(self) -> str:
        """The extension of the artefact's (main) file, with its dot."""
        return self.record.suffix

    @property
    def default_target(self) -> Target:
        """The target that runs its artefacts unless somebody names another."""
        return self.record.default_target


# Not looked for here: finding the records imports their modules.
Format.TFLITE = Format.declared("tflite")
Format.ONNX = Format.declared("onnx")
Format.OPENVINO = Format.declared("openvino")


@cache
def format_records() -> Mapping[str, FormatRecord]:
    """The records of all formats by name, in their order."""
    # By name, since the folders lie above this one.
    folders = importlib.import_module(_FOLDERS)
    found: list[FormatRecord] = discover(_FOLDERS, folders.__path__, module=_RECORD)
    return {each.name: each for each in sorted(found, key=lambda each: each.order)}


def all_formats() -> tuple[Format, ...]:
    """All formats, in their order."""
    return tuple(map(Format.declared, format_records()))
