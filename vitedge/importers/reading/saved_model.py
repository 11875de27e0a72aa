"""Variables of a TensorFlow SavedModel, without loading its graph."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy.typing as npt

from vitedge.chatter import quiet
from vitedge.errors import ModelError, missing_package
from vitedge.importers.reading.tensors import Tensors

_GRAPH, _VARIABLES = "saved_model.pb", "variables/variables"


def saved_model_mentions(folder: Path, *names: str) -> bool:
    """Whether the graph's bytes contain every one of these names."""
    if not (folder / _GRAPH).is_file():
        return False
    graph = (folder / _GRAPH).read_bytes()
    return all(name.encode() in graph for name in names)


@contextmanager
def open_variables(folder: Path) -> Iterator[Tensors]:
    """Opens the variables by their place in the object graph: ``dense/kernel``.

    Bookkeeping and the optimizer's state are left out.

    Raises:
        ModelError: The variables are missing or truncated.
        UnavailableError: TensorFlow, which reads this format, is not installed.
    """
    try:
        with quiet():
            import tensorflow as tf
    except ImportError as error:
        raise missing_package("tensorflow", "convert") from error
    damage = (tf.errors.OpError, ValueError, RuntimeError, TypeError, IndexError)
    suffix = "/.ATTRIBUTES/VARIABLE_VALUE"

    def damaged(error: BaseException) -> ModelError:
        reason = " ".join(str(error).split())
        return ModelError(f"the variables of '{folder}' are missing or truncated ({reason})")

    try:
        reader = tf.train.load_checkpoint(str(folder / _VARIABLES))
        # TensorFlow writes it last, so a file that has lost its end lacks it.
        reader.get_tensor("_CHECKPOINTABLE_OBJECT_GRAPH")
        shapes = {
            name.removesuffix(suffix): tuple(shape)
            for name, shape in reader.get_variable_to_shape_map().items()
            if name.endswith(suffix) and ".OPTIMIZER_SLOT" not in name
        }
    except damage as error:
        raise damaged(error) from error

    def load(name: str) -> npt.NDArray[Any]:
        try:
            array: npt.NDArray[Any] = reader.get_tensor(name + suffix)
            return array
        except damage as error:
            raise damaged(error) from error

    yield Tensors(str(folder), shapes, load)
