"""Where a model's logits are, when it ends in a softmax."""

from __future__ import annotations

from vitedge.lift.graph import Graph, Kind


def softmax_at_end(graph: Graph) -> str | None:
    """The tensor that a final softmax reads, or None when the model gives logits.

    An artefact gives logits; whoever shows them takes the softmax, and taking it twice would make
    every answer look unsure.
    """
    tensor = graph.output
    while tensor != graph.image:
        node = graph.producer(tensor)
        live = graph.live_inputs(node)
        if node.op == "Softmax":
            return live[0]
        if node.kind is not Kind.MOVE or len(live) != 1:
            return None
        tensor = live[0]
    return None
