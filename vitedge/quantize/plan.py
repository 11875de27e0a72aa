"""Chooses the layers that become integers, and the widths of their inputs."""

from __future__ import annotations

from dataclasses import dataclass

from vitedge.network.channels_first import images_of_convolutions
from vitedge.network.network import Network, Value
from vitedge.network.operators import Convolution
from vitedge.network.structure import (
    after_layers,
    before_products,
    is_inner,
    layers_on,
    readers,
    reads_image,
    reads_raw_pixels,
    weights,
)
from vitedge.quantize import Activations
from vitedge.quantize.break_even import INTEGERS_ALWAYS, BreakEven
from vitedge.quantize.input_statistics import Statistics
from vitedge.quantize.widths import FEW_TOKENS, is_always_narrow, is_narrow
from vitedge.quantize.worth import time_of
from vitedge.rewrite.learnt_grid import Groups
from vitedge.targets.precisions import Arithmetic, Precision

# The heads of some convolutional networks have half of all weights, which then take most of the
# file, and more time to read than all else. A million fit into a processor's cache.
_MOST_TIME_OF_FEW_TOKENS, _MOST_WEIGHTS_OF_FEW_TOKENS = 0.05, 1 << 20

CHOSEN = FLOATS, CONVOLUTIONS = "float layers", "convolutions in integers"
"""What the description calls layers without integers, and convolutions that have some."""


@dataclass(frozen=True)
class Plan:
    """The integers of each layer.

    Attributes:
        precision: The artefact's.
        activations: The runtime's treatment of inputs.
        floats: Layers without integers.
        wide: Layers whose input has 16 bits.
        costly_below_db: See ``quantize``.
        groups: The groups of 4-bit weights; None is 8 bits, and one scale for each output.
        learnt: Whether weights are integers already, which they keep.
        convolutions: Convolutions that are integer products of their windows.
        break_even: See ``Converter``.
        stage_convolutions: Convolutions before attention that would be faster so, in the order of
            computation; ``floats`` has them.
    """

    precision: Precision
    activations: Activations
    floats: frozenset[str] = frozenset()
    wide: frozenset[str] = frozenset()
    costly_below_db: float | None = None
    groups: Groups | None = None
    learnt: bool = False
    convolutions: frozenset[str] = frozenset()
    break_even: BreakEven = INTEGERS_ALWAYS
    stage_convolutions: tuple[str, ...] = ()


def plan_of(
    network: Network,
    precision: Precision,
    statistics: Statistics,
    activations: Activations,
    kept: frozenset[str],
    break_even: BreakEven = INTEGERS_ALWAYS,
) -> Plan:
    """The layers that stay float or have wide inputs.

    Args:
        network: The model, as it will be rounded.
        precision: A precision with integers.
        statistics: The statistics of that network.
        activations: The runtime's treatment of inputs.
        kept: Layers that somebody wants out of 8 bits; ``liftable`` ones.
        break_even: See ``Converter``.
    """
    layers = [value for value, _ in network.linears()]
    if precision.all_integer and not has_narrow_products(precision):
        return Plan(precision, activations, wide=frozenset(each.name for each in layers))
    if precision.all_integer:
        read = readers(network)
        wide = {each.name for each in layers if not is_narrow(each, read)}
        return Plan(precision, activations, wide=kept | wide)
    measured = after_layers(network)
    if precision.row.grouped:
        break_even = INTEGERS_ALWAYS
    # An error in a stem or between blocks passes through all blocks behind it; one in a decoder
    # does not, and its images are the largest.
    decoder = measured - before_products(network)
    faster = [
        each
        for each in network.values
        if isinstance(each.operator, Convolution)
        and break_even.takes_convolution(each.operator)
        and (break_even.convolves_pixels or not reads_image(each))
    ]
    convolutions = frozenset(each.name for each in faster if each in decoder)
    in_stages = tuple(each.name for each in faster if each not in decoder and break_even.in_stages)
    floats = {
        each.name
        for each in network.values
        if isinstance(each.operator, Convolution) and each.name not in convolutions
    }
    of_few_tokens = _of_few_tokens(network, statistics)
    for each in layers:
        is_end = not is_inner(each) if precision.row.grouped else each in of_few_tokens
        # Nobody knows what an error costs there: 8 bits of normalised pixels would cost 36 dB.
        is_unknown = each.inputs[0] not in measured and not reads_raw_pixels(each)
        if is_end or is_unknown:
            floats.add(each.name)
    faster_in_float = _faster_in_float(network, kept | floats, break_even)
    # A file without any integers would be a float file by another name.
    if not {*(each.name for each in layers), *convolutions} <= kept | floats | faster_in_float:
        floats |= faster_in_float
    return Plan(
        precision,
        activations,
        floats=kept | floats,
        convolutions=convolutions,
        break_even=break_even,
        stage_convolutions=in_stages,
    )


def _of_few_tokens(network: Network, statistics: Statistics) -> frozenset[Value]:
    """The layers of one or two tokens, unless reading their float weights takes too long."""
    found = [
        value
        for value, _ in network.linears()
        if statistics.inputs[value.name].tokens <= FEW_TOKENS
    ]
    most = _MOST_TIME_OF_FEW_TOKENS * sum(map(time_of, network.values))
    is_long = sum(map(time_of, found)) > most
    is_large = sum(map(weights, found)) > _MOST_WEIGHTS_OF_FEW_TOKENS
    return frozenset(() if is_long and is_large else found)


def _faster_in_float(
    network: Network, floats: frozenset[str] | set[str], break_even: BreakEven
) -> set[str]:
    """Linear layers that have too few channels to be faster in integers."""
    read = readers(network)

    def is_thin(layer: Value) -> bool:
        (x,) = layer.inputs
        outputs = sum(each.shape[-1] for each in layers_on(x, read))
        return break_even.keeps_layer(x.shape[-1], outputs)

    if break_even.asks_tokens:
        return {layer.name for layer, _ in network.linears() if is_thin(layer)}
    found = set()

    def is_convolved(layer: Value) -> bool:
        if isinstance(layer.operator, Convolution):
            return layer.name in floats
        if layer.name not in floats and not is_thin(layer):
            return False
        found.add(layer.name)
        return True

    images_of_convolutions(network, is_convolved)
    return found


def liftable(network: Network, precision: Precision) -> frozenset[str]:
    """The integer layers that ``keep_float`` can name.

    In an all-integer artefact nothing is float. There int8-static can widen what writes into the
    residual stream; queries, keys, values and what enters an activation stay narrow.
    """
    layers = [value for value, _ in network.linears()]
    if has_narrow_products(precision):
        read = readers(network)
        layers = [each for each in layers if is_inner(each) and not is_always_narrow(each, read)]
    elif precision.row.arithmetic is not Arithmetic.MIXED:
        layers = []
    return frozenset(each.name for each in layers)


def has_narrow_products(precision: Precision) -> bool:
    """Whether products read 8 bits in a graph that is all integers."""
    return precision.all_integer and precision.row.activation_bits == 8


def description_of(plan: Plan) -> dict[str, str]:
    """Describes the plan for people, in words per kind of layer."""
    integers = f"int{plan.precision.row.weight_bits}"
    words = {
        "weights": f"{integers} per output channel, scale by squared error, rounded with error "
        "feedback",
        "biases": "corrected for the mean error of the weights",
        "activations": {
            Activations.PER_TOKEN: "int8 per token, when it runs",
            Activations.PER_TENSOR: "uint8 per tensor, when it runs",
            Activations.STATIC: "uint8, range searched by the predicted error of the logits",
            Activations.STATIC_OR_TOKEN_SCALED: "uint8, range searched by the predicted error of "
            "the logits; where that is large, each token over its largest number, or int8 per "
            "token, when it runs",
        }[plan.activations],
    }
    if plan.groups is not None:
        numbers = "scale and zero point" if plan.groups.zero_points else "scale"
        words["weights"] = (
            f"{integers} in groups of {plan.groups.size} inputs, {numbers} by squared error, "
            "rounded with error feedback, scales fitted once more to the integers"
        )
        words["activations"] = "as the runtime takes them: int8 in blocks, or float"
    if plan.learnt:
        words["weights"] += "; in the blocks, as they learnt"
    if has_narrow_products(plan.precision):
        words["activations"] = (
            "8 bits where there are products, range searched by the error of the logits or of "
            "what reads them; 16 bits in the residual stream, norms, shares and logits"
        )
    elif plan.precision.all_integer:
        words["activations"] = (
            "16 bits, symmetric, twice the range that was seen; of keys and values, that range"
        )
    if plan.floats:
        words[FLOATS] = ", ".join(sorted(plan.floats))
    if plan.convolutions:
        words[CONVOLUTIONS] = ", ".join(sorted(plan.convolutions))
    if has_narrow_products(plan.precision):
        words["16-bit inputs"] = ", ".join(sorted(plan.wide))
    return words
