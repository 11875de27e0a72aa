"""HDF5 files that hold their own data: links and storage that lead elsewhere are refused.

HDF5 lets a group or a dataset lie in any other file of the machine: by an external link, external
storage, or a virtual dataset. A model that does so would make a stranger's file its weights. All
links of a file are walked before one of its values is read.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, BinaryIO

from vitedge.errors import ModelError, VitedgeError
from vitedge.files.hdf5_heaps import refuse_endless_heaps
from vitedge.files.limits import refuse_inflation

SIGNATURE = b"\x89HDF\r\n\x1a\n"

# Filters that HDF5 itself or h5py brings; any other number names a library to load.
_FILTERS = {1: "gzip", 2: "shuffle", 3: "fletcher32", 4: "szip", 5: "nbit", 6: "scaleoffset"}
_LZF = 32000

_MOST_OBJECTS = 1_000_000
"""A ViT of a hundred blocks has some 2,000 arrays; the walk would take minutes past this."""


def is_hdf5(path: Path) -> bool:
    """Whether a file begins as HDF5 does."""
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        return stream.read(len(SIGNATURE)) == SIGNATURE


_ONLY_ITSELF = "only what lies in the file itself is read"


@contextmanager
def open_contained(source: str, file: Path | BinaryIO) -> Iterator[Any]:
    """Opens an HDF5 file for reading, once it is sure that all of it lies in that file.

    Args:
        source: Name of the file, for messages.
        file: The path of the file, or its bytes.

    Yields:
        The ``h5py.File``.

    Raises:
        ModelError: A part of it lies elsewhere, or claims more than it holds.
        SizeError: The file would take more memory than the bound on sources.
        OSError: The file is damaged; h5py raises RuntimeError, ValueError and KeyError for that,
            too.
        ImportError: h5py is not installed.
    """
    import h5py

    with file.open("rb") if isinstance(file, Path) else nullcontext(file) as stream:
        refuse_endless_heaps(source, stream)
        stream.seek(0)
    with h5py.File(file, "r") as opened:
        _refuse_elsewhere(source, opened)
        yield opened


def refuse_elsewhere(path: Path, source: str | None = None) -> None:
    """Refuses a file that is not all of itself, before a library opens it by its path.

    Args:
        path: The file.
        source: Its name for messages, where it is a copy.

    Raises:
        ModelError: A part of it lies elsewhere, it claims more than it holds, or it is damaged.
    """
    source = source or str(path)
    try:
        with open_contained(source, path):
            pass
    except VitedgeError:
        raise
    except Exception as error:  # h5py's own kinds
        reason = " ".join(str(error).split())
        raise ModelError(f"'{source}' is truncated or not an HDF5 file ({reason})") from error


def why_elsewhere(path: Path) -> str:
    """The things that a file keeps outside of itself, in a clause; empty when there are none."""
    if not is_hdf5(path):
        return ""
    try:
        with open_contained("", path):
            return ""
    except VitedgeError as error:
        return str(error).removeprefix("'': ")
    except Exception:  # damaged, or no h5py
        return ""


def _refuse_elsewhere(source: str, opened: Any) -> None:
    """Walks every link, each object once, and opens none that leads out of the file."""
    import h5py

    held = opened.id.get_filesize()
    claimed, seen, stack = 0, set(), [("", opened)]
    while stack:
        path, group = stack.pop()
        address = h5py.h5o.get_info(group.id).addr
        if address in seen:
            continue
        seen.add(address)
        if len(seen) > _MOST_OBJECTS:
            raise ModelError(f"'{source}': it holds more than {_MOST_OBJECTS:,} objects")
        if isinstance(group, h5py.Dataset):
            claimed += _claim(source, path, group)
            continue
        if not isinstance(group, h5py.Group):
            raise ModelError(f"'{source}': '{path}' is a named type, which no model has")
        for name in group:
            inner = f"{path}/{name}".removeprefix("/")
            _refuse_link(source, inner, group.id.links.get_info(name.encode()).type)
            stack.append((inner, group[name]))
    refuse_inflation(f"'{source}'", claimed, held)


def _refuse_link(source: str, path: str, kind: int) -> None:
    import h5py

    if kind == h5py.h5l.TYPE_HARD:
        return
    words = {
        h5py.h5l.TYPE_EXTERNAL: "a link into another file",
        h5py.h5l.TYPE_SOFT: "a symbolic link, which no Keras writes",
    }
    raise ModelError(
        f"'{source}': '{path}' is {words.get(kind, 'a link of an unknown kind')}; {_ONLY_ITSELF}"
    )


def _claim(source: str, path: str, dataset: Any) -> int:
    """Bytes that reading a dataset takes, once its storage is sure to be in this file."""
    import h5py

    where = f"'{source}': '{path}'"
    layout = dataset.id.get_create_plist()
    kind = layout.get_layout()
    if kind == h5py.h5d.VIRTUAL:
        raise ModelError(f"{where} is a virtual dataset, made of other files; {_ONLY_ITSELF}")
    if layout.get_external_count():
        raise ModelError(f"{where} lies in another file (external storage); {_ONLY_ITSELF}")
    size = dataset.id.get_type().get_size()
    claimed: int = 0 if dataset.shape is None else math.prod(dataset.shape) * size
    stored: int = dataset.id.get_storage_size()
    if kind != h5py.h5d.CHUNKED:
        if claimed > stored:
            raise ModelError(f"{where} claims {claimed:,} bytes and holds {stored:,}")
        return claimed
    for index in range(layout.get_nfilters()):
        number = layout.get_filter(index)[0]
        if number not in _FILTERS and number != _LZF:
            raise ModelError(f"{where} needs the HDF5 filter {number}, a library of its own")
    # HDF5 reads whole chunks, however little of one the dataset needs.
    chunk: int = math.prod(layout.get_chunk()) * size
    refuse_inflation(where, max(claimed, chunk), stored)
    return max(claimed, chunk)
