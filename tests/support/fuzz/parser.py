"""What is fuzzed: a parser, and where its inputs come from."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from typing import TypeAlias

from tests.support.golden_cases import GOLDEN

Read: TypeAlias = Callable[[Path], None]
"""Reads an input; raises a ``VitedgeError`` where it refuses it, and nothing else ever."""

Make: TypeAlias = Callable[[Random, Path], Path]
"""Writes an input into an empty folder, and returns the path that is to be read."""

Mutate: TypeAlias = Callable[[bytes, Random], bytes]

KERAS = ("tensorflow", "keras", "tf_keras")
"""What reading Keras models and SavedModels imports, where it is installed."""


@dataclass(frozen=True)
class Parser:
    """One parser.

    Attributes:
        name: Short name: ``safetensors``.
        make: Writes an input; the same generator makes the same input.
        read: Reads it.
        imports: Packages that reading may import, which takes seconds that are not its own.
        loads_engine: It hands files to engines that may crash on them; that is allowed where
            ``vitedge predict`` says so in one line.
    """

    name: str
    make: Make
    read: Read
    imports: tuple[str, ...] = ()
    loads_engine: bool = False


def from_files(name: str, seeds: Callable[[], Sequence[bytes]], mutate: Mutate) -> Make:
    """Inputs that are one file.

    Args:
        name: What the file is called.
        seeds: Contents of valid files; asked once.
        mutate: Damages one.
    """
    known = cache(seeds)

    def make(rng: Random, folder: Path) -> Path:
        path = folder / name
        path.write_bytes(mutate(rng.choice(known()), rng))
        return path

    return make


def from_folders(
    folders: Callable[[], Sequence[Mapping[str, bytes]]],
    mutate: Callable[[str, bytes, Random], bytes],
) -> Make:
    """Inputs that are a folder of files, one or two of which are damaged or missing."""
    known = cache(folders)

    def make(rng: Random, folder: Path) -> Path:
        files = dict(rng.choice(known()))
        for name in rng.sample(sorted(files), rng.choice((1, 1, 2))):
            if rng.random() < 0.05 and len(files) > 1:
                del files[name]
            else:
                files[name] = mutate(name, files[name], rng)
        place = folder / "model"
        for name, content in files.items():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).write_bytes(content)
        return place

    return make


def golden(*patterns: str) -> list[bytes]:
    """Contents of golden files."""
    return [path.read_bytes() for pattern in patterns for path in sorted(GOLDEN.glob(pattern))]


def golden_folder(name: str) -> dict[str, bytes]:
    """Files of a golden folder by their paths, without what the tests keep beside them."""
    folder = GOLDEN / name
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in ("case.json", "expected.npz")
    }


def emptied(folder: Path) -> Path:
    """The folder, with nothing in it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
