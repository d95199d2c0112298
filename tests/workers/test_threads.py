"""Work by threads of this process."""

from __future__ import annotations

from collections.abc import Iterator
from threading import Barrier, get_ident

import pytest

from trt_mpq.workers.threads import side_by_side


@pytest.mark.parametrize("ways", [1, 2, 3])
@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_results_are_in_the_order_of_the_items(ways, count):
    assert list(side_by_side(lambda number: number**2, range(count), ways)) == [n**2 for n in range(count)]


def test_as_many_are_at_work_as_there_are_ways():
    together = Barrier(3, timeout=30)  # breaks unless three wait at once
    threads = set(side_by_side(lambda _: (together.wait(), get_ident())[1], range(6), 3))
    assert len(threads) == 3
    assert get_ident() not in threads


def test_one_way_is_this_thread():
    assert set(side_by_side(lambda _: get_ident(), range(3), 1)) == {get_ident()}


@pytest.mark.parametrize("ways", [1, 2])
def test_items_are_taken_a_few_ahead_in_this_thread(ways):
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in range(100):
            taken.append(get_ident())
            yield number

    results = side_by_side(abs, items(), ways)
    assert [next(results), next(results)] == [0, 1]
    results.close()
    assert set(taken) == {get_ident()}
    assert len(taken) <= 2 + ways


@pytest.mark.parametrize("ways", [1, 2])
def test_what_work_raises_comes_in_its_place(ways):
    results = side_by_side(lambda number: 6 / number, (3, 2, 0, 1), ways)
    assert [next(results), next(results)] == [2, 3]
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert list(results) == []
