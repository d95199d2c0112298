"""Products with the weight on the left (``W @ x``, as of an adjacency matrix): every stage that touches a weight."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from bench.observed import computed_in
from bench.program import program
from tests.compiler import NEEDS_RTX
from tests.contracts.test_compiler import outcome
from tests.emit.examples import COLUMNS, SUMMED, mixing, run_plainly
from tests.prepared import RUNTIME, Prepared, normal, prepare
from trt_mpq.emit import Network, Refinements
from trt_mpq.groups import groups_from_model
from trt_mpq.lint import Severity, lint_graph
from trt_mpq.model import save_graph
from trt_mpq.refine.bias_correction import correct_biases
from trt_mpq.refine.gptq import round_weights
from trt_mpq.refine.products import moments_in_parts, products_in
from trt_mpq.runtime.base import with_outputs
from trt_mpq.types import Grouping, Precision, PrecisionPlan

INT8, FP8, W8A16, W4A16 = Precision.INT8, Precision.FP8, Precision.W8A16, Precision.W4A16


@cache
def network() -> tuple[Prepared, Network]:
    prepared = prepare(mixing())
    return prepared, prepared.network(prepared.samples(data()))


def data() -> np.ndarray:
    """Rows of a sample depend on each other, as neighbours in a graph do."""
    few = normal(24, SUMMED // 8, COLUMNS)
    return normal(SUMMED, SUMMED // 8, seed=1) @ few + 0.3 * normal(24, SUMMED, COLUMNS, seed=2)


def grouping() -> Grouping:
    return network()[0].grouping


def snapped(values: np.ndarray, amax: np.ndarray | float) -> np.ndarray:
    """INT8 by its definition, with scales of FP16."""
    step = (np.asarray(amax, np.float32) / np.float32(127)).astype(np.float16).astype(np.float32)
    return np.clip(np.rint(values / step), -128, 127) * step


def test_the_reference_is_numpys() -> None:
    prepared, calibrated = network()
    graph = calibrated.emitter().reference(PrecisionPlan.of({"mix": INT8, "reduce": Precision.FP32}))
    weights = {name: value.const_value.numpy() for name, value in prepared.graph.graph.initializers.items()}
    x = data()[:3]
    amax = calibrated.ranges.tensors["input"].amax[INT8]
    rows = snapped(weights["mix.weight"], np.abs(weights["mix.weight"]).max(axis=1, keepdims=True))
    expected = np.maximum(rows @ snapped(x.astype(np.float16).astype(np.float32), amax) + weights["mix.bias"], 0)
    got = RUNTIME.load(with_outputs(graph, ["relu.out"])).run({"input": x})["relu.out"]
    np.testing.assert_allclose(got, expected, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("precision", [INT8, FP8])
def test_the_typed_file_computes_the_reference_and_the_linter_has_nothing_against_it(
    precision: Precision, tmp_path: Path
) -> None:
    prepared, calibrated = network()
    plan, path = grouping().uniform(precision), tmp_path / "typed.onnx"
    save_graph(calibrated.emitter().strong(plan), path)
    (typed,) = run_plainly(path.read_bytes(), {"input": data()}, "ORT_DISABLE_ALL", qdq_passes=False).values()
    reference, exact = (
        RUNTIME.load(graph).run({"input": data()})["output"]
        for graph in (calibrated.emitter().reference(plan), prepared.graph)
    )
    step = np.square(reference - exact).mean() ** 0.5
    assert 0 < step < 0.1 * exact.std()
    assert np.square(typed - reference).mean() ** 0.5 < 0.5 * step
    findings = lint_graph(ir.from_proto(onnx.load(path)))
    assert [finding for finding in findings if finding.severity is not Severity.NOTE] == []


def test_moments_are_over_what_is_summed() -> None:
    prepared, calibrated = network()
    products = products_in(calibrated, INT8)
    assert [product.operand for product in products] == [("input", -2), ("relu.out", -2)]
    ((_, moments),) = moments_in_parts(calibrated, products, prepared.samples(data()), RUNTIME, 7)
    vectors = np.moveaxis(data(), 1, 2).reshape(-1, SUMMED)
    np.testing.assert_allclose(moments["input", -2], vectors.T @ vectors / len(vectors), rtol=1e-3, atol=1e-3)


def test_refinements_lower_the_error() -> None:
    """Biases per row are put right, and GPTQ beats rounding to nearest at four bits."""
    prepared, calibrated = network()
    plan, samples = grouping().uniform(Precision.INT4), prepared.samples(data())

    def errors(refinements: Refinements) -> tuple[float, float]:
        """Squared error of the output, and that of its means over samples and columns, per row."""
        graph = calibrated.emitter(refinements).reference(plan)
        got, exact = (
            RUNTIME.load(with_outputs(each, ["mix.add.out", "output"])).run({"input": data()})
            for each in (graph, prepared.graph)
        )
        lost = got["mix.add.out"] - exact["mix.add.out"]
        return float(np.square(got["output"] - exact["output"]).mean()), float(np.square(lost.mean(axis=(0, 2))).mean())

    plain, shifted = errors(Refinements())
    weights = round_weights(calibrated, Precision.INT4, {}, samples, RUNTIME, 8, lambda done, total: None)
    assert errors(Refinements(weights=weights))[0] < 0.9 * plain
    biases = correct_biases(calibrated, plan, Refinements(), samples, RUNTIME)
    assert {anchor for anchor, _ in biases} == {"mix"}
    assert errors(Refinements(biases))[1] < 0.01 * shifted


def test_blocks_stay_out_because_the_compiler_takes_none_on_the_left() -> None:
    found = groups_from_model(network()[0].graph, {"input": (1, SUMMED, COLUMNS)}, "none", formats=(W8A16, W4A16))
    assert all(W8A16 not in group.excluded for group in found.groups)
    assert all("no blocks" in group.excluded[W4A16] for group in found.groups)


@NEEDS_RTX
@pytest.mark.parametrize("precision", [INT8, FP8, W8A16])
def test_every_product_is_compiled_in_its_format(precision: Precision, tmp_path: Path) -> None:
    prepared, calibrated = network()
    groups = groups_from_model(prepared.graph, {"input": (1, SUMMED, COLUMNS)}, "none", formats=(W8A16,))
    written = Network(prepared.model, prepared.graph, groups, calibrated.ranges).emitter()
    built = outcome(written, groups.uniform(precision), tmp_path, 89)
    kernels = [kernel for kernel in program((tmp_path / built.engine).read_bytes()) if kernel.product is not None]
    assert [set(computed_in(kernel)) for kernel in kernels] == [{precision}] * 2
