"""Fits the pieces together: which norm belongs to which attention, block by block.

Each piece reads an affine function of the results of earlier pieces. In a pre-norm ViT the norms
read ever more of them, the residual stream; in a post-norm ViT each norm starts the stream anew. So
the sets of what is read say all that is needed, and no residual sum has to be found.
"""

from __future__ import annotations

from dataclasses import dataclass

from vitedge.elements.kinds import NormPosition
from vitedge.errors import NotAViTError
from vitedge.importers.lift.attention import Attention
from vitedge.importers.lift.graph import Graph
from vitedge.importers.lift.nature import ActivationPiece, NormPiece


@dataclass(frozen=True)
class BlockPieces:
    """The pieces of one block; the attention's inputs may have norms of their own."""

    norm1: NormPiece
    attention: Attention
    q_norm: NormPiece | None
    k_norm: NormPiece | None
    norm2: NormPiece
    activation: ActivationPiece


@dataclass(frozen=True)
class Structure:
    """A whole ViT in pieces.

    Attributes:
        norm_position: Pre- or post-norm.
        input_norm: The norm before the first block.
        blocks: The blocks.
        stream: The place that the tokens after the last block depend on.
        tail: The pieces after the last block, in order.
    """

    norm_position: NormPosition
    input_norm: NormPiece | None
    blocks: tuple[BlockPieces, ...]
    stream: frozenset[str]
    tail: tuple[NormPiece | ActivationPiece, ...]


class Parser:
    """Reads the structure off the pieces.

    Args:
        graph: The traced model.
        pieces: Norms and activations in topological order.
        attentions: Attentions in topological order.
        stops: The sinks of all pieces and the results of all bilinear nodes.
    """

    def __init__(
        self,
        graph: Graph,
        pieces: list[NormPiece | ActivationPiece],
        attentions: list[Attention],
        stops: frozenset[str],
    ) -> None:
        self._graph, self._stops = graph, stops
        self._attentions = attentions
        self._by_sink = {known.piece.sink: known for known in pieces}
        self._qk_norms = self._find_qk_norms()
        inner = {norm.piece.sink for norms in self._qk_norms for norm in norms if norm is not None}
        self._queue = [known for known in pieces if known.piece.sink not in inner]

    def parse(self) -> Structure:
        """Reads the structure.

        Raises:
            NotAViTError: The pieces do not follow each other as in a vision transformer.
        """
        if not self._attentions:
            raise NotAViTError("the model has no softmax attention")
        stream = frozenset({self._graph.image})
        position, input_norm = self._opening()
        if input_norm is not None:
            self._take_norm(stream)
            stream = frozenset({input_norm.piece.sink})
        blocks = []
        for attention, (q_norm, k_norm) in zip(self._attentions, self._qk_norms, strict=True):
            if position is NormPosition.PRE:
                norm1 = self._take_norm(stream)
                self._expect_input(attention, q_norm, k_norm, frozenset({norm1.piece.sink}))
                stream |= {attention.mixed.tensor}
                norm2 = self._take_norm(stream)
                activation = self._take_activation(norm2)
                stream |= {activation.piece.sink}
            else:
                self._expect_input(attention, q_norm, k_norm, stream)
                norm1 = self._take_norm(stream | {attention.mixed.tensor})
                activation = self._take_activation(norm1)
                norm2 = self._take_norm(frozenset({norm1.piece.sink, activation.piece.sink}))
                stream = frozenset({norm2.piece.sink})
            blocks.append(BlockPieces(norm1, attention, q_norm, k_norm, norm2, activation))
        return Structure(position, input_norm, tuple(blocks), stream, tuple(self._queue))

    def _opening(self) -> tuple[NormPosition, NormPiece | None]:
        """Whether norms come first, and the norm before the first block."""
        first = self._attentions[0]
        source = self._only_norm(first.v.tensor)
        if source is None:
            return NormPosition.POST, None
        before = self._only_norm(source.piece.source)
        if before is not None:
            return NormPosition.PRE, before
        # A norm on the image alone, then attention: pre-norm if the next norm reads past it.
        position = self._graph.position
        later = (
            known
            for known in self._queue
            if isinstance(known, NormPiece)
            and position[known.piece.sink] > position[first.mixed.tensor]
        )
        following = next(later, None)
        if following is not None and source.piece.sink in self._sources(following.piece.source):
            return NormPosition.POST, source
        return NormPosition.PRE, None

    def _only_norm(self, tensor: str) -> NormPiece | None:
        """The norm whose result alone a tensor is a function of."""
        sources = self._sources(tensor)
        known = self._by_sink.get(next(iter(sources))) if len(sources) == 1 else None
        return known if isinstance(known, NormPiece) else None

    def _find_qk_norms(self) -> list[tuple[NormPiece | None, NormPiece | None]]:
        """Norms of queries and keys: those between the projection and the product."""
        found = []
        for attention in self._attentions:
            shared = self._only_norm(attention.v.tensor)
            norms = [self._only_norm(operand.tensor) for operand in (attention.q, attention.k)]
            found.append(tuple(None if norm is shared else norm for norm in norms))
        return [(q, k) for q, k in found]

    def _sources(self, tensor: str) -> frozenset[str]:
        return self._graph.sources(tensor, self._stops)

    def _take_norm(self, expected: frozenset[str]) -> NormPiece:
        known = self._take("a norm")
        if not isinstance(known, NormPiece) or self._sources(known.piece.source) != expected:
            raise NotAViTError(
                f"node {self._graph.describe(known.piece.sink)} stands where a vision transformer "
                f"has the norm of its tokens{self._guess(known)}"
            )
        return known

    def _guess(self, known: NormPiece | ActivationPiece) -> str:
        position, first = self._graph.position, self._attentions[0].mixed.tensor
        early = position[known.piece.sink] < position[first]
        return ": a convolutional stage" if early and isinstance(known, ActivationPiece) else ""

    def _take_activation(self, norm: NormPiece) -> ActivationPiece:
        known = self._take("an activation")
        sources = self._sources(known.piece.source)
        if not isinstance(known, ActivationPiece) or sources != {norm.piece.sink}:
            raise NotAViTError(
                f"node {self._graph.describe(known.piece.sink)} stands where a vision transformer "
                "has the activation of its MLP"
            )
        following = self._queue[0] if self._queue else None
        if following is not None and self._sources(following.piece.source) == {known.piece.sink}:
            raise NotAViTError(
                f"node {self._graph.describe(following.piece.sink)} follows the second layer of an "
                "MLP, where a vision transformer has nothing"
            )
        return known

    def _take(self, what: str) -> NormPiece | ActivationPiece:
        if not self._queue:
            raise NotAViTError(f"a block lacks {what}")
        return self._queue.pop(0)

    def _expect_input(
        self,
        attention: Attention,
        q_norm: NormPiece | None,
        k_norm: NormPiece | None,
        expected: frozenset[str],
    ) -> None:
        for operand, norm in ((attention.q, q_norm), (attention.k, k_norm), (attention.v, None)):
            tensor = operand.tensor if norm is None else norm.piece.source
            if self._sources(tensor) != expected:
                raise NotAViTError(
                    f"the attention of node {attention.node} reads something else than the "
                    "tokens of its block"
                )
