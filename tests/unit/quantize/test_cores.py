"""Sharing work out over the cores."""

from __future__ import annotations

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from vitedge.quantize.cores import all_cores


def blas_threads() -> list[int]:
    np.ones((2, 2)) @ np.ones((2, 2))
    return [each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"]


def test_outcomes_come_in_the_order_of_the_items() -> None:
    with all_cores() as cores:
        assert cores.map(lambda item: item * item, range(50)) == [n * n for n in range(50)]


def test_an_error_of_the_work_is_raised() -> None:
    with all_cores() as cores, pytest.raises(ZeroDivisionError):
        cores.map(lambda item: 1 // item, [1, 0])


def test_the_blas_has_one_thread_within_and_its_own_number_after() -> None:
    before = blas_threads()
    with all_cores() as cores:
        assert set(cores.map(lambda _: max(blas_threads()), range(4))) == {1}
    assert blas_threads() == before


def test_work_ahead_stays_few_items_ahead_and_in_order() -> None:
    begun: list[int] = []
    most = 1 + max(blas_threads())  # as many as there are cores, and the one that is waited for

    def work(item: int) -> int:
        begun.append(item)
        return item

    with all_cores() as cores:
        for position, outcome in enumerate(cores.ahead(work, range(100))):
            assert outcome == position
            assert len(begun) <= position + most


def test_nothing_is_ahead_of_nothing() -> None:
    with all_cores() as cores:
        assert list(cores.ahead(abs, [])) == []


def test_what_overflows_is_handled_as_around_it() -> None:
    large = np.float32([1e30])
    with np.errstate(over="ignore"), all_cores() as cores:
        assert np.isinf(cores.map(np.square, [large])[0])
    with np.errstate(over="raise"), all_cores() as cores, pytest.raises(FloatingPointError):
        cores.map(np.square, [large])
