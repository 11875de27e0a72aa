"""Reading TensorFlow graphs node by node; see ``rules``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from vitedge.importers.lift.draft import Draft, Fixed, Tensor
from vitedge.importers.lift.graph import Node
from vitedge.importers.lift.tensorflow_nodes import translated


class TensorFlowRules:
    """The operators of TensorFlow.

    Args:
        operations: The ``tf.Graph``.
        constants: See ``Rules``.
    """

    def __init__(self, operations: Any, constants: Callable[[Sequence[str]], list[Fixed]]) -> None:
        self._operations, self._constants = operations, constants

    def constants(self, tensors: Sequence[str]) -> list[Fixed]:
        """See ``Rules``."""
        return self._constants(tensors)

    def translate(self, draft: Draft, node: Node, known: Mapping[str, Tensor]) -> list[Tensor]:
        """See ``Rules``."""
        operation = self._operations.get_tensor_by_name(node.outputs[0]).op
        if operation.type == "IdentityN":  # a node for each of its tensors
            return [known[node.inputs[0]]]
        return translated(draft, operation, [known[name] for name in node.inputs])
