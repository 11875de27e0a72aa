"""All non-linear pieces of a model, each with as much of its surroundings as belongs to it."""

from __future__ import annotations

from vitedge.errors import NotAViTError
from vitedge.importers.lift.nature import KnownPiece, recognize
from vitedge.importers.lift.pieces import Piece, find_pieces, variants
from vitedge.importers.lift.probe import Experiments


def recognize_all(experiments: Experiments) -> list[KnownPiece]:
    """All non-linear pieces, in topological order.

    Raises:
        NotAViTError: One of them computes nothing that a Vision Transformer has.
    """
    graph = experiments.graph
    pieces = find_pieces(graph)
    candidates = {piece: list(variants(graph, piece, pieces)) for piece in pieces}
    _measure(experiments, [option for options in candidates.values() for option in options])
    known: dict[str, KnownPiece] = {}
    unknown: list[Piece] = []
    for piece in pieces:
        if any(piece.sink in other.piece.interior for other in known.values()):
            continue
        tried = (recognize(experiments, option) for option in candidates[piece])
        found = next((candidate for candidate in tried if candidate is not None), None)
        if found is None:
            unknown.append(piece)
        else:
            known[found.piece.sink] = found
    for piece in unknown:
        if not any(piece.sink in other.piece.interior for other in known.values()):
            raise NotAViTError(
                f"node {graph.describe(piece.sink)} computes nothing that a Vision Transformer has"
            )
    return sorted(known.values(), key=lambda piece: graph.position[piece.piece.sink])


def _measure(experiments: Experiments, options: list[Piece]) -> None:
    """Learns all shapes at once: one run of the model for each would take most of the time."""
    graph = experiments.graph
    bilinear = [node for node in graph.live_nodes if graph.is_bilinear(node)]
    anchors = [name for node in bilinear for name in (*node.inputs, *node.outputs)]
    anchors += [name for option in options for name in (option.source, option.sink)]
    experiments.measure([*anchors, graph.output])
