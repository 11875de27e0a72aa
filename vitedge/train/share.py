"""The part of each batch that one replica has, when several share the work."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

from vitedge.errors import UsageError


@dataclass(frozen=True)
class Share:
    """Positions within the batch that all replicas take together.

    What is drawn at random for a batch is drawn for all of it, and taken at these positions: so
    an image is changed in the same way whoever gets it. Image ``p`` of a batch is mixed with image
    ``of - 1 - p``, and each share holds both.

    Attributes:
        positions: Ascending; reversed, they are the partners in mixing.
        of: Images in the whole batch.
    """

    positions: tuple[int, ...]
    of: int

    def take(self, drawn: Any, axis: int = 0) -> Any:
        """The entries of these positions, of a tensor with an entry for each of the batch."""
        import tensorflow as tf

        return tf.gather(drawn, tf.constant(self.positions), axis=axis)


def whole(batch_size: int) -> Share:
    """The share of one that works alone."""
    return Share(tuple(range(batch_size)), batch_size)


def shares(batch_size: int, replicas: int) -> tuple[Share, ...]:
    """A batch divided as evenly as pairs allow.

    Raises:
        UsageError: Some replica would have nothing to do.
    """
    pairs = (batch_size + 1) // 2  # an odd batch has one image that is its own partner
    if replicas > pairs:
        raise UsageError(
            f"a batch of {batch_size} cannot be divided among {replicas} replicas: "
            f"take at least {2 * replicas}"
        )
    edges = [round(index * pairs / replicas) for index in range(replicas + 1)]
    divided = []
    for start, end in itertools.pairwise(edges):
        mirrored = {batch_size - 1 - position for position in range(start, end)}
        divided.append(Share(tuple(sorted(mirrored | set(range(start, end)))), batch_size))
    return tuple(divided)
