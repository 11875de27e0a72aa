"""Many products of small matrices, on all cores.

A BLAS of several threads lets them wait for one another in every product. Those of a ViT are so
small that this costs as much as it gains, and four times what it gains where other programs want
the cores too. Here each core works at something of its own, with a BLAS of one thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from vitedge.errors import missing_package

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")


class Cores:
    """Threads that each have a core."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self._pool = pool

    def map(self, work: Callable[[Item], Outcome], items: Iterable[Item]) -> list[Outcome]:
        """Does all the work; outcomes come in the order of the items, the first error is raised."""
        return list(self._pool.map(work, items))


@contextmanager
def all_cores() -> Iterator[Cores]:
    """As many cores as the BLAS would use; within, it uses one for each product.

    Raises:
        UnavailableError: threadpoolctl is not installed.
    """
    try:
        from threadpoolctl import ThreadpoolController
    except ImportError as error:
        raise missing_package("threadpoolctl", "convert") from error
    controller = ThreadpoolController()
    count = max((each["num_threads"] for each in controller.info()), default=1)
    with controller.limit(limits=1), ThreadPoolExecutor(count) as pool:
        yield Cores(pool)
