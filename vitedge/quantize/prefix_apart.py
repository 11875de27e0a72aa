"""Gives registers, or a class token, scales of their own where they outshine all other tokens.

Vision transformers write massive numbers into a few tokens without content. MLPs make these numbers
for these tokens alone, which then attend to themselves (arXiv:2402.17762, 2309.16588). In a graph
of integers an activation has one scale for all tokens, so the others are left with a few steps of
256. Where that is so, the branch is computed twice: for the tokens that outshine the others, and
for the others, each with scales of its own. The results are put together for the residual stream,
which has 16 bits. The outputs stay.

Only tokens that stand before the patches are told apart, because a graph has to know them before it
sees an image.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np
import numpy.typing as npt

from vitedge.network.evaluate import evaluate
from vitedge.network.lowering import group_of
from vitedge.network.network import Network, Value, rebuilt
from vitedge.network.operators import Activate, Add, Array, Concatenate, Linear, Norm, Take
from vitedge.network.structure import Readers, readers
from vitedge.quantize.attended import attended
from vitedge.quantize.recipe import Quantized
from vitedge.rewrite import PREFIX_APART
from vitedge.rewrite.moved_back import Part, of_part

# The patches then use 32 of 256 steps. At 4.5 (DINOv2-S, one MLP) telling apart lost 0.7 dB, at 15
# (registers of ``benchmarks/register_vit.py``) it won 7.
_OUTSHINES = 8.0

_FEW, _MANY = "outshining", "others"
"""The words in the names of both parts of a branch."""

# What a branch makes of the prefix is nearly the same in each image.
_IMAGES = 8


@dataclass(frozen=True, eq=False)
class Branch:
    """An MLP, or the way from queries to the projection of an attention.

    Attributes:
        last: The layer that writes into the residual stream, ``(tokens, channels)``.
        starts: The values of which tokens are taken.
        prefix: The count of tokens that stand before the patches.
    """

    last: Value
    starts: frozenset[Value]
    prefix: int


class PrefixApart:
    """See the module's docstring."""

    name = PREFIX_APART

    def apply(self, network: Network, images: Iterable[npt.NDArray[np.uint8]]) -> Network:
        """The network with some branches computed twice; itself if no token outshines the others.

        Args:
            network: The model, already rewritten; left unchanged.
            images: Pixels uint8 ``(H, W, C)``; the first few are looked at.
        """
        found = branches(network)
        chosen = {
            branch.last: (branch, tokens)
            for branch, tokens in zip(found, _outshining(network, found, images), strict=True)
            if tokens
        }
        return _apart(network, chosen) if chosen else network


def told_apart(made: Quantized, before: Network) -> Quantized:
    """The quantized network with the move among its moves and in its words.

    Args:
        made: The quantized network.
        before: The network before the move.
    """
    layers = {value.name for value, _ in before.linears()}
    count = sum(value.name in layers and is_joined(value) for value in made.network.values)
    words = f"those that outshine the others have scales of their own in {count} branches"
    description = {**made.recipe.description, "tokens": words}
    recipe = replace(made.recipe, description=description)
    return replace(made, recipe=recipe, moves=(PREFIX_APART, *made.moves))


def is_joined(value: Value) -> bool:
    """Whether a value is put together of tokens."""
    return value.operator == Concatenate(0)


def branches(network: Network) -> list[Branch]:
    """The branches of a residual stream of tokens that begins with a prefix, in order."""
    counts, read = _prefixes(network), readers(network)
    found = []
    projections = {each.out: each for each in attended(network) if each.out is not None}
    for last in network.values:
        sums = [counts[each] for each in read[last] if each in counts]
        if len(sums) != 1 or len(read[last]) != 1 or not isinstance(last.operator, Linear):
            continue
        starts: frozenset[Value] | None = None
        if last in projections:
            starts = _layers_before(projections[last].shares.inputs[0])
        elif (norm := _norm_before(last, read)) is not None:
            starts = frozenset(norm.inputs)
        if starts:
            found.append(Branch(last, starts, sums[0]))
    return found


def _norm_before(last: Value, read: Readers) -> Value | None:
    """The norm that an MLP begins with, where what follows works on each token by itself."""
    value, activations = last.inputs[0], 0
    while isinstance(value.operator, Activate | Linear) and len(read[value]) == 1:
        activations += isinstance(value.operator, Activate)
        value = value.inputs[0]
    return value if activations and isinstance(value.operator, Norm) else None


def _layers_before(scores: Value) -> frozenset[Value]:
    """The layer of the queries: the first on the way back from the scores."""
    value = scores
    while not isinstance(value.operator, Linear):
        live = [each for each in value.inputs if not each.is_constant]
        if not live:
            return frozenset()
        value = live[0]
    return frozenset([value])


def _prefixes(network: Network) -> dict[Value, int]:
    """Streams of tokens, and how many stand before the patches in each."""
    found: dict[Value, int] = {}
    for value in network.values:
        match value.operator:
            case Concatenate(axis=0) if len(value.shape) == 2:
                leading = 0
                for each in value.inputs:
                    if not each.is_constant:
                        break
                    leading += each.shape[0]
                if 0 < leading < value.shape[0]:
                    found[value] = leading
            case Add():
                alike = [found[each] for each in value.inputs if each in found]
                if alike and all(len(each.shape) == 2 for each in value.inputs):
                    found[value] = alike[0]
    return found


def _outshining(
    network: Network, found: Sequence[Branch], images: Iterable[npt.NDArray[np.uint8]]
) -> list[tuple[int, ...]]:
    """The prefix tokens of each branch whose numbers outshine those of patches at its end."""
    places = {branch.last.name: at for at, branch in enumerate(found)}
    largest = [np.zeros(branch.last.shape[0]) for branch in found]

    def watch(name: str, x: Array) -> None:
        if name in places:
            seen = largest[places[name]]
            np.maximum(seen, np.abs(x).max(axis=(0, 2)), out=seen)

    if found:
        for _, image in zip(range(_IMAGES), images, strict=False):
            evaluate(network, image[None], watch)
    chosen = []
    for branch, seen in zip(found, largest, strict=True):
        least = _OUTSHINES * seen[branch.prefix :].max()
        tokens = np.flatnonzero((seen[: branch.prefix] > least) & (least > 0))
        chosen.append(tuple(tokens.tolist()))
    return chosen


def _apart(network: Network, chosen: Mapping[Value, tuple[Branch, tuple[int, ...]]]) -> Network:
    new: dict[Value, Value] = {}

    def change(value: Value, inputs: tuple[Value, ...]) -> Value | None:
        if value in chosen:
            branch, tokens = chosen[value]
            made = _in_two(value, branch, tokens, new)
        else:
            same = inputs == value.inputs
            made = value if same else Value(value.name, value.operator, inputs)
        new[value] = made
        return made

    return rebuilt(network, change)


def _in_two(
    value: Value, branch: Branch, tokens: tuple[int, ...], new: Mapping[Value, Value]
) -> Value:
    """A value that is made for some tokens and for all others, and put together in their order."""
    others = tuple(sorted(set(range(value.shape[0])) - set(tokens)))
    few = _Some(_FEW, branch.starts, new).of(value, Part(0, tokens))
    many = _Some(_MANY, branch.starts, new).of(value, Part(0, others))
    pieces = []
    for is_few, run in groupby(range(value.shape[0]), lambda token: token in tokens):
        whole, places = (few, tokens) if is_few else (many, others)
        wanted = tuple(places.index(token) for token in run)
        if wanted != tuple(range(whole.shape[0])):
            whole = Value(f"{whole.name}/from.{wanted[0]}", Take(0, wanted), (whole,))
        pieces.append(whole)
    return Value(value.name, Concatenate(0), tuple(pieces))


class _Some:
    """Makes some tokens of values.

    Args:
        label: Stands in the names of what is made.
        starts: The values of which the tokens are taken.
        new: The values of the network that is made, by the old ones.
    """

    def __init__(self, label: str, starts: Collection[Value], new: Mapping[Value, Value]) -> None:
        self._label, self._starts, self._new = label, starts, new
        self._made: dict[Value, Value] = {}

    def of(self, value: Value, part: Part) -> Value:
        """The part of a value, made of parts of what it reads."""
        if value not in self._made:
            self._made[value] = self._make(value, part)
        return self._made[value]

    def _make(self, value: Value, part: Part) -> Value:
        group, last = group_of(value.name)
        name = f"{group}.{self._label}.{last}" if group else f"{self._label}.{last}"
        if value in self._starts:
            return Value(f"{name}/tokens", Take(part.axis, part.places), (self._new[value],))
        work = of_part(value, part)
        assert work is not None  # what stands in a branch works on each token by itself
        inputs = tuple(
            self._new[each] if wanted is None else self.of(each, wanted)
            for each, wanted in work.inputs
        )
        return inputs[0] if work.operator is None else Value(name, work.operator, inputs)
