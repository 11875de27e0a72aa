"""Lifting: any model that computes a Vision Transformer becomes a ``ViT``, whoever wrote it.

The model is traced to a graph. Its non-linear pieces (norms, activations, softmaxes and the
products around them) are found by structure and recognised by behaviour; the affine pieces between
them are read off by feeding basis vectors. However reshapes, einsums, splits and transposes were
written, the answers are the same.

::

    probe           an engine evaluates any tensors given any others (tensorflow_probe, onnx_probe)
    graph, pieces   what is affine, and which regions are not
    nature, recognition    norm, activation or softmax? found out by feeding it
    attention       the products around each softmax
    structure       which piece belongs to which block
    linear, embedding, heads, head    the affine pieces, probed
    assembly        the ViT
    proof           its logits against the source's
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vitedge.elements.plain_vit import PlainViT
from vitedge.elements.vision_transformer import network_of
from vitedge.errors import NotAViTError
from vitedge.images.preprocess import ImageLike
from vitedge.importers.lift.assembly import Assembler
from vitedge.importers.lift.attention import find_attentions
from vitedge.importers.lift.ending import read_ending
from vitedge.importers.lift.graph import Graph, Kind
from vitedge.importers.lift.input_range import InputRange, input_range
from vitedge.importers.lift.nature import SoftmaxPiece
from vitedge.importers.lift.probe import Experiments, Probe
from vitedge.importers.lift.proof import Proof, prove
from vitedge.importers.lift.recognition import recognize_all
from vitedge.importers.lift.structure import Parser
from vitedge.network.network import Network, with_task
from vitedge.network.tasks import Task

__all__ = ["Lifted", "lift", "Probe"]


@dataclass(frozen=True)
class Lifted:
    """A model that was lifted.

    Attributes:
        vit: Its canonical form.
        proof: How near its logits are to the source's.
        taken: What the source takes as input.
        softmax_removed: The source ended in a softmax; the ViT gives the logits before it.
        task: What the outputs mean.
        ending: What was found or removed at the source's end, in words.
    """

    vit: PlainViT
    proof: Proof
    taken: InputRange
    softmax_removed: bool
    task: Task = Task.CLASSES
    ending: str = ""

    @property
    def network(self) -> Network:
        """The network, which knows what its outputs mean."""
        return with_task(network_of(self.vit), self.task)

    def __str__(self) -> str:
        words = [
            f"lifted: {self.vit.config.depth} blocks",
            str(self.proof),
            f"input {self.taken.words}",
        ]
        if self.ending:
            words.append(self.ending)
        return ", ".join(words)


def lift(
    probe: Probe,
    *,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    images: Sequence[ImageLike] = (),
    task: Task | None = None,
) -> Lifted:
    """Lifts a model.

    Args:
        probe: Access to the traced model.
        mean: What is subtracted from pixels scaled to 0..1 before the model; None: see
            ``input_range``.
        std: What they are then divided by.
        images: Images to compare the logits on, besides made-up ones.
        task: What the outputs mean, where the user says so.

    Raises:
        ModelError: The model does not say what its outputs mean, or contradicts the user.
        NotAViTError: The model is no Vision Transformer; the message says which node is not.
    """
    with np.errstate(all="ignore"):  # damaged weights overflow; the proof rejects them
        try:
            return _lift(Experiments(probe), mean, std, images, task)
        except np.linalg.LinAlgError as error:
            raise NotAViTError(
                f"its numbers cannot be solved for, as those of damaged weights ({error})"
            ) from error


def _lift(
    experiments: Experiments,
    mean: tuple[float, ...] | None,
    std: tuple[float, ...] | None,
    images: Sequence[ImageLike],
    task: Task | None,
) -> Lifted:
    ending = read_ending(experiments, task)
    if ending.before is not None:
        experiments.end_at(ending.before)
    known = recognize_all(experiments)
    last, words = known[-1] if known else None, ending.words
    # A softmax may be spelled out in exponentials and sums.
    spelled = isinstance(last, SoftmaxPiece) and _ends(experiments.graph, last.piece.sink)
    if spelled and ending.task is Task.CLASSES:
        assert last is not None
        experiments.end_at(last.piece.source)
        known, words = known[:-1], "softmax at the end removed"
    graph = experiments.graph
    bilinear = {node.outputs[0] for node in graph.live_nodes if graph.is_bilinear(node)}
    stops = frozenset(bilinear | {piece.piece.sink for piece in known})
    softmaxes = [piece for piece in known if isinstance(piece, SoftmaxPiece)]
    others = [piece for piece in known if not isinstance(piece, SoftmaxPiece)]
    attentions = find_attentions(experiments, softmaxes, stops)
    structure = Parser(graph, others, attentions, stops).parse()
    taken = input_range(experiments, mean, std)
    vit = Assembler(experiments, structure, stops, taken).assemble()
    proof = prove(experiments, network_of(vit), taken, images)
    removed = "softmax" in words
    return Lifted(vit, proof, taken, removed, ending.task, words)


def _ends(graph: Graph, sink: str) -> bool:
    """Whether nothing but moves, sums and products with constants follow a tensor."""
    while sink != graph.output:
        nodes = graph.consumers(sink)
        if len(nodes) != 1 or len(graph.live_inputs(nodes[0])) != 1:
            return False
        if nodes[0].kind not in (Kind.MOVE, Kind.SUM, Kind.PRODUCT):
            return False
        sink = nodes[0].outputs[0]
    return True
