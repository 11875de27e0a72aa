"""Merges tokens on their way through a network: less work, other outputs.

This is not an exact rewrite, so it is not among those that ``apply_rewrites`` makes: whoever asks
for it spends accuracy on speed. Behind the attention of some blocks, tokens whose keys are alike
become one, their mean (Bolya et al., arXiv:2210.09461; see ``operators.Match``). What stands behind
sees fewer tokens, each of which counts in softmax and means as often as there are tokens in it.
``followed_tokens`` says how that is carried through the network, and what stays as it was.

A few large merges cost fewer selections than many small ones, and lose less.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vitedge.errors import ConversionError
from vitedge.network.blocks import Ancestry, Block, ResidualSum, blocks
from vitedge.network.kinds import NormKind
from vitedge.network.network import Network, Value, rebuilt
from vitedge.network.operators import (
    Concatenate,
    Constant,
    Count,
    Match,
    Mean,
    Merge,
    Norm,
    Product,
)
from vitedge.network.structure import Attention, attentions
from vitedge.rewrite.followed_tokens import Followed, Tokens

# Tokens of which all numbers are zero have no direction; what they are like does not matter.
_EPS = 1e-12


@dataclass(frozen=True)
class Merging:
    """One step of a schedule.

    Attributes:
        block: Number of the block, from 0, behind whose attention it stands.
        tokens: The number of tokens that disappear there.
        groups: The new token of each old one, the same for every picture; None finds the tokens
            that are alike in each picture.
    """

    block: int
    tokens: int
    groups: tuple[int, ...] | None = None


@dataclass(frozen=True, eq=False)
class Place:
    """The places where tokens can be merged.

    Attributes:
        sum: The residual sum behind the attention: tokens ``(tokens, channels)``.
        keys: The keys of the attention by head, ``(heads, tokens, width)``.
        fixed: The number of tokens that stand before those of patches.
    """

    sum: Value
    keys: Value
    fixed: int

    @property
    def loose(self) -> int:
        """The number of tokens that may be merged."""
        return self.sum.shape[0] - self.fixed


def places(network: Network) -> tuple[Place | None, ...]:
    """The place in each block where its tokens can be merged, or None."""
    found, ancestry = attentions(network), Ancestry(network)
    return tuple(_place(block, found, ancestry) for block in blocks(network))


def _place(block: Block, found: Sequence[Attention], ancestry: Ancestry) -> Place | None:
    """The first sum behind the one attention, between all tokens, that all else goes through."""
    inside = set(block.values)
    within = [each for each in found if each.mixed in inside]
    if len(within) != 1:
        return None
    (attention,) = within
    for residual in block.sums:
        value = residual.value
        if value not in inside or not ancestry.reaches(attention.mixed, value):
            continue
        behind = {value, *ancestry.between(value, block.end)}
        is_gate = all(
            each in behind or each.is_constant
            for later in behind - {value}
            for each in later.inputs
        )
        if is_gate:
            return _place_at(residual, attention)
    return None


def _place_at(residual: ResidualSum, attention: Attention) -> Place | None:
    keys, tokens = attention.keys, residual.value.shape[0]
    is_whole = len(keys.shape) == 3 and keys.shape[1] == attention.scores.shape[1] == tokens
    fixed = _prefix(residual.stream)
    if len(residual.value.shape) != 2 or not is_whole or fixed is None:
        return None
    return Place(residual.value, keys, fixed)


def _prefix(stream: Value) -> int | None:
    """The number of learned tokens before those of patches; None where that cannot be told."""
    unseen, seen = [stream], {stream}
    found = set[int | None]()
    tokens = stream.shape[0]
    while unseen:
        value = unseen.pop()
        if isinstance(value.operator, Concatenate) and value.operator.axis == 0:
            leading, *others = value.inputs
            is_prefix = leading.is_constant and not any(each.is_constant for each in others)
            found.add(leading.shape[0] if is_prefix else None)
            continue
        for each in value.inputs:
            if each not in seen and each.shape[:1] == (tokens,) and len(each.shape) == 2:
                seen.add(each)
                unseen.append(each)
    return found.pop() if len(found) == 1 else (None if found else 0)


def merge_tokens(network: Network, schedule: Sequence[Merging]) -> Network:
    """The network whose tokens are merged at some places.

    Outputs have the shapes that they had: tokens that one looks at one by one are given back to
    each place that was merged.

    Args:
        network: Left unchanged.
        schedule: The places where tokens are merged, and how many; in the order of blocks.

    Raises:
        ConversionError: Tokens cannot be merged there, or something behind tells them apart.
    """
    known = places(network)
    wanted: dict[Value, tuple[Place, Merging]] = {}
    for each in schedule:
        place = known[each.block] if 0 <= each.block < len(known) else None
        if place is None:
            raise ConversionError(
                f"tokens cannot be merged behind the attention of block {each.block}: it is not "
                "one attention between all tokens of a residual stream"
            )
        wanted[place.sum] = place, each
    followed = Followed()

    def change(value: Value, inputs: tuple[Value, ...]) -> Value:
        made = followed.step(value, inputs)
        if value in wanted:
            made = _merged(value, made, *wanted[value], followed)
        followed.new[value] = made
        return made

    return followed.with_whole_outputs(rebuilt(network, change), network)


def _merged(value: Value, x: Value, place: Place, step: Merging, followed: Followed) -> Value:
    """The successor of a sum behind an attention: fewer tokens."""
    before = followed.merged.get(value)
    counts = before.counts if before is not None else _ones(value, x.shape[0])
    if step.groups is None:
        keys = followed.new[place.keys]
        match, merged, new = _by_likeness(value, x, counts, keys, Match(step.tokens, place.fixed))
    else:
        match, merged, new = _by_groups(value, x, counts, step, place.fixed)
    matches = (match,) if before is None else (*before.matches, match)
    followed.merged[value] = Tokens(0, value.shape[0], place.fixed, new, matches)
    return merged


def _by_likeness(
    value: Value, x: Value, counts: Value, keys: Value, operator: Match
) -> tuple[Value, Value, Value]:
    """The choice, the tokens, and how many each stands for."""
    name = value.name
    mean = Value(f"{name}/likeness/mean", Mean(0), (keys,))
    width = mean.shape[-1]
    plain = Norm(np.ones(width, np.float32), np.zeros(width, np.float32), _EPS, NormKind.L2)
    likeness = Value(f"{name}/likeness", plain, (mean,))
    try:
        match = Value(f"{name}/match", operator, (likeness,))
    except ValueError as error:
        raise ConversionError(f"tokens cannot be merged at '{name}': {error}") from error
    merged = Value(f"{name}/merged", Merge(), (match, x, counts))
    return match, merged, Value(f"{name}/counts", Count(), (match, counts))


def _by_groups(
    value: Value, x: Value, counts: Value, step: Merging, fixed: int
) -> tuple[Value, Value, Value]:
    """Merges by constants alone: the means are a product with a matrix."""
    name, groups = value.name, np.asarray(step.groups)
    old, new = x.shape[0], x.shape[0] - step.tokens
    is_whole = groups.shape == (old,) and np.array_equal(np.unique(groups), np.arange(new))
    if not is_whole or not np.array_equal(np.flatnonzero(groups < fixed), np.arange(fixed)):
        raise ConversionError(
            f"tokens cannot be merged at '{name}': the groups are not of {new} of its {old} tokens"
        )
    if not isinstance(counts.operator, Constant):
        raise ConversionError(
            f"tokens that are alike are merged before '{name}'; merge them all so"
        )
    matrix = (groups == np.arange(new)[:, None]).astype(np.float32)
    before = counts.operator.values
    total = (matrix @ before).astype(np.float32)
    shares = (matrix * before.T / total).astype(np.float32)
    merged = Value(f"{name}/merged", Product(), (Value(f"{name}/shares", Constant(shares)), x))
    made = (
        Value(f"{name}/{part}", Constant(each))
        for part, each in (("match", matrix), ("counts", total))
    )
    match, number = made
    return match, merged, number


def _ones(value: Value, tokens: int) -> Value:
    return Value(f"{value.name}/ones", Constant(np.ones((tokens, 1), np.float32)))
