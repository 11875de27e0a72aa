"""The engine that reading a model node by node needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from vitedge.importers.lift.draft import Draft, Fixed, Tensor
from vitedge.importers.lift.graph import Node


class Rules(Protocol):
    """The operators of an engine; one implementation per engine."""

    def constants(self, tensors: Sequence[str]) -> list[Fixed]:
        """Tensors that do not depend on the pixels, for one image, in their own types."""
        ...

    def translate(self, draft: Draft, node: Node, known: Mapping[str, Tensor]) -> list[Tensor]:
        """The outputs of a node, one tensor for each.

        Raises:
            NotAViTError: Nobody has its operator.
            ValueError: The node uses the operator in a way that has no rule.
        """
        ...
