"""The pool on workers made up here: order, deaths, errors, and who is started."""

from __future__ import annotations

import pickle
import random
from collections import deque
from collections.abc import Sequence
from typing import Any
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trt_mpq.errors import RuntimeFailure
from trt_mpq.workers.base import Outcome, WorkerDied
from trt_mpq.workers.pool import TRIES, WorkerPool


def squares():
    return lambda part: part**2


class Scripted:
    """Hires workers that answer at random times and die as often as `deaths` says of a part.

    Args:
        count: How many may work side by side.
        deaths: How often each part kills its worker.
        seed: Decides who is ready when.
    """

    def __init__(self, count: int, deaths: dict[int, int], seed: int = 0) -> None:
        self.count, self.deaths, self.random = count, dict(deaths), random.Random(seed)
        self.started: list[Puppet] = []

    def start(self) -> Puppet:
        self.started.append(Puppet(self.deaths))
        assert sum(not puppet.stopped for puppet in self.started) <= self.count
        return self.started[-1]

    def ready(self, workers: Sequence[Puppet]) -> Sequence[Puppet]:
        assert workers, "nobody to wait for"
        return self.random.sample(workers, self.random.randint(1, len(workers)))


class Puppet:
    def __init__(self, deaths: dict[int, int]) -> None:
        self._deaths, self.stopped, self.dead = deaths, False, False
        self._tasks: deque[tuple[Any, Any]] = deque()
        self.most = 0

    def submit(self, initializer: bytes, part: bytes) -> None:
        assert not self.stopped
        if self.dead:
            raise WorkerDied("was dead already")
        self._tasks.append((pickle.loads(initializer), pickle.loads(part)))
        self.most = max(self.most, len(self._tasks))

    def outcome(self) -> Outcome:
        initializer, part = self._tasks.popleft()
        if self._deaths.get(part, 0):
            self._deaths[part] -= 1
            raise WorkerDied("was ended by the test")
        return Outcome(error=ValueError("a seven")) if part == 7 else Outcome(initializer()(part))

    def stop(self) -> None:
        self.stopped = True


@given(
    parts=st.lists(st.integers(10, 99), max_size=20),
    count=st.integers(1, 5),
    deaths=st.dictionaries(st.integers(10, 99), st.integers(1, TRIES - 1), max_size=3),
    seed=st.integers(0, 99),
    prefetch=st.integers(0, 2),
)
def test_results_come_in_the_order_of_the_parts_whoever_dies(parts, count, deaths, seed, prefetch):
    host = Scripted(count, deaths, seed)
    pool = WorkerPool(host)
    unique = list(dict.fromkeys(parts))
    assert list(pool.map(squares, unique, prefetch)) == [part**2 for part in unique]
    assert all(puppet.most <= 1 + prefetch for puppet in host.started)
    assert len(host.started) <= min(count, len(unique)) + sum(deaths.values())
    pool.close()
    assert all(puppet.stopped for puppet in host.started)


def test_workers_stay_for_more():
    host = Scripted(2, {})
    pool = WorkerPool(host)
    for _ in range(3):
        assert list(pool.map(squares, [2, 3, 4])) == [4, 9, 16]
    assert len(host.started) == 2


def test_parts_wait_at_a_worker_where_that_is_wanted_once_all_have_one():
    host = Scripted(3, {})
    results = WorkerPool(host).map(squares, iter(range(10, 30)), prefetch=1)
    next(results)
    assert [puppet.most for puppet in host.started] == [2, 2, 2]


def test_only_the_part_at_work_counts_as_what_a_worker_died_over():
    """Those behind it are done by another, however many die over it."""
    host = Scripted(1, {10: TRIES - 1, 11: TRIES - 1})
    assert list(WorkerPool(host).map(squares, [10, 11, 12], prefetch=2)) == [100, 121, 144]
    assert len(host.started) == 1 + 2 * (TRIES - 1)


def test_one_that_died_while_idle_is_replaced():
    host = Scripted(1, {})
    pool = WorkerPool(host)
    assert list(pool.map(squares, [2])) == [4]
    host.started[0].dead = True
    assert list(pool.map(squares, [3])) == [9]
    assert [puppet.stopped for puppet in host.started] == [True, False]


def test_a_part_that_kills_everybody_ends_the_run_with_a_sentence():
    host = Scripted(2, {5: 99})
    with pytest.raises(RuntimeFailure, match=f"{TRIES} workers died .* was ended by the test"):
        list(WorkerPool(host).map(squares, [1, 2, 3, 5, 8]))
    assert all(puppet.stopped for puppet in host.started)


@pytest.mark.parametrize("count", [1, 3])
def test_an_error_is_raised_and_work_in_progress_stopped(count):
    host = Scripted(count, {})
    with pytest.raises(ValueError, match="a seven"):
        list(WorkerPool(host).map(squares, [7, 1, 2, 3]))
    busy = host.started[1:]  # the first had answered
    assert all(puppet.stopped for puppet in busy)


def test_nobody_goes_on_for_an_iteration_that_is_given_up():
    host = Scripted(3, {})
    results = WorkerPool(host).map(squares, list(range(10, 30)))
    next(results)
    results.close()
    assert all(puppet.stopped for puppet in host.started)


def test_all_start_beforehand_and_are_those_that_work():
    host = Scripted(3, {})
    pool = WorkerPool(host)
    pool.start()
    assert list(pool.map(squares, [2])) == [4]
    assert len(host.started) == 3
    pool.start()
    pool.close()
    assert len(host.started) == 3
    assert all(puppet.stopped for puppet in host.started)


def test_what_prevents_a_start_is_said_where_there_is_work():
    host = mock.Mock(count=2, start=mock.Mock(side_effect=RuntimeFailure("there is no cluster")))
    pool = WorkerPool(host)
    pool.start()
    pool.close()
    with pytest.raises(RuntimeFailure, match="there is no cluster"):
        list(pool.map(squares, [2]))


def test_workers_end_with_the_crew():
    host = Scripted(2, {})
    pool = WorkerPool(host)
    list(pool.map(squares, [2, 3]))
    del pool
    assert all(puppet.stopped for puppet in host.started)
