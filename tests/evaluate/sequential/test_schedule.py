"""Order and portions of the evaluation set."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from trt_mpq.evaluate.sequential import data_order, growing_portions


@given(
    count=st.integers(1, 5000),
    seed=st.integers(0, 9),
    first=st.integers(1, 300),
    growth=st.sampled_from([0.01, 0.125, 1]),
    multiple=st.integers(1, 64),
)
def test_portions_cover_every_sample_once_and_grow(count, seed, first, growth, multiple):
    schedule = growing_portions(count, seed, first=first, growth=growth, multiple=multiple)
    assert sorted(schedule.order) == list(range(count))
    assert schedule.ends[-1] == count
    assert all(a < b for a, b in pairwise(schedule.ends))
    assert all(look % multiple == 0 and look >= first for look in schedule.looks)
    assert all(b - a >= growth * a for a, b in pairwise(schedule.looks))


def test_drawing_and_back():
    schedule, values = growing_portions(50, 3, first=8, growth=1, multiple=8), np.arange(100.0).reshape(50, 2)
    drawn = schedule.draw(values)
    assert not np.array_equal(drawn, values)
    np.testing.assert_array_equal(values[schedule.in_data(np.arange(20))], drawn[:20])


def test_the_order_depends_on_the_seed_alone():
    orders = [growing_portions(50, seed, first=8, growth=1, multiple=8).order.tolist() for seed in (1, 1, 2)]
    assert orders[0] == orders[1] != orders[2]


def test_the_order_of_the_data_is_one_portion_without_a_look():
    schedule, values = data_order(7), np.arange(7.0)
    assert (schedule.ends, schedule.looks) == ((7,), ())
    np.testing.assert_array_equal(schedule.draw(values), values)
    np.testing.assert_array_equal(schedule.in_data(np.arange(3)), [0, 1, 2])
