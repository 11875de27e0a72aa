"""Makes a ViT of pieces: probes the linear layers of each block and puts everything together."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from vitedge.elements.kinds import NormPosition
from vitedge.elements.plain_vit import Block, PlainViT, ViTConfig
from vitedge.errors import NotAViTError
from vitedge.images.preprocess import Preprocessing
from vitedge.importers.lift.embedding import Embedding, embed
from vitedge.importers.lift.head import Head, read_head
from vitedge.importers.lift.heads import heads_last, project, widen
from vitedge.importers.lift.input_range import InputRange
from vitedge.importers.lift.layout import Layout
from vitedge.importers.lift.linear import Place, place_by_response, tokenwise
from vitedge.importers.lift.nature import NormPiece
from vitedge.importers.lift.probe import Experiments
from vitedge.importers.lift.structure import BlockPieces, Structure
from vitedge.network.kinds import NormKind
from vitedge.network.operators import Linear, Norm


class Assembler:
    """Makes the ViT of a structure.

    Args:
        experiments: Access to the model.
        structure: Its pieces.
        stops: The sinks of all pieces and the results of all bilinear nodes.
        taken: The input that the model takes.
    """

    def __init__(
        self,
        experiments: Experiments,
        structure: Structure,
        stops: frozenset[str],
        taken: InputRange,
    ) -> None:
        self._experiments, self._structure = experiments, structure
        self._graph, self._stops, self._taken = experiments.graph, stops, taken
        self._pre = structure.norm_position is NormPosition.PRE

    def assemble(self) -> PlainViT:
        """Probes all layers.

        Raises:
            NotAViTError: Something between the pieces is not a layer of a vision transformer.
        """
        structure = self._structure
        streams = self._streams()
        blocks = tuple(
            self._block(pieces, stream, following)
            for pieces, stream, following in zip(
                structure.blocks, streams, streams[1:], strict=False
            )
        )
        tail = list(structure.tail)
        norm, tokens = None, streams[-1]
        if self._is_final_norm():
            final = tail.pop(0)
            assert isinstance(final, NormPiece)
            norm, tokens = final.norm, Place(final.piece.sink, final.sink)
        start = streams[0]
        if structure.input_norm is not None:
            start = Place(structure.input_norm.piece.source, structure.input_norm.source)
        embedding = embed(self._experiments, start, self._taken.neutral)
        head = read_head(
            self._experiments, tokens, embedding.prefix_rows, embedding.patch_rows, tail
        )
        try:
            return self._vit(embedding, blocks, norm, head)
        except ValueError as error:  # blocks of different sizes
            raise NotAViTError(f"its parts do not make one vision transformer: {error}") from error

    def _norm_kind(self) -> NormKind:
        structure = self._structure
        norms = [norm for block in structure.blocks for norm in (block.norm1, block.norm2)]
        norms += [known for known in structure.tail if isinstance(known, NormPiece)]
        norms += [] if structure.input_norm is None else [structure.input_norm]
        kinds = {norm.kind for norm in norms}
        if len(kinds) > 1:
            raise NotAViTError("the model mixes LayerNorm and RMSNorm")
        return kinds.pop()

    # --- the residual stream --------------------------------------------------------------------

    def _is_final_norm(self) -> bool:
        tail, tokens = self._structure.tail, self._structure.blocks[0].attention.tokens
        if not tail or not isinstance(tail[0], NormPiece):
            return False
        read = self._graph.sources(tail[0].piece.source, self._stops)
        return tail[0].source.sizes[0] == tokens and read == self._structure.stream

    def _streams(self) -> list[Place]:
        """The tokens before each block, and after the last one."""
        structure = self._structure
        if not self._pre:
            after = [Place(block.norm2.piece.sink, block.norm2.sink) for block in structure.blocks]
            return [self._first_stream(), *after]
        before = [Place(block.norm1.piece.source, block.norm1.source) for block in structure.blocks]
        return [*before, self._last_stream()]

    def _first_stream(self) -> Place:
        """Before the first block of a post-norm model."""
        structure = self._structure
        if structure.input_norm is not None:
            return Place(structure.input_norm.piece.sink, structure.input_norm.sink)
        first = structure.blocks[0]
        operands = (first.attention.q, first.attention.k, first.attention.v)
        tensor = self._graph.common_dominator(
            [first.norm1.piece.source, *(operand.tensor for operand in operands)]
        )
        return self._like(tensor, first.norm1.source)

    def _last_stream(self) -> Place:
        """After the last block of a pre-norm model."""
        structure = self._structure
        if self._is_final_norm():
            final = structure.tail[0]
            assert isinstance(final, NormPiece)
            return Place(final.piece.source, final.source)
        tensor = structure.tail[0].piece.source if structure.tail else self._graph.output
        while True:
            earlier = self._graph.dominator(tensor)
            if earlier is None or self._graph.sources(earlier, self._stops) != structure.stream:
                return self._like(tensor, structure.blocks[-1].norm1.source)
            tensor = earlier

    def _like(self, tensor: str, layout: Layout) -> Place:
        shape = self._experiments.shape(tensor)
        if shape == layout.shape:
            return Place(tensor, layout)
        # Reshaped for the norm, as Keras 2 does; the channels are the last axis of their length.
        for axis in reversed(range(len(shape.per_image))):
            guess = Layout.rows(shape, (axis,))
            if guess.sizes == layout.sizes:
                return Place(tensor, guess)
        raise NotAViTError(
            f"the tokens of node {self._graph.describe(tensor)} have shape "
            f"{shape.per_image}, those of the norms {layout.shape.per_image}"
        )

    def _residual(self, target: Place, branch: str, stream: Place) -> str:
        """The tensor that is added to a branch: the stream, or what it was reshaped from."""
        candidate = stream.tensor
        while True:
            stops = self._stops | {branch, candidate}
            if self._graph.sources(target.tensor, stops) == {branch, candidate}:
                return candidate
            same = candidate != self._graph.image and self._graph.dominator(candidate)
            if not same or candidate in self._stops:
                break
            if (
                self._experiments.shape(same).elements
                != self._experiments.shape(candidate).elements
            ):
                break
            candidate = same
        where = self._graph.describe(target.tensor)
        raise NotAViTError(f"node {where} has no residual connection to the tokens before it")

    # --- blocks ---------------------------------------------------------------------------------

    def _block(self, pieces: BlockPieces, stream: Place, following: Place) -> Block:
        experiments, attention = self._experiments, pieces.attention
        norm1, norm2 = pieces.norm1, pieces.norm2
        read = Place(norm1.piece.sink, norm1.sink) if self._pre else stream
        norms = (pieces.q_norm, pieces.k_norm)
        made = project(experiments, read, attention, norms, self._head_dim)

        middle = norm2 if self._pre else norm1
        target = Place(middle.piece.source, middle.source)
        out = self._branch(heads_last(attention.mixed), target, stream)
        columns = widen(out.weight.T, attention.heads, attention.heads, self._head_dim)
        out = Linear(np.ascontiguousarray(columns.T), out.bias)

        between = Place(middle.piece.sink, middle.sink)
        activation = pieces.activation.piece
        hidden = place_by_response(experiments, between, activation.source)
        fc1 = tokenwise(experiments, between, hidden)
        end = following if self._pre else Place(norm2.piece.source, norm2.source)
        fc2 = self._branch(
            Place(activation.sink, hidden.layout), end, target if self._pre else between
        )
        return Block(
            norm1=norm1.norm,
            q=made.q,
            k=made.k,
            v=made.v,
            out=out,
            norm2=norm2.norm,
            fc1=fc1,
            fc2=fc2,
            q_norm=made.q_norm,
            k_norm=made.k_norm,
        )

    def _branch(self, source: Place, target: Place, stream: Place) -> Linear:
        """The layer whose result is added to the stream."""
        residual = self._residual(target, source.tensor, stream)
        return tokenwise(self._experiments, source, target, residual=residual)

    @cached_property
    def _head_dim(self) -> int:
        """The widest head; narrower ones are padded with zeros."""
        attentions = [block.attention for block in self._structure.blocks]
        return max(
            operand.layout.sizes[2] for item in attentions for operand in (item.q, item.k, item.v)
        )

    # --- the whole ------------------------------------------------------------------------------

    def _vit(
        self, embedding: Embedding, blocks: tuple[Block, ...], norm: Norm | None, head: Head
    ) -> PlainViT:
        structure, taken = self._structure, self._taken
        first = structure.blocks[0].attention
        activations = {block.activation.activation for block in structure.blocks}
        prefix = len(embedding.prefix_rows)
        tokens = embedding.tokens[head.order]
        config = ViTConfig(
            image_size=embedding.image_size,
            patch_size=embedding.patch_size,
            channels=embedding.channels,
            dim=tokens.shape[1],
            depth=len(blocks),
            heads=first.heads,
            head_dim=self._head_dim,
            mlp_dim=blocks[0].fc1.weight.shape[1],
            classes=head.layers[-1].weight.shape[1],
            prefix_tokens=prefix,
            pooling=head.pooling,
            activation=activations.pop(),
            norm_position=structure.norm_position,
            norm_kind=self._norm_kind(),
            attention_scale=self._head_dim**-0.5,
            head_activation=head.activation,
            raw_pixels=taken.raw,
        )
        if activations:
            raise NotAViTError("the blocks have different activations")
        return PlainViT(
            config=config,
            patch=embedding.patch,
            prefix=tokens[:prefix],
            positions=tokens[prefix:],
            blocks=blocks,
            norm=norm,
            head=head.layers[-1],
            preprocessing=Preprocessing(
                size=embedding.image_size,
                channels=embedding.channels,
                mean=taken.mean,
                std=taken.std,
            ),
            input_norm=None if structure.input_norm is None else structure.input_norm.norm,
            pooled_norm=head.pooled_norm,
            head_hidden=head.layers[:-1],
        )
