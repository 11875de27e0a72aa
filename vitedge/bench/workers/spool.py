"""Handing a set of images to worker processes through files, in constant memory.

Images that are files are handed over by path. Anything else is copied behind one another into one
file, and an index of JSON lines says where each begins, or how large and how old the file is.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vitedge.images.preprocess import ImageLike, open_image

if TYPE_CHECKING:
    from vitedge.images.samples import Sample

_INDEX, _BYTES = "images.jsonl", "images.bin"


def write_spool(samples: Iterable[Sample], folder: Path) -> Path:
    """Writes the index, and the bytes of those images that are not files.

    Returns:
        Path of the index; its folder must stay in place as long as it is read.
    """
    index = folder / _INDEX
    with index.open("w", encoding="utf-8") as lines, (folder / _BYTES).open("wb") as content:
        for sample in samples:
            print(json.dumps(_entry(sample.image, content)), file=lines)
    return index


def _entry(image: ImageLike, content: io.BufferedWriter) -> dict[str, object]:
    if isinstance(image, (str, os.PathLike)):
        path = os.path.abspath(os.fspath(image))
        try:
            facts = os.stat(path)
        except OSError:  # whoever opens it will say so
            return {"file": path, "length": 0}
        return {"file": path, "length": facts.st_size, "modified": facts.st_mtime_ns}
    shape: tuple[int, ...] | None = None
    if isinstance(image, bytes):
        encoded = image
    elif isinstance(image, np.ndarray) and image.dtype == np.uint8:
        encoded, shape = image.tobytes(), image.shape
    else:
        # Pillow images keep their mode this way, and a wrong array gets Preprocessing's own words.
        stream = io.BytesIO()
        open_image(image).save(stream, "PNG")
        encoded = stream.getvalue()
    start = content.tell()
    content.write(encoded)
    return {"start": start, "length": len(encoded), "shape": shape}


def read_spool(index: Path, start: int = 0) -> Iterator[ImageLike]:
    """The images from ``start`` on in order, one at a time; files are not opened."""
    with index.open(encoding="utf-8") as lines, (index.parent / _BYTES).open("rb") as content:
        for line in islice(lines, start, None):
            entry = json.loads(line)
            if "file" in entry:
                yield entry["file"]
                continue
            content.seek(entry["start"])
            encoded = content.read(entry["length"])
            if entry["shape"] is None:
                yield encoded
            else:
                yield np.frombuffer(encoded, np.uint8).reshape(entry["shape"])


def count_spool(index: Path) -> int:
    """The number of images that an index lists."""
    with index.open(encoding="utf-8") as lines:
        return sum(1 for _ in lines)


def digest_spool(index: Path) -> str:
    """Digest of the images, in hex: bytes that were copied; path, size and time of files."""
    digest = hashlib.sha256()
    for path in (index, index.parent / _BYTES):
        with path.open("rb") as stream:
            while chunk := stream.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()


def sizes_of(index: Path) -> Iterator[int]:
    """Bytes of each image, encoded as it was given."""
    with index.open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)["length"]
