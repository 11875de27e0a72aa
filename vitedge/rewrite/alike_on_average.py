"""Finds tokens that are alike on average: pairs that are the same for every picture.

Devices without TopK cannot choose in each picture. Neighbouring patches are alike in most of them,
so a constant matrix, a linear layer along the tokens, merges those. Pairs are taken greedily, then
exchanged while that brings what is paired nearer together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from vitedge.errors import ConversionError
from vitedge.network.evaluate import evaluate
from vitedge.network.network import Network, needed
from vitedge.rewrite.merge_tokens import Merging, merge_tokens, places

Distances: TypeAlias = npt.NDArray[np.float64]

# Where tokens are alike is the same after some dozen pictures; more take time.
_PICTURES = 48


def with_groups(
    network: Network,
    schedule: Sequence[Merging],
    images: Callable[[], Iterable[npt.NDArray[np.uint8]]],
) -> tuple[Merging, ...]:
    """The schedule with groups of tokens that are alike on average.

    Args:
        network: The model.
        schedule: The places where tokens are merged, and how many; later groups are found behind
            earlier ones.
        images: Gives pictures as the model takes them, each ``(H, W, C)``.

    Raises:
        ConversionError: Tokens cannot be merged there, or there are not so many.
    """
    found: list[Merging] = []
    for step in schedule:
        place = places(network)[step.block]
        if place is None:
            raise ConversionError(f"{step.tokens} tokens cannot be merged in block {step.block}")
        merged = merge_tokens(network, found) if found else network
        keys = _distances(merged, place.keys.name, place.fixed, images)
        if 2 * step.tokens > len(keys):
            raise ConversionError(
                f"{step.tokens} of {len(keys)} tokens cannot be merged in pairs, behind block "
                f"{step.block + 1}"
            )
        groups = _grouped(keys, step.tokens)
        numbers = (*range(place.fixed), *(int(each) + place.fixed for each in groups))
        found.append(replace(step, groups=numbers))
    return tuple(found)


def _distances(
    network: Network,
    keys: str,
    fixed: int,
    images: Callable[[], Iterable[npt.NDArray[np.uint8]]],
) -> Distances:
    """Mean squared distance between the directions of any two tokens' keys, ``(loose, loose)``."""
    (value,) = (each for each in network.values if each.name == keys)
    part = replace(
        network, values=needed(network.values, [value]), outputs={"keys": value}, labels=()
    )
    total, n = np.zeros((value.shape[1] - fixed,) * 2), 0
    for n, image in enumerate(images(), 1):
        by_head = evaluate(part, image[None])["keys"][0, :, fixed:].astype(np.float64)
        mean = by_head.mean(axis=0)
        mean /= np.maximum(np.linalg.norm(mean, axis=-1, keepdims=True), 1e-12)
        total += 2 - 2 * mean @ mean.T
        if n == _PICTURES:
            break
    return np.maximum(total / max(n, 1), 0)


def _grouped(distances: Distances, count: int) -> npt.NDArray[np.intp]:
    """The number of each token's group, where so many pairs are joined; numbered in order."""
    numbers = np.arange(len(distances))
    for a, b in _exchanged(distances, _nearest(distances, count)):
        numbers[max(a, b)] = min(a, b)
    return np.unique(numbers, return_inverse=True)[1]


def _nearest(distances: Distances, count: int) -> list[tuple[int, int]]:
    """Pairs without a token in common, the nearest first."""
    first, second = np.triu_indices(len(distances), 1)
    free, pairs = np.ones(len(distances), bool), list[tuple[int, int]]()
    for at in np.argsort(distances[first, second], kind="stable"):
        a, b = int(first[at]), int(second[at])
        if free[a] and free[b]:
            free[[a, b]] = False
            pairs.append((a, b))
            if len(pairs) == count:
                break
    return pairs


def _exchanged(distances: Distances, pairs: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The pairs after all exchanges between two of them that bring the four nearer together."""
    is_better = True
    while is_better:
        is_better = False
        for one in range(len(pairs)):
            for two in range(one):
                (a, b), (c, d) = pairs[one], pairs[two]
                now = distances[a, b] + distances[c, d] - 1e-12
                for first, second in (((a, c), (b, d)), ((a, d), (b, c))):
                    if distances[first] + distances[second] < now:
                        pairs[one], pairs[two] = first, second
                        is_better = True
                        break
    return pairs
