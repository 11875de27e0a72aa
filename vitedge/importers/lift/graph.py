"""A traced model as an engine-neutral graph: what is constant, what is affine, what is not.

Only values matter here: a tensor is *live* when it depends on the pixels of the image and the
logits depend on it. Tensors that merely depend on the image's shape count as constants.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

from vitedge.errors import NotAViTError
from vitedge.importers.lift.dominators import immediate_dominators

_DRAWS = ("Random", "Bernoulli", "Multinomial", "TruncatedNormal")
"""Parts of the names of operators that draw random numbers."""


class Kind(StrEnum):
    """The effect of a node on the values that flow through it."""

    SHAPE = "shape"
    """The output depends on the inputs' shapes only."""
    MOVE = "move"
    """The same values in the same order: identity, cast, reshape."""
    SUM = "sum"
    """Elementwise and affine in all inputs together."""
    PRODUCT = "product"
    """Elementwise and affine in each input."""
    QUOTIENT = "quotient"
    """Elementwise and affine in the first input."""
    CONTRACTION = "contraction"
    """Sums of products of two inputs; affine in each."""
    SELECTION = "selection"
    """Elementwise and affine in all inputs but the first, the condition."""
    AFFINE = "affine"
    """Any other affine map of the inputs: slices, means, convolutions by constants."""
    NONLINEAR = "nonlinear"
    """Everything else, known or unknown."""


@dataclass(frozen=True)
class Node:
    """One operation.

    Attributes:
        name: Its name in the source, for messages.
        op: The source's name of the operation, for messages.
        kind: The kind of operation.
        inputs: Names of the tensors it reads.
        outputs: Names of the tensors it makes.
        equation: The equation of a contraction in ``numpy.einsum``'s notation:
            ``...ij,...jk->...ik``; empty for other nodes.
    """

    name: str
    op: str
    kind: Kind
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    equation: str = ""

    def __str__(self) -> str:
        return f"'{self.name}' ({self.op})"


class Graph:
    """Nodes in topological order, from one image tensor to one tensor of logits."""

    def __init__(self, nodes: Iterable[Node], image: str, output: str) -> None:
        self._nodes = tuple(nodes)
        self.image, self.output = image, output
        self._settled: set[str] = set()  # tensors that no random number is part of
        self._producers = {tensor: node for node in self._nodes for tensor in node.outputs}
        if output not in self._live:
            raise NotAViTError(f"the output '{output}' does not depend on the image")

    def ending_at(self, output: str) -> Graph:
        """The graph with another tensor as its output."""
        return Graph(self._nodes, self.image, output)

    def producer(self, tensor: str) -> Node:
        """The node that makes a tensor; the image has none."""
        return self._producers[tensor]

    def describe(self, tensor: str) -> str:
        """The name of a tensor's node, for messages."""
        return "the image" if tensor == self.image else str(self.producer(tensor))

    def live_inputs(self, node: Node) -> tuple[str, ...]:
        """The inputs of a node that carry values of the image; one read twice is there twice."""
        return tuple(tensor for tensor in node.inputs if tensor in self._live)

    def drawn_from(self, tensor: str) -> Node | None:
        """A node that draws random numbers and that a tensor is made of, or None."""
        stack = [tensor]
        while stack:
            tensor = stack.pop()
            node = self._producers.get(tensor)
            if node is None or tensor in self._settled:
                continue
            self._settled.add(tensor)
            if any(word in node.op for word in _DRAWS):
                return node
            stack.extend(node.inputs)
        return None

    def consumers(self, tensor: str) -> tuple[Node, ...]:
        """The live nodes that read the values of a tensor."""
        return tuple(self._consumers[tensor])

    @cached_property
    def live_nodes(self) -> tuple[Node, ...]:
        """All nodes on a path from the image to the output, in topological order."""
        return tuple(
            node for node in self._nodes if any(tensor in self._live for tensor in node.outputs)
        )

    @cached_property
    def _live(self) -> set[str]:
        depends = {self.image}
        for node in self._nodes:
            if node.kind is not Kind.SHAPE and any(name in depends for name in node.inputs):
                depends.update(node.outputs)
        needed, stack = set(), [self.output]
        while stack:
            tensor = stack.pop()
            if tensor in needed or tensor not in depends:
                continue
            needed.add(tensor)
            if tensor != self.image:
                stack.extend(self._producers[tensor].inputs)
        return needed

    @cached_property
    def _consumers(self) -> dict[str, list[Node]]:
        consumers: dict[str, list[Node]] = defaultdict(list)
        for node in self.live_nodes:
            for tensor in dict.fromkeys(self.live_inputs(node)):
                consumers[tensor].append(node)
        return consumers

    @cached_property
    def position(self) -> dict[str, int]:
        """The place of each live tensor in topological order; the image is at 0."""
        order = [self.image]
        for node in self.live_nodes:
            order += [tensor for tensor in node.outputs if tensor in self._live]
        return {tensor: index for index, tensor in enumerate(order)}

    def is_affine(self, node: Node) -> bool:
        """Whether a live node is affine in all its live inputs together."""
        live = self.live_inputs(node)
        match node.kind:
            case Kind.NONLINEAR:
                return False
            case Kind.PRODUCT | Kind.CONTRACTION:
                return len(live) == 1
            case Kind.SELECTION:
                return node.inputs[0] not in live
            case Kind.QUOTIENT:
                return live == node.inputs[:1]
            case _:
                return True

    def is_bilinear(self, node: Node) -> bool:
        """Whether a live node contracts two live tensors."""
        return node.kind is Kind.CONTRACTION and len(self.live_inputs(node)) == 2

    # --- paths ----------------------------------------------------------------------------------

    @cached_property
    def _dominators(self) -> dict[str, str]:
        order = list(self.position)
        before = {
            tensor: self.live_inputs(self.producer(tensor))
            for tensor in order
            if tensor != self.image
        }
        return immediate_dominators(order, before)

    @cached_property
    def _post_dominators(self) -> dict[str, str]:
        order = list(reversed(self.position))
        after = {
            tensor: [
                output
                for node in self.consumers(tensor)
                for output in node.outputs
                if output in self._live
            ]
            for tensor in order
            if tensor != self.output
        }
        start = order.index(self.output)
        return immediate_dominators(order[start:], after)

    def dominator(self, tensor: str) -> str | None:
        """The nearest tensor that every path from the image to this one passes."""
        return self._dominators.get(tensor)

    def common_dominator(self, tensors: Collection[str]) -> str:
        """The nearest tensor that every path from the image to any of these passes."""
        return _meet(self._dominators, tensors, {t: -p for t, p in self.position.items()})

    def common_post_dominator(self, tensors: Collection[str]) -> str:
        """The nearest tensor that every path from any of these to the output passes."""
        return _meet(self._post_dominators, tensors, self.position)

    def between(self, source: str, sink: str) -> frozenset[str]:
        """The tensors on all paths from a dominator to a tensor, which is one of them."""
        found, stack = set(), [sink]
        while stack:
            tensor = stack.pop()
            if tensor == source or tensor in found:
                continue
            found.add(tensor)
            stack.extend(self.live_inputs(self.producer(tensor)))
        return frozenset(found)

    def sources(self, tensor: str, stops: Collection[str]) -> frozenset[str]:
        """The stops (or the image) that a tensor is an affine function of.

        Raises:
            NotAViTError: Between them lies a node that is not affine.
        """
        found, seen, stack = set(), set(), [tensor]
        while stack:
            current = stack.pop()
            if current in seen:
                continue
            seen.add(current)
            if current in stops or current == self.image:
                found.add(current)
                continue
            node = self.producer(current)
            if not self.is_affine(node):
                raise NotAViTError(f"node {node} is not part of a vision transformer")
            stack.extend(self.live_inputs(node))
        return frozenset(found)


def _meet(parents: dict[str, str], tensors: Collection[str], rank: dict[str, int]) -> str:
    """The nearest common ancestor, where ``rank`` grows towards the root."""
    current = set(tensors)
    while len(current) > 1:
        lowest = min(current, key=rank.__getitem__)
        current.remove(lowest)
        current.add(parents[lowest])
    return current.pop()
