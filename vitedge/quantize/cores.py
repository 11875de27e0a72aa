"""Many products of small matrices, on all cores.

A BLAS of several threads lets them wait for one another in every product. Those of a vision
transformer are so small that this costs as much as it gains, and four times what it gains where
other programs want the cores too. Here each core works at something of its own, with a BLAS of one
thread.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from vitedge.errors import missing_package
from vitedge.network.evaluate import evaluate
from vitedge.network.network import Network
from vitedge.network.operators import Array

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")


class Cores:
    """Threads that each have a core."""

    def __init__(self, pool: ThreadPoolExecutor, count: int) -> None:
        self._pool, self._count = pool, count

    def map(self, work: Callable[[Item], Outcome], items: Iterable[Item]) -> list[Outcome]:
        """Does all the work; outcomes come in the order of the items, the first error is raised."""
        return list(self._pool.map(work, items))

    def ahead(self, work: Callable[[Item], Outcome], items: Iterable[Item]) -> Iterator[Outcome]:
        """Maps like ``map``, with only the running items and one outcome each in memory."""
        running: deque[Future[Outcome]] = deque()
        for item in items:
            running.append(self._pool.submit(work, item))
            if len(running) > self._count:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()


@contextmanager
def all_cores() -> Iterator[Cores]:
    """Gives as many cores as the BLAS would use; inside the block it uses one for each product.

    Raises:
        UnavailableError: threadpoolctl is not installed.
    """
    try:
        from threadpoolctl import ThreadpoolController
    except ImportError as error:
        raise missing_package("threadpoolctl", "convert") from error
    controller = ThreadpoolController()
    count = max((each["num_threads"] for each in controller.info()), default=1)
    handling = np.geterr()  # an errstate holds for the thread that entered it alone

    def handle_as_here() -> None:
        np.seterr(**handling)

    with (
        controller.limit(limits=1),
        ThreadPoolExecutor(count, initializer=handle_as_here) as pool,
    ):
        yield Cores(pool, count)


def forward_each(network: Network, images: npt.NDArray[Any]) -> Array:
    """The main output for raw pixels; see ``evaluate_each``."""
    return evaluate_each(network, images)[network.main_name]


def evaluate_each(network: Network, images: npt.NDArray[Any]) -> dict[str, Array]:
    """The outputs of raw pixels, as ``evaluate`` computes them, an image on each core."""
    with all_cores() as cores:
        found = cores.map(lambda image: evaluate(network, image[None]), images)
    return {name: np.concatenate([each[name] for each in found]) for name in network.outputs}
