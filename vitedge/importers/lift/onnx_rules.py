"""Reading ONNX graphs node by node; see ``rules``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from vitedge.errors import NotAViTError
from vitedge.importers.lift.draft import Draft, Fixed, Tensor
from vitedge.importers.lift.graph import Node
from vitedge.importers.lift.onnx_nodes import translated
from vitedge.importers.lift.views import View

if TYPE_CHECKING:
    import onnx


class OnnxRules:
    """The operators of ONNX.

    Args:
        nodes: Each node by the tensors that it makes.
        opset: Version of the operators.
        constants: See ``Rules``.
    """

    def __init__(
        self,
        nodes: Mapping[str, onnx.NodeProto],
        opset: int,
        constants: Callable[[Sequence[str]], list[Fixed]],
    ) -> None:
        self._nodes, self._opset, self._constants = nodes, opset, constants

    def constants(self, tensors: Sequence[str]) -> list[Fixed]:
        """See ``Rules``."""
        return self._constants(tensors)

    def translate(self, draft: Draft, node: Node, known: Mapping[str, Tensor]) -> list[Tensor]:
        """See ``Rules``."""
        source = self._nodes[node.outputs[0]]
        inputs = [known.get(name) for name in source.input]
        try:
            return translated(draft, source, inputs, self._opset)
        except NotAViTError as error:
            live = [name for name in source.input if isinstance(known.get(name), View)]
            if not live:
                raise
            before = " and ".join(f"'{name}'" for name in live)
            raise NotAViTError(
                f"{error}; --logits and --beside take what stands before it ({before}), and "
                "convert --tail puts the rest behind that again"
            ) from error
