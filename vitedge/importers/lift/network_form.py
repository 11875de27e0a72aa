"""Any model made of our operators as a network, node by node.

Norms, activations and softmaxes are recognised by what they compute, however many nodes spell them
(``recognition``); what lies between them is read node by node, each by a rule that is exact.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from vitedge.errors import NotAViTError
from vitedge.images.preprocess import Preprocessing
from vitedge.importers.lift.arithmetic import activated, along
from vitedge.importers.lift.draft import Draft, Tensor
from vitedge.importers.lift.embedding import channels_first
from vitedge.importers.lift.graph import Graph
from vitedge.importers.lift.input_range import InputRange
from vitedge.importers.lift.nature import ActivationPiece, KnownPiece, NormPiece
from vitedge.importers.lift.probe import Experiments
from vitedge.importers.lift.rules import Rules
from vitedge.importers.lift.views import View
from vitedge.network.network import Network
from vitedge.network.operators import Norm, Pixels, Softmax, Standardize


def read_network(
    experiments: Experiments,
    rules: Rules,
    pieces: Sequence[KnownPiece],
    taken: InputRange,
    outputs: Mapping[str, str],
) -> Network:
    """Reads the whole graph.

    Args:
        experiments: Access to the model, one image at a time.
        rules: The engine's operators.
        pieces: The pieces that were recognised.
        taken: The input that the model takes.
        outputs: The tensors that it gives, by name.

    Raises:
        NotAViTError: Nobody has one of its operators; the message has the node's name.
    """
    return _Reader(experiments, rules, pieces, taken).read(outputs)


class _Reader:
    def __init__(
        self,
        experiments: Experiments,
        rules: Rules,
        pieces: Sequence[KnownPiece],
        taken: InputRange,
    ) -> None:
        self._experiments, self._rules, self._taken = experiments, rules, taken
        self._graph: Graph = experiments.graph
        self._pieces = {piece.piece.sink: piece for piece in pieces}
        self._draft = Draft()
        self._known: dict[str, Tensor] = {}

    def read(self, outputs: Mapping[str, str]) -> Network:
        draft = self._draft
        start, preprocessing = self._image()
        wanted = self._wanted(outputs.values(), start)
        self._fetch_constants(wanted)
        for tensor in wanted:
            if tensor not in self._known:
                self._make(tensor)
        made = {}
        for name, tensor in outputs.items():
            found = self._known[tensor]
            assert isinstance(found, View)
            made[name] = draft.in_order(found).value
        return draft.net.network(made, preprocessing)

    def _image(self) -> tuple[str, Preprocessing]:
        """The tensor that standardized pixels replace."""
        shape = self._experiments.probe.image_shape
        first = channels_first(shape)
        channels, height, width = shape if first else (shape[2], shape[0], shape[1])
        draft, taken = self._draft, self._taken
        pixels = draft(Pixels(height, width, channels))
        start = self._taken.end
        mean, std = taken.whole
        is_raw = taken.raw and start == self._graph.image
        image = pixels if is_raw else draft(Standardize(tuple(mean), tuple(std)), pixels)
        made = self._experiments.shape(start).per_image
        seen = View.whole(image, (1, height, width, channels))
        if channels_first((made[-3], made[-2], made[-1])):
            seen = seen.transposed((0, 3, 1, 2))
        self._known[start] = seen
        return start, Preprocessing(
            size=(height, width), channels=channels, mean=tuple(mean), std=tuple(std)
        )

    def _before(self, tensor: str) -> Sequence[str]:
        """The live tensors that one is made of here."""
        if tensor in self._pieces:
            return [self._pieces[tensor].piece.source]
        return self._graph.live_inputs(self._graph.producer(tensor))

    def _wanted(self, outputs: Iterable[str], start: str) -> list[str]:
        """All tensors to be made, in order."""
        found, stack = set(), list(outputs)
        while stack:
            tensor = stack.pop()
            if tensor in found or tensor == start:
                continue
            found.add(tensor)
            stack.extend(self._before(tensor))
        return sorted(found, key=self._graph.position.__getitem__)

    def _fetch_constants(self, wanted: Sequence[str]) -> None:
        names: dict[str, None] = {}
        for tensor in wanted:
            if tensor not in self._pieces:
                node = self._graph.producer(tensor)
                live = set(self._graph.live_inputs(node))
                names.update(dict.fromkeys(each for each in node.inputs if each not in live))
        for name in names:
            drawn = self._graph.drawn_from(name)
            if drawn is not None:
                raise NotAViTError(f"node {drawn} draws random numbers")
        known = self._rules.constants(list(names))
        self._known |= dict(zip(names, known, strict=True))

    def _make(self, tensor: str) -> None:
        piece = self._pieces.get(tensor)
        node = self._graph.producer(tensor)
        try:
            if piece is not None:
                self._known[tensor] = self._of_piece(piece)
                return
            made = self._rules.translate(self._draft, node, self._known)
        except NotAViTError as error:
            raise NotAViTError(f"node {node} {error}") from error
        except (ValueError, AssertionError, IndexError, KeyError, TypeError) as error:
            raise NotAViTError(f"node {node} cannot be read: {error}") from error
        for name, each in zip(node.outputs, made, strict=False):
            self._known[name] = each

    def _of_piece(self, piece: KnownPiece) -> View:
        draft = self._draft
        x = self._known[piece.piece.source]
        if not isinstance(x, View):
            raise ValueError("it works on a constant")
        if isinstance(piece, ActivationPiece):
            return activated(draft, piece.activation, x)
        if not isinstance(piece, NormPiece):
            return along(draft, x, piece.axis, Softmax())
        axes = piece.source.groups[1]
        if len(axes) > 1:
            raise ValueError(
                "it norms over several axes; if it is a batch norm in training, export the model "
                "with training=False"
            )
        norm = Norm(piece.norm.gamma, piece.norm.beta, piece.norm.eps, piece.kind)
        made = along(draft, x, axes[0], norm)
        rows, columns = piece.source.groups[0], piece.source.groups[1]
        if piece.sink.shape.per_image == piece.source.shape.per_image:
            return made
        turned = made.transposed([*rows, *columns])
        out = piece.sink.groups
        sizes = [piece.sink.shape.per_image[axis] for group in out for axis in group]
        seen = draft.reshaped(turned, tuple(sizes))
        assert isinstance(seen, View)
        order = [axis for group in out for axis in group]
        return seen.transposed([order.index(axis) for axis in range(len(order))])
