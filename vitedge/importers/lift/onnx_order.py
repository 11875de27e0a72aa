"""The order of an ONNX graph's nodes: each behind those whose outputs it reads.

ONNX demands this order, and ONNX Runtime does not: its own conversion to half precision appends
casts of the image at the end.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx


def put_in_order(graph: onnx.GraphProto) -> None:
    """Sorts the nodes in place; nodes keep their order where nothing speaks against it.

    A graph with a circle stays as it is.
    """
    nodes = list(graph.node)
    makers = {name: place for place, node in enumerate(nodes) for name in node.output if name}
    readers: dict[int, list[int]] = defaultdict(list)
    waits_for = []
    for place, node in enumerate(nodes):
        before = {makers[name] for name in _read_by(node) if name in makers}
        waits_for.append(len(before))
        for each in before:
            readers[each].append(place)
    ready = [place for place, count in enumerate(waits_for) if not count]
    order = []
    while ready:
        order.append(heapq.heappop(ready))
        for reader in readers[order[-1]]:
            waits_for[reader] -= 1
            if not waits_for[reader]:
                heapq.heappush(ready, reader)
    if len(order) == len(nodes) and order != sorted(order):
        del graph.node[:]
        graph.node.extend(nodes[place] for place in order)


def _read_by(node: onnx.NodeProto) -> Iterator[str]:
    """The names that a node and the graphs inside of it read."""
    yield from node.input
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            for inner in graph.node:
                yield from _read_by(inner)
