"""All non-linear pieces of a model, each with as much of its surroundings as belongs to it."""

from __future__ import annotations

from collections.abc import Iterator

from vitedge.errors import NotAViTError
from vitedge.importers.lift.nature import KnownPiece, recognize
from vitedge.importers.lift.pieces import Piece, curved, find_pieces, variants
from vitedge.importers.lift.probe import Experiments

_OF_BATCHES = ("SquaredDifference", "FusedBatchNorm")
"""TensorFlow's operators for the variance within a batch. Those within a LayerNorm are recognised
with it, and a fused batch norm that knows its variance is affine."""


def recognize_all(experiments: Experiments) -> list[KnownPiece]:
    """All non-linear pieces, in topological order.

    Raises:
        NotAViTError: One of them computes nothing that a vision transformer has.
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
                f"node {graph.describe(piece.sink)} computes nothing that a vision transformer has"
                f"{_of_training(graph.producer(piece.sink).op)}"
            )
    return sorted(known.values(), key=lambda piece: graph.position[piece.piece.sink])


def _of_training(op: str) -> str:
    """The likely origin of a node that is not recognised, as the end of a message."""
    if not op.startswith(_OF_BATCHES):
        return ""
    return "; if it is a batch norm in training, export the model with training=False"


def recognize_within(experiments: Experiments) -> list[KnownPiece]:
    """All pieces that are recognised, in topological order, inside of what is not, too.

    A gate or an excitation is a region around other pieces: its last node is left to be read by
    itself, and what lies inside is looked at again.
    """
    graph = experiments.graph
    order = {tensor: place for place, tensor in enumerate(curved(graph))}
    opened: set[str] = set()
    tried: dict[Piece, KnownPiece | None] = {}
    while True:
        pieces = find_pieces(graph, opened)
        options = {
            piece: list(variants(graph, piece, pieces)) for piece in pieces if piece not in tried
        }
        _measure(experiments, [each for several in options.values() for each in several])
        known: list[KnownPiece] = []
        unknown: list[Piece] = []
        for piece in pieces:
            if piece not in tried:
                found = (recognize(experiments, option) for option in options[piece])
                tried[piece] = next((each for each in found if each is not None), None)
            result = tried[piece]
            if result is not None:
                known.append(result)
            elif not any(piece.sink in other.piece.interior for other in known):
                unknown.append(piece)
        inside = [[each for each in order if each in piece.interior] for piece in unknown]
        last = {each[-1] for each in inside if each and each[-1] not in opened}
        if not last - opened:
            return [*known, *_read_from_outside(experiments, known)]
        opened |= last


def _read_from_outside(experiments: Experiments, known: list[KnownPiece]) -> Iterator[KnownPiece]:
    """Parts of pieces that nodes outside of the piece read, too, where a part is recognised alone.

    So a unit vector is weighted by a softmax over one place, and added as it is behind that.
    """
    graph = experiments.graph
    for each in known:
        piece = each.piece
        for tensor in piece.interior - {piece.sink}:
            readers = {name for node in graph.consumers(tensor) for name in node.outputs}
            if readers <= piece.interior or tensor == graph.output:
                continue
            part = Piece(piece.source, tensor, graph.between(piece.source, tensor))
            _measure(experiments, [part])
            found = recognize(experiments, part)
            if found is not None:
                yield found


def _measure(experiments: Experiments, options: list[Piece]) -> None:
    """Learns all shapes at once: one run of the model for each would take most of the time."""
    graph = experiments.graph
    bilinear = [node for node in graph.live_nodes if graph.is_bilinear(node)]
    anchors = [name for node in bilinear for name in (*node.inputs, *node.outputs)]
    anchors += [name for option in options for name in (option.source, option.sink)]
    experiments.measure([*anchors, graph.output])
