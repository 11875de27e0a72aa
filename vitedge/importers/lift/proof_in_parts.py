"""Believing a network part by part, where its source multiplies rounding.

Deep models with batch norms and few residual branches can multiply the rounding of their first
layers thousands of times: of some pictures, two engines' logits differ by per cents, as the
source's own do where its input is changed by one rounding. To compare logits then proves nothing.

Instead each part of the network, between two sums of the source, is given the source's own values,
and what it makes is compared with what the source made of them. So differences do not add up, and
a part that computes something else shows at once. If every part is the source's, the network is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from vitedge.images.preprocess import ImageLike
from vitedge.importers.lift.graph import Graph, Kind
from vitedge.importers.lift.input_range import InputRange
from vitedge.importers.lift.nature import KnownPiece
from vitedge.importers.lift.probe import Experiments
from vitedge.importers.lift.proof import TOLERANCE, Proof, pixels_compared, source_outputs
from vitedge.network.evaluate import computed
from vitedge.network.network import Network, Value, needed
from vitedge.network.operators import Array, Reshape, Transpose

_MARK = "part"


def multiplies_rounding(
    experiments: Experiments, network: Network, taken: InputRange, outputs: Mapping[str, str]
) -> bool:
    """Whether the source's own outputs change by more than ``TOLERANCE`` with a rounded input."""
    inputs = taken.apply(pixels_compared(network, ()))
    tensors = list(outputs.values())
    before = source_outputs(experiments, inputs, tensors)
    after = source_outputs(experiments, np.nextafter(inputs, np.float32(np.inf)), tensors)
    pairs = zip(before, after, strict=True)
    return any(bool(np.abs(a - b).max() > TOLERANCE * np.ptp(a)) for a, b in pairs)


def sums_of(graph: Graph, known: Sequence[KnownPiece]) -> dict[str, str]:
    """The sums of two live tensors that are not inside of a recognised piece, each with a name."""
    inside = {each for one in known for each in one.piece.interior - {one.piece.sink}}
    found = [
        node.outputs[0]
        for node in graph.live_nodes
        if node.kind is Kind.SUM and len(set(graph.live_inputs(node))) > 1
    ]
    kept = [each for each in found if each not in inside and each != graph.output]
    return {f"{_MARK}.{number}": tensor for number, tensor in enumerate(kept)}


def without_parts(network: Network, parts: Mapping[str, str]) -> Network:
    """The network whose outputs are not those of its parts."""
    outputs = {name: value for name, value in network.outputs.items() if name not in parts}
    return replace(network, values=needed(network.values, outputs.values()), outputs=outputs)


def compare_parts(
    proof: Proof,
    experiments: Experiments,
    network: Network,
    taken: InputRange,
    images: Sequence[ImageLike],
    outputs: Mapping[str, str],
) -> Proof:
    """Compares what each part makes of the source's own values.

    Args:
        proof: The comparison of the logits, which does not hold.
        experiments: Access to the source.
        network: The network, with the parts' results among its outputs.
        taken: The input that the source takes.
        images: The user's.
        outputs: The source's tensor of each of the network's outputs.
    """
    worst = 0.0
    for image in pixels_compared(network, images):
        wanted = source_outputs(experiments, taken.apply(image[None]), list(outputs.values()))
        given = dict(
            _behind_moves(network.outputs[name], each)
            for name, each in zip(outputs, wanted, strict=True)
        )
        worst = max(worst, _largest_difference(network, image[None], given))
    return replace(proof, parts=len(outputs), part_difference=worst)


def _behind_moves(value: Value, numbers: Array) -> tuple[Value, Array]:
    """The value that a result is moved from, which other values read, and its numbers."""
    numbers = numbers.reshape(1, *value.shape)
    while isinstance(value.operator, Reshape | Transpose):
        (before,) = value.inputs
        match value.operator:
            case Transpose(axes=axes):
                back = np.argsort(axes)
                numbers = numbers.transpose(0, *(int(axis) + 1 for axis in back))
            case _:
                numbers = numbers.reshape(1, *before.shape)
        value = before
    return value, numbers


def _largest_difference(network: Network, image: Array, given: Mapping[Value, Array]) -> float:
    """The largest difference of a part over the range of what the source made."""
    unread = Counter(each for value in network.values for each in value.inputs)
    held: dict[Value, Array] = {}
    worst = 0.0
    for value in network.values:
        made = computed(value, [held[each] for each in value.inputs], image)
        if value in given:
            source = given[value]
            difference = float(np.abs(made - source).max())
            span = max(float(np.ptp(source)), float(np.abs(source).max()) * 1e-3, 1e-30)
            worst = max(worst, difference / span) if np.isfinite(difference) else np.inf
            made = source
        held[value] = made
        for each in value.inputs:
            unread[each] -= 1
            if not unread[each]:
                held.pop(each, None)
    return worst
