"""Polygraphy's comparison per group against outputs of the same networks, compared by numpy."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from tests.fakes.fixtures import PretendGpu
from tests.networks import mlp, residual_cnn, sample_input
from tests.sensitivity.examples import inputs_for
from trt_mpq.engine.plan_engines import PlanEngines
from trt_mpq.errors import SettingsError
from trt_mpq.runtime.polygraphy import COMPARE_FUNCTIONS
from trt_mpq.runtime.tensorrt.platform import this_platform
from trt_mpq.sensitivity import SensitivityInputs
from trt_mpq.sensitivity.output_difference import OutputDifference
from trt_mpq.sensitivity.output_sqnr import OutputSqnr
from trt_mpq.settings import EngineOptions, Settings
from trt_mpq.types import Precision, PrecisionPlan
from trt_mpq.types.engine import ShapeRange

FORMATS = (Precision.INT8, Precision.INT4)


@pytest.fixture(scope="module")
def inputs() -> SensitivityInputs:
    proto = residual_cnn(batch_norm=False)
    return inputs_for(proto, sample_input(proto, 6), batch=4, candidates=FORMATS)


def errors(inputs: SensitivityInputs, group: str, precision: Precision) -> tuple[np.ndarray, np.ndarray]:
    """Outputs with nothing lowered ``[n, values]``, and what lowering `group` adds to them."""
    emitter, groups = inputs.network.emitter(), inputs.network.grouping.groups
    wide = PrecisionPlan.uniform(groups, Precision.FP32, Precision.FP32)
    (batch,) = inputs.samples.batches(inputs.samples.count)
    exact, lowered = (
        next(iter(inputs.runtime.load(emitter.reference(plan)).run(batch.feeds).values())).astype(np.float64)
        for plan in (wide, wide.replace({group: precision}))
    )
    return exact, lowered - exact


NUMPY = {
    "l2": lambda exact, error: np.linalg.norm(error, axis=1),
    "max-abs": lambda exact, error: np.abs(error).max(axis=1),
    "mean-abs": lambda exact, error: np.abs(error).mean(axis=1),
    "median-abs": lambda exact, error: np.median(np.abs(error), axis=1),
    "snr": lambda exact, error: np.sum(error**2, axis=1) / np.sum(exact**2, axis=1),
    "psnr": lambda exact, error: np.mean(error**2, axis=1) / exact.max(axis=1) ** 2,
    "cosine": lambda exact, error: (
        1
        - np.sum(exact * (exact + error), axis=1)
        / (np.linalg.norm(exact, axis=1) * np.linalg.norm(exact + error, axis=1))
    ),
}


@pytest.mark.parametrize("compare_function", COMPARE_FUNCTIONS)
def test_every_compare_function_scores_what_numpy_does(compare_function: str, inputs: SensitivityInputs) -> None:
    ranking = OutputDifference(compare_function).rank(inputs)
    for precision, scores in ranking.scores.items():
        for group, score in scores.items():
            expected = NUMPY[compare_function](*errors(inputs, group, precision)).mean()
            assert score == pytest.approx(expected, rel=1e-3, abs=1e-9)


def test_by_snr_it_is_output_sqnr(inputs: SensitivityInputs) -> None:
    ours, theirs = OutputSqnr().rank(inputs), OutputDifference("snr").rank(inputs)
    for precision, scores in ours.scores.items():
        assert theirs.scores[precision] == pytest.approx(scores, rel=1e-4)
    assert theirs.forward_passes == ours.forward_passes


def test_the_settings_offer_what_there_is() -> None:
    assert set(get_args(Settings.model_fields["compare_function"].annotation)) == set(COMPARE_FUNCTIONS)


def test_an_unknown_compare_function_lists_the_known_ones() -> None:
    with pytest.raises(SettingsError, match="unknown compare_function 'ssim': choose one of snr, psnr, "):
        OutputDifference("ssim")


@pytest.mark.parametrize("version", ["10.16", "rtx-1.7"])
def test_through_engines_it_ranks_as_in_onnx_runtime(pretend_gpu: PretendGpu, version: str, tmp_path: Path) -> None:
    """The engines of the pretended TensorRT compute what ONNX Runtime does, but for what they are made to get wrong."""
    proto = mlp()
    inputs = inputs_for(proto, sample_input(proto, 6), batch=4, candidates=(Precision.INT8,))
    width = proto.graph.input[0].type.tensor_type.shape.dim[1].dim_value
    shapes = {"input": ShapeRange((1, width), (4, width), (4, width))}
    metric = OutputDifference(compare_runner="tensorrt")
    expected = OutputDifference().rank(inputs).scores[Precision.INT8]
    pretend_gpu(version, sm=89)
    platform = this_platform("rtx" if version.startswith("rtx") else "tensorrt")
    with_engines = replace(inputs, engines=PlanEngines(platform, EngineOptions(), shapes, tmp_path / "timing"))
    assert metric.rank(with_engines).scores[Precision.INT8] == pytest.approx(expected, rel=0.05)
    second = list(expected)[1]
    pretend_gpu(version, sm=89, wrong_in_8_bit=(second,))
    order = metric.rank(with_engines).order(Precision.INT8)
    assert order[-1] == second
    assert order[0] != second


def test_an_unknown_runner_lists_the_known_ones() -> None:
    with pytest.raises(SettingsError, match="unknown compare_runner 'cuda': choose one of onnxruntime, tensorrt"):
        OutputDifference(compare_runner="cuda")
