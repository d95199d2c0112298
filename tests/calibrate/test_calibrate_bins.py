"""What is kept of a tensor's values to be looked at: magnitudes in few bins, and the share that a format clips."""

from __future__ import annotations

import numpy as np
import pytest

from trt_mpq.calibrate.histogram import Histogram
from trt_mpq.types import TensorRange


def test_shares_are_those_of_the_values() -> None:
    values = np.abs(np.random.default_rng(0).standard_normal(100_000)).astype(np.float32)
    histogram = Histogram.empty(float(values.max()))
    histogram.add(values)
    bins = histogram.coarse()
    assert len(bins) == 64
    assert sum(bins) == len(values)
    observed = TensorRange(0.0, float(values.max()), bins=bins)
    for amax in (0.1, 1.0, 2.0, 3.0):
        assert observed.share_beyond(amax) == pytest.approx(float(np.mean(values > amax)), abs=0.002)
    assert observed.share_beyond(observed.maximum) == 0
    assert observed.share_beyond(2 * observed.maximum) == 0
    assert observed.share_beyond(0.0) == 1


def test_nothing_is_known_of_what_was_not_counted() -> None:
    assert Histogram.empty(1.0).coarse() == ()
    assert TensorRange(0.0, 1.0).share_beyond(0.5) is None
