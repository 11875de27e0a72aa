"""Dominators of an acyclic graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

_Vertex = TypeVar("_Vertex")


def immediate_dominators(
    order: Sequence[_Vertex], before: Mapping[_Vertex, Sequence[_Vertex]]
) -> dict[_Vertex, _Vertex]:
    """The nearest vertex that all paths from the first vertex to another one pass.

    Cooper, Harvey & Kennedy, "A Simple, Fast Dominance Algorithm" (2001); without cycles one sweep
    is enough.

    Args:
        order: All vertices in topological order; the first is the root.
        before: The predecessors of each vertex but the root; those outside ``order`` are ignored.

    Returns:
        The immediate dominator of every vertex that the root reaches, except the root itself.
    """
    depth = {order[0]: 0}
    parents: dict[_Vertex, _Vertex] = {}
    for vertex in order[1:]:
        reached = [other for other in before[vertex] if other in depth]
        if not reached:
            continue
        nearest = reached[0]
        for other in reached[1:]:
            while nearest != other:
                if depth[nearest] >= depth[other]:
                    nearest = parents[nearest]
                else:
                    other = parents[other]  # noqa: PLW2901  # both sides climb in turn
        parents[vertex], depth[vertex] = nearest, depth[nearest] + 1
    return parents
