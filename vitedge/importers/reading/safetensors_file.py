"""``.safetensors`` files, single or sharded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from vitedge.errors import ModelError, missing_package
from vitedge.files.json_values import mapping, parse_object
from vitedge.files.limits import refuse_long_text
from vitedge.importers.reading.json_file import read_json
from vitedge.importers.reading.narrow_floats import (
    bfloat16_widened,
    float8_e4m3_widened,
    float8_e5m2_widened,
)
from vitedge.importers.reading.tensors import Tensors

_Shapes: TypeAlias = Mapping[str, tuple[int, ...]]
_Load: TypeAlias = Callable[[str], npt.NDArray[Any]]

_LARGEST_HEADER = 100_000_000  # the limit of the format's own reader

# What the format's own reader has no NumPy type for: the type of the bits, and how they are read.
_WIDENED: Mapping[str, tuple[str, Callable[[npt.NDArray[Any]], npt.NDArray[np.float32]]]] = {
    "BF16": ("<u2", bfloat16_widened),
    "F8_E4M3": ("|u1", float8_e4m3_widened),
    "F8_E5M2": ("|u1", float8_e5m2_widened),
}


def safetensors_names(path: Path) -> frozenset[str]:
    """Names of the arrays from the header alone; empty when it is not such a file."""
    if path.suffix != ".safetensors" or not path.is_file():
        return frozenset()
    try:
        return frozenset(_header(path)[0]) - {"__metadata__"}
    except ValueError:
        return frozenset()


def _header(path: Path) -> tuple[Mapping[str, Any], int]:
    """The file's description of its arrays, and the start of the first of them.

    Raises:
        ValueError: The file is not in this format.
    """
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if not 0 < length <= min(_LARGEST_HEADER, path.stat().st_size):
            raise ValueError("no header")
        refuse_long_text(f"the header of '{path}'", length)
        return parse_object(stream.read(length)), 8 + length


@contextmanager
def open_safetensors(path: Path, chosen: Mapping[str, str] | None = None) -> Iterator[Tensors]:
    """Opens one file.

    Args:
        path: The file.
        chosen: The name of each array in the file, by the name it gets; None takes all as they are.

    Raises:
        ModelError: The file is truncated, or holds a type that is not a number of 8 to 64 bits.
    """
    with _opened(path) as (shapes, load):
        names = dict.fromkeys(shapes) if chosen is None else chosen
        places = {name: old or name for name, old in names.items()}
        if not shapes.keys() >= set(places.values()):
            raise ModelError(f"'{path}' changed while it was read")
        wanted = {name: shapes[old] for name, old in places.items()}
        yield Tensors(str(path), wanted, lambda name: load(places[name]), held=path.stat().st_size)


@contextmanager
def open_sharded(index: Path) -> Iterator[Tensors]:
    """Opens the shards that a ``model.safetensors.index.json`` names, all in its folder.

    Raises:
        ModelError: The index is garbled, a shard is missing or truncated, or one does not hold what
            the index says, as after a download that was interrupted.
    """
    places = _weight_map(index)
    with ExitStack() as stack:
        shards = {
            name: stack.enter_context(_opened(index.parent / name))
            for name in sorted(set(places.values()))
        }
        shapes = {name: shape for known, _ in shards.values() for name, shape in known.items()}

        def load(name: str) -> npt.NDArray[Any]:
            return shards[places[name]][1](name)

        held_where = {(name, shard) for shard, (known, _) in shards.items() for name in known}
        for name, shard in sorted(held_where ^ set(places.items())):
            holds = "holds" if (name, shard) in held_where else "does not hold"
            raise ModelError(
                f"'{index.parent / shard}' {holds} the weights '{name}', unlike its index: the "
                "files are not of one model; fetch all of them again"
            )
        held = sum((index.parent / name).stat().st_size for name in shards)
        placed = {name: shapes[name] for name in places}
        yield Tensors(str(index.parent), placed, load, held=held)


def _weight_map(index: Path) -> Mapping[str, str]:
    try:
        places = mapping(read_json(index), "weight_map")
        # A shard is a file beside the index; anything else would lead out of the folder.
        if any(Path(str(place)).name != place or place == ".." for place in places.values()):
            raise ValueError("a shard outside its folder")
    except ValueError as error:
        raise ModelError(f"'{index}' is not an index of shards ({error})") from error
    return {str(name): str(place) for name, place in places.items()}


@contextmanager
def _opened(path: Path) -> Iterator[tuple[_Shapes, _Load]]:
    try:
        import safetensors
    except ImportError as error:
        raise missing_package("safetensors", "convert") from error
    try:
        opened: Any = safetensors.safe_open(path, framework="numpy")
        slices = {name: opened.get_slice(name) for name in opened.keys()}  # noqa: SIM118
        shapes = {name: tuple(part.get_shape()) for name, part in slices.items()}
        kinds = {name: part.get_dtype() for name, part in slices.items()}
    except (safetensors.SafetensorError, OSError) as error:
        raise ModelError(f"'{path}' is truncated or not a safetensors file ({error})") from error

    def load(name: str) -> npt.NDArray[Any]:
        if kinds[name] in _WIDENED:
            return _widened(path, name, kinds[name], shapes[name])
        try:
            array: npt.NDArray[Any] = opened.get_tensor(name)
        except (safetensors.SafetensorError, OSError, TypeError, KeyError) as error:
            raise ModelError(
                f"'{name}' of '{path}' is {kinds[name]}, which cannot be read"
            ) from error
        return array

    with opened:
        yield shapes, load


def _widened(path: Path, name: str, kind: str, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """An array of a float type that NumPy lacks; the format's reader checked where it lies."""
    bits, widen = _WIDENED[kind]
    header, start = _header(path)
    with path.open("rb") as stream:
        stream.seek(start + header[name]["data_offsets"][0])
        array = np.fromfile(stream, bits, int(np.prod(shape, dtype=np.int64)))
    try:
        return widen(array.reshape(shape))
    except ValueError as error:
        raise ModelError(f"'{path}' is truncated at '{name}'") from error
