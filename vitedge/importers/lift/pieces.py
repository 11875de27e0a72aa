"""Finding the non-linear pieces of a graph: norms, activations and softmaxes, fused or in parts.

However an author spells LayerNorm or GELU, it is a region with one way in and one way out: the
paths from one tensor to where they meet again, with something non-linear on them. Regions are found
by dominators, not by pattern; what they compute is found out by ``nature``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from vitedge.importers.lift.graph import Graph, Kind

_MOST_NODES_OF_A_PREPARATION = 6
"""Centring or the subtraction of a maximum take fewer nodes; a residual branch takes more."""


@dataclass(frozen=True)
class Piece:
    """A non-linear region.

    Attributes:
        source: The tensor that goes in.
        sink: The tensor that comes out.
        interior: All tensors on the paths from source to sink, the sink included.
    """

    source: str
    sink: str
    interior: frozenset[str]


def find_pieces(graph: Graph, opened: Collection[str] = ()) -> list[Piece]:
    """All non-linear regions that lie in no other, in topological order of their sinks.

    Args:
        graph: The model.
        opened: Results of nodes that are not part of a region, such as the products of gates.
    """
    regions = [_region(graph, tensor) for tensor in curved(graph) if tensor not in opened]
    merged = _merge_overlapping(graph, regions)
    return sorted(merged, key=lambda piece: graph.position[piece.sink])


def curved(graph: Graph) -> list[str]:
    """The results of all nodes that make a region, in topological order."""
    return [
        tensor
        for node in graph.live_nodes
        if not graph.is_affine(node) and not graph.is_bilinear(node)
        for tensor in node.outputs
        if tensor in graph.position
    ]


def _region(graph: Graph, sink: str) -> Piece:
    source = graph.dominator(sink) or graph.image
    return Piece(source, sink, graph.between(source, sink))


def _merge_overlapping(graph: Graph, regions: list[Piece]) -> list[Piece]:
    """Drops regions inside others and joins those of one source that share nodes.

    Keras computes ``x * inverse + (beta - mean * inverse)``: two regions from ``x``, which meet
    only at the sum.
    """
    kept: list[Piece] = []
    for region in sorted(regions, key=lambda piece: -len(piece.interior)):
        if any(region.interior <= other.interior for other in kept):
            continue
        same = [
            other
            for other in kept
            if other.source == region.source and other.interior & region.interior
        ]
        for other in same:
            kept.remove(other)
        sink = graph.common_post_dominator({region.sink, *(other.sink for other in same)})
        kept.append(Piece(region.source, sink, graph.between(region.source, sink)))
    return [
        piece
        for piece in kept
        if not any(piece is not other and piece.interior < other.interior for other in kept)
    ]


def variants(graph: Graph, piece: Piece, pieces: list[Piece]) -> Iterator[Piece]:
    """The piece with more or less of its surroundings, the largest first.

    A norm's gamma and beta follow its non-linear part, as does GELU's factor one half; centring
    and a softmax's subtraction of the maximum precede it; an exponential belongs to the division
    that follows. Which of them belong to the piece is decided by what the whole computes.
    """
    joined = next((other for other in pieces if other.source == piece.sink), None)
    ends = [*_tail(graph, joined.sink)] if joined is not None else []
    for sink in [*ends, *_tail(graph, piece.sink)]:
        for source in _heads(graph, piece.source):
            yield Piece(source, sink, graph.between(source, sink))


def _tail(graph: Graph, sink: str) -> list[str]:
    """The sink and what follows it element by element, the farthest first."""
    found = [sink]
    while len(graph.consumers(found[-1])) == 1 and found[-1] != graph.output:
        node = graph.consumers(found[-1])[0]
        elementwise = node.kind in (Kind.MOVE, Kind.SUM, Kind.PRODUCT, Kind.QUOTIENT)
        alone = len(graph.live_inputs(node)) == 1 and len(node.outputs) == 1
        if not (elementwise and alone and graph.is_affine(node)):
            break
        found.append(node.outputs[0])
    return found[::-1]


def _heads(graph: Graph, source: str) -> list[str]:
    """The source and, where a few nodes prepare it from one tensor, that tensor first."""
    if source == graph.image or len(graph.live_inputs(graph.producer(source))) != 2:
        return [source]
    earlier = graph.dominator(source)
    if earlier is None or len(graph.between(earlier, source)) > _MOST_NODES_OF_A_PREPARATION:
        return [source]
    return [earlier, source]
