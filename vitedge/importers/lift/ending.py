"""What stands at a model's end, and where its logits are."""

from __future__ import annotations

from vitedge.errors import ModelError
from vitedge.importers.lift.graph import Graph, Kind
from vitedge.network.tasks import Task

_NO_CLASSES = {
    **dict.fromkeys(("Sigmoid", "HardSigmoid"), "a probability for each label by itself"),
    **dict.fromkeys(
        ("Tanh", "Relu", "Relu6", "Softplus", "Elu", "LeakyRelu", "Exp"), "numbers, not classes"
    ),
}
"""What the last operator says of the outputs."""


def softmax_at_end(graph: Graph, task: Task | None = None) -> str | None:
    """The tensor that a final softmax reads, or None when the model gives logits.

    An artefact gives logits; whoever shows them takes the softmax, and taking it twice would make
    every answer look unsure.

    Args:
        graph: The model.
        task: What the user says that the outputs mean; of classes, a sigmoid is passed by, too.

    Raises:
        ModelError: The model ends in what says that its outputs are no classes.
    """
    tensor = graph.output
    while tensor != graph.image:
        node = graph.producer(tensor)
        live = graph.live_inputs(node)
        if node.op == "Softmax":
            return live[0]
        if node.op in _NO_CLASSES and len(live) == 1:
            if task is Task.CLASSES:
                return live[0]
            raise outputs_are_no_classes(
                "the model", f"ends in {node.op} ('{node.name}')", _NO_CLASSES[node.op]
            )
        if node.kind is not Kind.MOVE or len(live) != 1:
            return None
        tensor = live[0]
    return None


def outputs_are_no_classes(what: str, why: str, meaning: str) -> ModelError:
    """The error for a model whose outputs a softmax would make nonsense of.

    Args:
        what: The model.
        why: What it says of its outputs.
        meaning: What they are then.
    """
    return ModelError(
        f"{what} {why}: its outputs are {meaning}, which vitedge does not support yet; if exactly "
        "one of several classes is right for each image, give --task classes"
    )


def refuse_single_output(what: str, classes: int) -> None:
    """Refuses a model of one output, of which a softmax is always 100 %.

    Raises:
        ModelError: It is one.
    """
    if classes == 1:
        raise ModelError(
            f"{what} gives one number for each image (a binary score, or a measured value), and no "
            "classes, which vitedge does not support yet; a model of two classes has two outputs"
        )
