"""Rules for each TensorFlow operator on tensors whose values lie anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vitedge.errors import NotAViTError
from vitedge.importers.lift.draft import Draft, Tensor
from vitedge.importers.lift.tensorflow_arithmetic import ARITHMETIC
from vitedge.importers.lift.tensorflow_call import Call
from vitedge.importers.lift.tensorflow_images import IMAGES
from vitedge.importers.lift.tensorflow_moves import MOVES

_RULES = MOVES | ARITHMETIC | IMAGES


def translated(draft: Draft, operation: Any, inputs: Sequence[Tensor]) -> list[Tensor]:
    """The outputs of an operation.

    Raises:
        NotAViTError: Nobody knows the operator.
    """
    rule = _RULES.get(operation.type)
    if rule is None:
        raise NotAViTError("computes nothing that a vision transformer has")
    made = rule(Call(draft, operation, tuple(inputs)))
    return list(made) if isinstance(made, list | tuple) else [made]  # type: ignore[list-item]
