"""Lifting: any model that is made of our operators becomes a ``Network``, whoever wrote it.

The model is traced to a graph. Its non-linear pieces (norms, activations, softmaxes and the
products around them) are found by structure and recognised by behaviour; the affine pieces between
them are read off by feeding basis vectors. However reshapes, einsums, splits and transposes were
written, the answers are the same.

A plain vision transformer is put together from these pieces. What has another structure is read
node by node between its norms, activations and softmaxes: rotary positions, gates, position biases,
windows, attention pooling, convolutional stages.

::

    probe           an engine evaluates any tensors given any others (tensorflow_probe, onnx_probe)
    graph, pieces   what is affine, and which regions are not
    nature, recognition    norm, activation or softmax? found out by feeding it
    attention       the products around each softmax
    structure       which piece belongs to which block
    linear, embedding, heads, head    the affine pieces, probed
    assembly        the plain ViT
    rules           what each operator of an engine computes (onnx_rules, tensorflow_rules)
    views, draft    tensors of the source as values that lie otherwise; moves only where needed
    arithmetic, contraction, moving, images_read    sums, einsums, moves and convolutions of views
    network_form    the network, node by node
    tidying, naming packed layers apart, constants inside of layers, names as in reports
    transformer     whether the network mixes places as a vision transformer does
    ending          what the outputs mean; spelled_ending finds the sigmoid or softmax at the end
    proof           its outputs against the source's
    proof_in_parts  part by part, where the source multiplies its rounding
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from vitedge.elements.plain_vit import PlainViT
from vitedge.elements.vision_transformer import network_of
from vitedge.errors import ModelError, NotAViTError
from vitedge.images.preprocess import ImageLike
from vitedge.importers.lift.assembly import Assembler
from vitedge.importers.lift.attention import find_attentions
from vitedge.importers.lift.embedding import channels_first
from vitedge.importers.lift.ending import Ending, read_ending
from vitedge.importers.lift.input_range import InputRange, input_range
from vitedge.importers.lift.joined_outputs import joined_parts
from vitedge.importers.lift.naming import named
from vitedge.importers.lift.nature import KnownPiece, SoftmaxPiece
from vitedge.importers.lift.network_form import read_network
from vitedge.importers.lift.probe import Experiments, Probe
from vitedge.importers.lift.proof import Proof, believed, compare_logits, prove
from vitedge.importers.lift.proof_in_parts import (
    compare_parts,
    multiplies_rounding,
    sums_of,
    without_parts,
)
from vitedge.importers.lift.recognition import recognize_all, recognize_within
from vitedge.importers.lift.structure import Parser
from vitedge.importers.lift.tidying import tidied
from vitedge.importers.lift.transformer import refuse_without_attention
from vitedge.network.network import Network, Value, needed, with_task
from vitedge.network.operators import Transpose
from vitedge.network.structure import attentions
from vitedge.network.tasks import Task

__all__ = ["Lifted", "lift", "Probe"]


@dataclass(frozen=True)
class Lifted:
    """A model that was lifted.

    Attributes:
        network: Its canonical form.
        vit: The plain vision transformer that it is, or None.
        proof: The distance of its logits from the source's, in words.
        taken: The input that the source takes.
        softmax_removed: The source ended in a softmax; the network gives the logits before it.
        ending: The operators that were found or removed at the source's end, in words.
    """

    network: Network
    vit: PlainViT | None
    proof: Proof
    taken: InputRange
    softmax_removed: bool
    ending: str = ""

    @property
    def task(self) -> Task:
        """The meaning of the outputs."""
        return self.network.task

    def __str__(self) -> str:
        blocks = len(attentions(self.network)) if self.vit is None else self.vit.config.depth
        words = [
            f"lifted: {blocks} {'blocks' if self.vit else 'attentions'}",
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
    beside: Sequence[str] = (),
) -> Lifted:
    """Lifts a model.

    Args:
        probe: Access to the traced model.
        mean: The value that is subtracted from pixels scaled to 0..1 before the model; None: see
            ``input_range``.
        std: The value that pixels are divided by after that.
        images: Images to compare the logits on, besides made-up ones.
        task: The meaning of the outputs, if the user says so.
        beside: Names of further outputs, which the probe's graph joins with the main one.

    Raises:
        ModelError: The model does not say what its outputs mean, or contradicts the user.
        NotAViTError: The model has an operator that nobody has; the message has its node's name.
    """
    with np.errstate(all="ignore"):  # damaged weights overflow; the proof rejects them
        try:
            source = _Source(probe, mean, std, images, task)
            if beside:
                return source.as_network(beside)
            return source.as_plain_vit() or source.as_network()
        except np.linalg.LinAlgError as error:
            raise NotAViTError(
                f"its numbers cannot be solved for, as those of damaged weights ({error})"
            ) from error


class _Source:
    """A model that is lifted one way or the other."""

    def __init__(
        self,
        probe: Probe,
        mean: tuple[float, ...] | None,
        std: tuple[float, ...] | None,
        images: Sequence[ImageLike],
        task: Task | None,
    ) -> None:
        self._probe, self._images, self._task = probe, images, task
        self._given = mean, std

    def as_plain_vit(self) -> Lifted | None:
        """Lifts the model as a plain vision transformer; None if it has another structure.

        Raises:
            ModelError: The model does not say what its outputs mean, or contradicts the user.
        """
        experiments = Experiments(self._probe)
        ending = self._ending(experiments)
        if sum(size > 1 for size in experiments.shape(experiments.graph.output).per_image) > 1:
            return None  # tokens or a map, no vector
        try:
            return self._assembled(experiments, recognize_all(experiments), ending)
        except NotAViTError:
            return None

    def as_network(self, beside: Sequence[str] = ()) -> Lifted:
        """Lifts the model as a network, node by node.

        Args:
            beside: Names of further outputs.

        Raises:
            ModelError: The conditions of ``as_plain_vit`` apply.
            NotAViTError: Nobody has one of its operators, or it has no attention.
        """
        batch = self._probe.batch
        if batch is not None and batch > 1:
            raise NotAViTError(
                f"it takes {batch} images at once, and no single one: export it for one image"
            )
        # Where there are several outputs, the main one ends a graph of its own.
        experiments = main = Experiments(self._probe, single=True)
        others: tuple[str, ...] = ()
        if beside:
            first, *rest = joined_parts(experiments.graph, beside)
            main, others = Experiments(self._probe, single=True), tuple(rest)
            main.end_at(first)
        ending = self._ending(main)
        known = recognize_within(experiments)
        taken = input_range(experiments, *self._given)
        if ending.task.output in beside:
            raise ModelError(f"the main output is called '{ending.task.output}': see --logits")
        outputs = {ending.task.output: main.graph.output, **dict(zip(beside, others, strict=True))}
        network, proof = self._proven(experiments, known, taken, outputs)
        if channels_first(self._probe.image_shape):
            maps = [
                name
                for name, tensor in outputs.items()
                if len(experiments.shape(tensor).per_image) == 4
                and (name in beside or ending.task is Task.MAP)
            ]
            network = _with_channels_last(network, maps)
        network = with_task(network, ending.task)
        return Lifted(network, None, proof, taken, "softmax" in ending.words, ending.words)

    def _proven(
        self,
        experiments: Experiments,
        known: Sequence[KnownPiece],
        taken: InputRange,
        outputs: Mapping[str, str],
    ) -> tuple[Network, Proof]:
        """The network with these outputs, and why it is believed.

        Raises:
            NotAViTError: The network is not believed, or the conditions of ``as_network`` apply.
        """

        def read(tensors: Mapping[str, str]) -> Network:
            rules = self._probe.rules()
            return named(tidied(read_network(experiments, rules, known, taken, tensors)))

        network = read(outputs)
        refuse_without_attention(network)
        proof = compare_logits(experiments, network, taken, self._images, outputs)
        parts = {} if proof.holds else sums_of(experiments.graph, known)
        if not parts or not multiplies_rounding(experiments, network, taken, outputs):
            return network, believed(proof)
        all_outputs = {**outputs, **parts}
        marked = read(all_outputs)
        proof = compare_parts(proof, experiments, marked, taken, self._images, all_outputs)
        return without_parts(marked, parts), believed(proof)

    def _ending(self, experiments: Experiments) -> Ending:
        ending = read_ending(experiments, self._task)
        if ending.before is not None:
            experiments.end_at(ending.before)
        return ending

    def _assembled(
        self, experiments: Experiments, known: list[KnownPiece], ending: Ending
    ) -> Lifted:
        graph = experiments.graph
        bilinear = {node.outputs[0] for node in graph.live_nodes if graph.is_bilinear(node)}
        stops = frozenset(bilinear | {piece.piece.sink for piece in known})
        softmaxes = [piece for piece in known if isinstance(piece, SoftmaxPiece)]
        others = [piece for piece in known if not isinstance(piece, SoftmaxPiece)]
        found = find_attentions(experiments, softmaxes, stops)
        structure = Parser(graph, others, found, stops).parse()
        taken = input_range(experiments, *self._given)
        vit = Assembler(experiments, structure, stops, taken).assemble()
        network = network_of(vit)
        proof = prove(experiments, network, taken, self._images)
        network = with_task(network, ending.task)
        return Lifted(network, vit, proof, taken, "softmax" in ending.words, ending.words)


def _with_channels_last(network: Network, names: Sequence[str]) -> Network:
    """The network whose outputs of these names, images with channels first, have them last."""
    outputs = dict(network.outputs)
    for name in names:
        made = outputs[name]
        if len(made.shape) != 3:
            continue
        match made.operator:
            case Transpose(axes=(2, 0, 1)):
                outputs[name] = made.inputs[0]
            case _:
                turned = Transpose((1, 2, 0))
                outputs[name] = Value(f"{made.name}/channels_last", turned, (made,))
    order = dict.fromkeys((*network.values, *outputs.values()))
    return replace(network, values=needed(order, outputs.values()), outputs=outputs)
