"""The end of a model: the meaning of the outputs, and the place of the logits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from vitedge.errors import ModelError
from vitedge.importers.lift.graph import Graph, Kind, Node
from vitedge.importers.lift.probe import Experiments
from vitedge.importers.lift.spelled_ending import Squash, spelled_ending
from vitedge.network.tasks import Task

_SQUASHED = {Task.CLASSES: ("Softmax", "Sigmoid"), Task.BINARY: ("Sigmoid",)}
_SQUASHED[Task.LABELS] = _SQUASHED[Task.BINARY]
"""What is taken off the end of a model of each task; --task classes passes a sigmoid by, too."""

_ACTIVATIONS = frozenset(
    ("HardSigmoid", "Tanh", "Relu", "Relu6", "Softplus", "Elu", "LeakyRelu", "Selu", "HardSwish")
)
_EMBEDDINGS = frozenset(
    [
        *("embedding", "embeddings", "image_embedding", "image_embeddings", "image_embeds"),
        *("image_features", "pooler_output", "last_hidden_state", "features"),
    ]
)
"""Names that exporters give to outputs of models without a head."""


@dataclass(frozen=True)
class Ending:
    """The way in which a model ends.

    Attributes:
        task: The meaning of its outputs.
        before: The tensor that the last activation reads, if artefacts give the logits before it;
            None if the outputs stay as they are.
        words: The operators that were found or removed, for reports; empty for classes without a
            softmax.
    """

    task: Task
    before: str | None = None
    words: str = ""


def read_ending(experiments: Experiments, task: Task | None = None) -> Ending:
    """The meaning of a model's outputs, and the place of its logits.

    An artefact gives logits; whoever shows them takes the softmax or the sigmoid, and taking it
    twice would make every answer look unsure.

    Args:
        experiments: Access to the model.
        task: The meaning of the outputs by the user's word; None lets the model's end decide: a
            softmax, a sigmoid, a linear layer, or the name of the output.

    Raises:
        ModelError: The model does not say it, or contradicts the user.
    """
    graph = experiments.graph
    shape = experiments.shape(graph.output).per_image
    last = _last(graph)
    squash = _squash(experiments, last, shape)
    told = task or _told(graph, shape, last, squash)
    misfit = told.misfit(shape)
    if misfit:
        size = " x ".join(map(str, shape)) or "1"
        raise ModelError(f"the model gives {size} numbers for each image, but {misfit}")
    if squash is not None and "Softmax" in squash.op and told in (Task.BINARY, Task.LABELS):
        raise ModelError(
            f"the model ends in a softmax ('{squash.name}'), so one of several classes is right: "
            f"give --task classes, not {told}"
        )
    if squash is None or squash.op not in _SQUASHED.get(told, ()):
        return Ending(told, None, "" if told is Task.CLASSES else f"outputs are {told}")
    removed = f"{squash.op.lower()} at the end removed"
    words = removed if told is Task.CLASSES else f"outputs are {told}, {removed}"
    return Ending(told, squash.source, words)


def unknown_task(what: str, why: str, *tasks: Task) -> ModelError:
    """The error for a model that does not say what its outputs mean.

    Args:
        what: The model.
        why: The evidence that the model gives.
        tasks: The tasks that are possible.
    """
    choices = " or ".join(f"--task {each} ({each.words})" for each in tasks)
    return ModelError(f"{what} {why}: say what its outputs mean with {choices}")


def refuse_single_class(what: str, task: Task, size: int) -> None:
    """Refuses classes of one logit, whose softmax is always 100 %.

    Raises:
        ModelError: The model has a single class.
    """
    if task is Task.CLASSES and size == 1:
        raise unknown_task(what, "gives one number for each image", Task.BINARY, Task.NUMBERS)


def _last(graph: Graph) -> Node | None:
    """The last node that changes values, where it reads one tensor."""
    tensor = graph.output
    while tensor != graph.image:
        node = graph.producer(tensor)
        live = graph.live_inputs(node)
        if len(live) != 1:
            return None
        if node.kind is not Kind.MOVE:
            return node
        tensor = live[0]
    return None


def _squash(experiments: Experiments, last: Node | None, shape: Sequence[int]) -> Squash | None:
    """The sigmoid or softmax at the end, as one node or spelled out; of maps only as one node."""
    if last is not None and last.op in ("Sigmoid", "Softmax", "LogSoftmax"):
        return Squash(last.op, last.name, experiments.graph.live_inputs(last)[0])
    if sum(length > 1 for length in shape) > 1:
        return None
    return spelled_ending(experiments)


def _told(graph: Graph, shape: Sequence[int], last: Node | None, squash: Squash | None) -> Task:
    """The meaning of the outputs, as the model's end tells it."""
    axes, size = sum(length > 1 for length in shape), math.prod(shape)
    what = "the model"
    if axes > 1:
        numbers = " x ".join(map(str, shape))
        why = f"gives {numbers} numbers for each image"
        raise unknown_task(what, why, Task.EMBEDDING, Task.MAP)
    if squash is not None and squash.op == "Sigmoid":
        return Task.BINARY if size == 1 else Task.LABELS
    why = "" if last is None else f"ends in {last.op} ('{last.name}')"
    if last is not None and last.op == "HardSigmoid":
        raise unknown_task(what, why, Task.BINARY if size == 1 else Task.LABELS, Task.NUMBERS)
    if size == 1:
        raise unknown_task(what, "gives one number for each image", Task.BINARY, Task.NUMBERS)
    if graph.output in _EMBEDDINGS:
        return Task.EMBEDDING
    if squash is not None:
        return Task.CLASSES
    if last is not None and last.op in _ACTIVATIONS:
        raise unknown_task(what, why, Task.NUMBERS, Task.EMBEDDING)
    within = _squashed_within(graph)
    if within is not None:
        raise unknown_task(what, f"computes on after {within}", Task.NUMBERS, Task.EMBEDDING)
    if not _is_of_classes(graph, graph.output):
        raise unknown_task(
            what, "does not end in a classifier's linear layer", Task.EMBEDDING, Task.CLASSES
        )
    return Task.CLASSES


def _is_of_classes(graph: Graph, tensor: str) -> bool:
    """Whether a vector comes from a linear layer, as that of a classifier does."""
    while tensor != graph.image:
        node = graph.producer(tensor)
        live = graph.live_inputs(node)
        if len(live) == 1 and (node.kind is Kind.CONTRACTION or "Conv" in node.op):
            return True
        if node.kind is Kind.SUM and len(live) > 1:  # such as the mean of two heads
            return all(_is_of_classes(graph, each) for each in live)
        if not graph.is_affine(node) or len(live) != 1:
            return False
        tensor = live[0]
    return False


def _squashed_within(graph: Graph) -> Node | None:
    """A softmax or sigmoid that sums and products follow, such as a mean of two models' answers."""
    seen, stack = set(), [graph.output]
    while stack:
        tensor = stack.pop()
        if tensor in seen or tensor == graph.image:
            continue
        seen.add(tensor)
        node = graph.producer(tensor)
        if node.op in ("Softmax", "Sigmoid"):
            return node
        if graph.is_affine(node) and node.kind is not Kind.CONTRACTION and "Conv" not in node.op:
            stack.extend(graph.live_inputs(node))
    return None
