"""Bounds on what a model claims: the weights of its layers, and the tensors that it computes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vitedge.errors import SizeError
from vitedge.files.limits import refuse_inflation

_BYTES = 4  # of a float32


@contextmanager
def bounded_weights(layer: Any, source: Path) -> Iterator[None]:
    """Bounds what the layers of a Keras config may allocate before their weights are read.

    A config of a hundred bytes may ask for a layer of terabytes. Keras allocates a layer's weights
    in ``add_weight``, so they are counted there, as long as the context is open.

    Args:
        layer: Keras's ``Layer`` class.
        source: The file or folder; its weights may take as much memory as it is long in any case.

    Raises:
        SizeError: The layers claim more than the bound on sources.
    """
    original = layer.add_weight
    held = _length(source)
    claimed, refusal = 0, None

    def add_weight(self: Any, *args: Any, **options: Any) -> Any:
        nonlocal claimed, refusal
        claimed += _BYTES * math.prod(_shape(args, options))
        try:
            refuse_inflation(f"'{source}', built up to its layer '{self.name}',", claimed, held)
        except SizeError as error:
            refusal = error
            raise
        return original(self, *args, **options)

    layer.add_weight = add_weight
    try:
        yield
    except Exception:
        if refusal is not None:  # Keras raises an error of its own for any that a layer raises
            raise refusal from None
        raise
    finally:
        layer.add_weight = original


def _length(source: Path) -> int:
    files = source.rglob("*") if source.is_dir() else [source]
    return sum(file.stat().st_size for file in files if file.is_file())


def _shape(args: Sequence[Any], options: dict[str, Any]) -> tuple[int, ...]:
    """The shape that ``add_weight`` is asked for; Keras 2 has the name before it."""
    given = options.get("shape")
    if given is None:
        given = next((each for each in args if not isinstance(each, str)), ())
    sizes = [given] if isinstance(given, int) else list(given or ())
    return tuple(size for size in sizes if isinstance(size, int))


def refuse_large_tensors(tensors: Iterable[tuple[str, Sequence[int | None]]]) -> None:
    """Refuses a graph that computes a tensor which would not fit into memory.

    Args:
        tensors: Names and shapes; a size that is not known counts as 1.

    Raises:
        SizeError: One of them is too large.
    """
    for name, shape in tensors:
        claimed = _BYTES * math.prod(max(size or 1, 1) for size in shape)
        refuse_inflation(f"the tensor '{name}'", claimed)
