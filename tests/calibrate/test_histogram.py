"""Every method against a reference written here, without a histogram or without numpy's shortcuts."""

from __future__ import annotations

import math

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from trt_mpq.calibrate.histogram import METHODS, Histogram
from trt_mpq.types import Precision

INT8, FP8, INT4 = Precision.INT8, Precision.FP8, Precision.INT4
BINS = len(Histogram.empty(1.0).counts)
finite = st.floats(-(2.0**100), 2.0**100, width=32, allow_subnormal=True)


def filled(values: np.ndarray, parts: int = 1) -> Histogram:
    histogram = Histogram.empty(float(np.abs(values).max()))
    for part in np.array_split(values, parts):
        histogram.add(part)
    return histogram


def heavy_tailed(seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return np.concatenate([generator.standard_normal(20000), generator.laplace(0, 4, 300)]).astype(np.float32)


@given(hnp.arrays(np.float32, hnp.array_shapes(max_dims=3, max_side=20), elements=finite))
def test_every_value_is_counted_in_its_bin(values):
    histogram = filled(values.ravel())
    magnitude = np.abs(values).max()
    if magnitude == 0:
        assert histogram.counts.sum() == 0
        return
    assert histogram.counts.sum() == values.size
    position = np.abs(values.astype(np.float64)).ravel() / float(magnitude) * BINS
    lowest, highest = np.nonzero(histogram.counts)[0][[0, -1]]
    assert highest == BINS - 1, "the largest magnitude lies in the last bin"
    assert lowest == pytest.approx(min(math.floor(position.min() * (1 + 1e-6)), BINS - 1), abs=1)


@given(st.integers(1, 7), st.integers(0, 5))
def test_counts_do_not_depend_on_how_the_data_is_cut(parts, seed):
    values = heavy_tailed(seed)[:500]
    assert np.array_equal(filled(values).counts, filled(values, parts).counts)


def test_values_beyond_the_magnitude_count_as_the_last_bin():
    histogram = Histogram.empty(1.0)
    histogram.add(np.array([1.0000001, -3.0, 0.25], np.float32))
    assert histogram.counts[-1] == 2
    assert histogram.counts[BINS // 4] == 1


@pytest.mark.parametrize("magnitude", [1e-44, 1e-38, 1e30, 3.4e38])
def test_extreme_magnitudes_are_counted_too(magnitude):
    histogram = filled(np.array([0.0, magnitude / 2, -magnitude], np.float32))
    assert histogram.counts[0] == 1
    assert histogram.counts[-1] == 1
    assert histogram.counts.sum() == 3


def test_minmax_clips_nothing():
    values = heavy_tailed()
    for precision in (INT8, FP8, INT4):
        assert METHODS["minmax"].amax(filled(values), precision) == np.abs(values).max()
    assert not METHODS["minmax"].needs_histogram


@pytest.mark.parametrize("seed", range(5))
def test_percentile_is_numpys_within_one_bin(seed):
    values = heavy_tailed(seed)
    exact = np.percentile(np.abs(values), 99.99, method="inverted_cdf")
    chosen = METHODS["percentile"].amax(filled(values), INT8)
    assert exact <= chosen <= exact + np.abs(values).max() / BINS * 1.001


def rounded(values: np.ndarray, amax: float, precision: Precision) -> np.ndarray:
    """Independent fake quantization of non-negative values, with the float16 scale the typed graph has."""
    largest = {INT8: 127.0, INT4: 7.0, FP8: 448.0}[precision]
    scale = np.float32(np.float16(amax / largest))
    ratio = np.minimum(values / scale, np.float32(largest))
    stored = ratio.astype(ml_dtypes.float8_e4m3fn).astype(np.float32) if precision is FP8 else np.round(ratio)
    return stored * scale


@pytest.mark.parametrize("precision", [INT8, INT4, FP8])
@pytest.mark.parametrize("seed", range(3))
def test_mse_is_as_good_as_direct_minimisation_over_the_raw_values(precision, seed):
    magnitudes = np.abs(heavy_tailed(seed))

    def error(amax: float) -> float:
        return float(np.mean((rounded(magnitudes, amax, precision) - magnitudes).astype(np.float64) ** 2))

    best = min(error(amax) for amax in np.linspace(0.02, 1, 600) * float(magnitudes.max()))
    assert error(METHODS["mse"].amax(filled(magnitudes), precision)) <= 1.03 * best


def test_mse_clips_far_tails_for_few_levels():
    values = np.concatenate([np.random.default_rng(0).standard_normal(50000), [60.0]]).astype(np.float32)
    histogram = filled(values)
    assert METHODS["mse"].amax(histogram, INT4) < 6
    assert METHODS["mse"].amax(histogram, INT4) < METHODS["mse"].amax(histogram, INT8)


def migacz(counts: list[int], levels: int, ends: list[int]) -> int:
    """The pseudo code of the GTC 2017 slides, loop by loop, over the candidate ends given; returns the best end."""
    divergences = {}
    for end in ends:
        reference = [float(c) for c in counts[:end]]
        reference[-1] += float(sum(counts[end:]))
        candidate = [0.0] * end
        for level in range(levels):
            members = [i for i in range(end) if i * levels // end == level]
            occupied = [i for i in members if counts[i] > 0]
            for i in occupied:
                candidate[i] = sum(float(counts[j]) for j in members) / len(occupied)
        p_sum, q_sum = sum(reference), sum(candidate)
        total = 0.0
        for p, q in zip(reference, candidate, strict=True):
            if p > 0:
                total += p / p_sum * math.log((p / p_sum) / max(q / q_sum if q_sum else 0.0, 1e-12))
        divergences[end] = total
    return min(divergences, key=divergences.__getitem__)


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize(("precision", "levels"), [(INT8, 128), (INT4, 8)])
def test_entropy_is_migaczs_algorithm(precision, levels, relu):
    values = np.maximum(heavy_tailed(), 0) if relu else heavy_tailed()
    histogram = filled(values)
    counts = [int(histogram.counts[1]), *(int(count) for count in histogram.counts[1:])]
    narrowest = next(end for end in range(1, BINS + 1) if sum(counts[:end]) >= 0.9 * sum(counts))
    candidates = [int(end) for end in np.linspace(BINS, max(narrowest, levels), 128)]
    position = candidates.index(round(METHODS["entropy"].amax(histogram, precision) / histogram.magnitude * BINS))
    some = sorted({*range(max(position - 3, 0), min(position + 4, 128)), *range(0, 128, 9)})
    best = migacz(counts, levels, [candidates[i] for i in some])
    assert candidates[position] == best


def test_entropy_clips_a_far_outlier():
    values = np.concatenate([np.random.default_rng(0).standard_normal(200000), [50.0]]).astype(np.float32)
    assert 3 < METHODS["entropy"].amax(filled(values), INT8) < 10


@pytest.mark.parametrize("precision", [INT8, INT4])
def test_entropy_copes_with_few_distinct_values(precision):
    """Pixels: most bins are empty, and a clipping point right behind the first occupied one would fit perfectly."""
    pixels = (np.random.default_rng(0).integers(0, 256, 30000) - 123.5).astype(np.float32) / 60
    assert METHODS["entropy"].amax(filled(pixels), precision) > 0.8 * np.abs(pixels).max()


def test_entropy_is_not_misled_by_zeros():
    """After a Relu most values are zero; they must not make a tiny amax look good."""
    values = np.maximum(np.random.default_rng(0).standard_normal(100000), 0).astype(np.float32)
    sparse = np.concatenate([values, np.zeros(900000, np.float32)])
    assert METHODS["entropy"].amax(filled(sparse), INT8) > 2.5


def test_entropy_leaves_fp8_alone():
    assert METHODS["entropy"].amax(filled(heavy_tailed()), FP8) == np.abs(heavy_tailed()).max()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("precision", [INT8, FP8, INT4])
def test_a_zero_tensor_has_amax_zero(method, precision):
    histogram = Histogram.empty(0.0)
    histogram.add(np.zeros((3, 4), np.float32))
    assert METHODS[method].amax(histogram, precision) == 0


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("precision", [INT8, FP8, INT4])
@pytest.mark.parametrize("magnitude", [1e-12, 1.0, 6e4, 1e9])
def test_amax_is_positive_and_never_above_the_largest_magnitude(method, precision, magnitude):
    values = heavy_tailed() / np.abs(heavy_tailed()).max() * np.float32(magnitude)
    histogram = filled(values)
    assert 0 < METHODS[method].amax(histogram, precision) <= histogram.magnitude * (1 + 1e-12)
