"""Kinds of runs and data, and what a run refuses."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from tests.networks import Builder, mlp
from tests.prepared import normal
from tests.runs import Recorder, stages_at_work, start, tiny_cnn, write_data
from tests.sensitivity.examples import fix_batch
from trt_mpq import model
from trt_mpq._data import data_folder
from trt_mpq.artifacts.files import from_json
from trt_mpq.engine.handover import read_network
from trt_mpq.errors import DataError, MetricError, RunFolderError, RuntimeFailure, SettingsError, TargetNotReachable
from trt_mpq.evaluate.scorer import Scoring
from trt_mpq.pipeline import delivery
from trt_mpq.pipeline.gpu import Gpu
from trt_mpq.pipeline.run import opened_for_ranking
from trt_mpq.report.verdict import remarks
from trt_mpq.runtime.onnxruntime import OnnxRuntime
from trt_mpq.types import Precision, Score, SearchResult

FP32, FP16, BF16, _, INT8, INT4 = map(Precision, ("fp32", "fp16", "bf16", "fp8", "int8", "int4"))


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, str]:
    return write_data(tmp_path_factory.mktemp("data"), tiny_cnn())


def test_a_4_bit_plan_is_not_deployable_and_says_so(files, tmp_path):
    report = start(files, tmp_path / "run", precisions="int4", target_accuracy=0.2, search="greedy").report()
    if report.plan.counts.get(INT4):
        assert not report.plan.deployable
        assert any("INT4 is for study" in warning for warning in report.warnings)
        assert report.not_done == ("no engine: the plan is not deployable",)
    result = from_json((tmp_path / "run" / "search.json").read_bytes(), SearchResult)
    assert any(INT4 in tried.plan.counts() for tried in result.path)


def test_a_study_plan_in_4_bit_is_marked_in_its_files(files, tmp_path):
    run = start(files, tmp_path / "run", precisions="int4", target_accuracy=0.01, search="uniform", device="h200")
    report = run.report()
    chosen = report.plan.counts
    assert chosen in ({INT4: 4}, {FP16: 4}), "whichever is modelled to be faster"
    model = onnx.load(tmp_path / "run" / "typed.onnx")
    marks = {entry.key: entry.value for entry in model.metadata_props}
    assert marks["trt_mpq.deployable"] == str(INT4 not in chosen).lower()


def test_without_labels_plans_are_judged_by_fidelity(files, tmp_path):
    unlabelled = {}
    for name in ("calib", "eval"):
        np.savez(tmp_path / f"{name}.npz", input=np.load(files[name])["input"])
        unlabelled[name] = str(tmp_path / f"{name}.npz")
    report = start({**files, **unlabelled}, tmp_path / "run").report()
    assert report.accuracy.metric == "sqnr"
    assert report.accuracy.fp32 == 1.0
    assert 0.98 <= report.accuracy.plan < 1.0


@pytest.fixture(scope="module")
def detector(tmp_path_factory) -> dict[str, str]:
    """A network whose second output holds the places of large scores, and its data without labels."""
    b = Builder(0)
    features = b.relu("stem.relu", b.conv("stem", "input", (3, 16)))
    large = b.constant("threshold", np.float32(0.6))
    b.node("Sigmoid", "scores", [b.conv("head", features, (16, 16), kernel=1)])
    proto = b.model((3, 8, 8), (16, 8, 8))
    proto.graph.node.append(onnx.helper.make_node("Greater", ["output", large], ["large"], name="large"))
    proto.graph.node.append(onnx.helper.make_node("NonZero", ["large"], ["places"], name="places"))
    proto.graph.output.append(onnx.helper.make_tensor_value_info("places", onnx.TensorProto.INT64, [4, "found"]))
    folder = tmp_path_factory.mktemp("detector")
    onnx.save(proto, folder / "net.onnx")
    np.savez(folder / "data.npz", input=normal(12, 3, 8, 8))
    return {"model": str(folder / "net.onnx"), "calib": str(folder / "data.npz")}


@pytest.mark.refused("NonZero plugin creator")
def test_what_can_be_compared_is_and_what_cannot_is_said(detector, tmp_path):
    report = start(detector, tmp_path / "run", metric="sqnr", batch=4).report()
    assert report.accuracy.fp32 == 1.0
    assert 0.98 <= report.accuracy.plan < 1.0
    assert [output.output for output in report.comparison.outputs] == ["output"]
    assert any("places is not compared: its size depends on the data" in text for text in report.warnings)
    assert [value.name for value in onnx.load(tmp_path / "run" / "typed.onnx").graph.output] == ["output", "places"]


@pytest.mark.refused("NonZero plugin creator")
def test_a_tensor_inside_can_be_what_counts(detector, tmp_path):
    """The groups behind it do not matter then, and files are judged and compared by it."""
    run = start(
        detector, tmp_path / "run", outputs="stem.relu.out", precisions="int8", sensitivity="task-loss", batch=4
    )
    report = run.report()
    growth = run.sensitivities().rankings[0].scores[INT8]
    assert growth["head"] == 0.0 < growth["stem"]
    assert [output.output for output in report.comparison.outputs] == ["stem.relu.out"]
    with pytest.raises(SettingsError, match="--outputs: the prepared model computes no tensor 'stem'"):
        start(detector, tmp_path / "other", outputs="stem").report()


def test_without_evaluation_data_a_note_says_what_that_means(files, tmp_path):
    given = {name: value for name, value in files.items() if name != "eval"}
    report = start(given, tmp_path / "run").report()
    assert report.accuracy.samples == 24
    assert "no --eval was given: plans are judged on the calibration data, which flatters them" in report.warnings


def test_without_calibration_data_only_the_groups_are_found(files, tmp_path):
    run = start({"model": files["model"]}, tmp_path / "run")
    assert len(run.inspect().groups) == 4
    with pytest.raises(DataError, match="no calibration data: pass --calib"):
        run.calibrate()


def test_a_fixed_batch_dimension_goes_through(tmp_path):
    files = write_data(tmp_path, tiny_cnn(), calib=10, evaluation=30)
    onnx.save(fix_batch(tiny_cnn(), 4), tmp_path / "fixed.onnx")
    fixed = start({**files, "model": str(tmp_path / "fixed.onnx")}, tmp_path / "fixed").report()
    free = start(files, tmp_path / "free", batch=4).report()
    assert fixed.latency_ms.batch == 4
    assert fixed.accuracy.samples == 30
    assert fixed.accuracy.fp32 == free.accuracy.fp32
    assert fixed.latency_ms.fp16 == pytest.approx(free.latency_ms.fp16), "counts of a fixed batch hold for all of it"


def test_equalization_is_reported_against_the_original_model(files, tmp_path):
    """By a frontier, which has no target that makes a score superfluous."""
    report = start(files, tmp_path / "run", search="pareto", equalize=True).report()
    assert report.refinement[0].name == "equalization"
    assert report.refinement[0].detail == "1 pair of layers rescaled"
    plain = start(files, tmp_path / "plain", search="pareto").report()
    uncorrected = next(record.before for record in plain.refinement if record.name == "bias correction")
    assert report.refinement[0].before == uncorrected is not None
    assert report.accuracy.fp32 == plain.accuracy.fp32


def test_data_of_another_size_equalizes_anew(tmp_path, monkeypatch):
    """What equalization goes by are the groups, which follow from the sizes that the data has."""
    proto = tiny_cnn()
    for axis in (2, 3):
        proto.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = f"size{axis}"
    onnx.save(proto, tmp_path / "net.onnx")
    files = {"model": str(tmp_path / "net.onnx")}
    done = []
    for size in (8, 12, 12):
        np.savez(tmp_path / f"{size}.npz", input=np.zeros((4, 3, size, size), np.float32) + 1)
        worked = stages_at_work(monkeypatch)
        start({**files, "calib": str(tmp_path / f"{size}.npz")}, tmp_path / "run", equalize=True).inspect()
        done.append("equalized" in worked)
        monkeypatch.undo()
    assert done == [True, True, False]


def test_smoothing_is_reported_against_the_model_before_it(tmp_path):
    files = write_data(tmp_path, mlp())
    report = start(files, tmp_path / "run", smooth=True, calibration="mse").report()
    plain = start(files, tmp_path / "plain", calibration="mse").report()
    record = report.refinement[0]
    assert (record.name, record.detail) == ("smoothing", "2 tensors smoothed; 1 left: it is an input")
    assert record.before == plain.refinement[0].before
    assert record.after == report.refinement[1].before, "bias correction starts from the smoothed model"
    assert report.accuracy.fp32 == plain.accuracy.fp32, "the target is that of the original model"


def test_smoothing_follows_equalization_and_each_is_reported(tmp_path):
    b = Builder(0)
    x = b.conv("b", b.relu("a.relu", b.conv("a", "input", (3, 16))), (16, 16))
    x = b.node("Flatten", "flat", [b.node("GlobalAveragePool", "pool", [b.relu("b.relu", x)])])
    b.gemm("d", b.relu("c.relu", b.gemm("c", x, (16, 32))), (32, 10))
    files = write_data(tmp_path, b.model((3, 8, 8), (10,)))
    report = start(files, tmp_path / "run", search="pareto", smooth=True, equalize=True).report()
    equalization, smoothing = report.refinement[:2]
    correction = next(record for record in report.refinement if record.name == "bias correction")
    assert (equalization.detail, smoothing.detail) == (
        "1 pair of layers rescaled",
        "1 tensor smoothed; 1 left: no constants before its Flatten can take it",
    )
    assert equalization.after == smoothing.before
    assert smoothing.after == correction.before
    outputs = (
        OnnxRuntime(1)
        .load(tmp_path / "run" / "smoothed.onnx")
        .run(feeds := {"input": np.ones((2, 3, 8, 8), np.float32)})
    )
    original = OnnxRuntime(1).load(tmp_path / "run" / "model.onnx").run(feeds)
    np.testing.assert_allclose(outputs["output"], original["output"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("weights", ["in the file", "beside it"])
def test_another_alpha_or_other_data_smooth_anew(tmp_path, monkeypatch, weights):
    """Weights of large models lie in a file of their own, which belongs to what tells one model from another."""
    if weights == "beside it":
        monkeypatch.setattr(model, "_EXTERNAL_DATA_BYTES", 0)
    files = write_data(tmp_path, mlp())

    def smoothed(**settings: object) -> str:
        run = start(files, tmp_path / "run", smooth=True, **settings)
        run.calibrate()
        return read_network(run.store.folder).model.sha256

    assert len({smoothed(), smoothed(smooth_alpha=0.6), smoothed(calib_samples=4)}) == 3
    assert smoothed() == smoothed()


def overflowing() -> onnx.ModelProto:
    """`first` writes values beyond the FP16 range, `second` brings them back; `third` and a classifier follow."""
    b = Builder(0)
    large = b.constant("first.weight", (b.random.standard_normal((16, 3, 3, 3)) * 30000).astype(np.float32))
    x = b.relu("first.relu", b.node("Conv", "first", ["input", large], kernel_shape=[3, 3], pads=[1] * 4))
    small = b.constant("second.weight", (b.random.standard_normal((16, 16, 3, 3)) / 1e6).astype(np.float32))
    x = b.relu("second.relu", b.node("Conv", "second", [x, small], kernel_shape=[3, 3], pads=[1] * 4))
    b.classifier(b.relu("third.relu", b.conv("third", x, (16, 16))), 16, 10)
    return b.model((3, 8, 8), (10,))


def without_bf16(folder: Path) -> str:
    """A device model like a GPU before Ampere: Orin without BF16."""
    text = (data_folder("targets") / "orin-agx.toml").read_text()
    stripped = re.sub(r"\[peak_tops\.bf16\]\n(.+\n)+", "", text).replace('"orin-agx"', '"old"')
    (folder / "old.toml").write_text(stripped)
    return str(folder / "old.toml")


@pytest.mark.parametrize(
    ("device", "precision", "tail"),
    [("orin-agx", BF16, ", so it runs in BF16"), (without_bf16, FP32, ", so it runs in FP32: old has no BF16")],
)
def test_an_overflowing_network_leaves_fp16_for_what_the_device_has(tmp_path, device, precision, tail):
    files = write_data(tmp_path, overflowing())
    named = device if isinstance(device, str) else device(tmp_path)
    report = start(files, tmp_path / "run", target_accuracy=0.5, device=named).report()
    rows = {row.id: row for row in report.group_rows}
    assert rows["first"].precision is rows["second"].precision is precision
    assert rows["third"].precision not in (FP32, BF16)
    assert "beyond the FP16 range of 65504" in rows["first"].reason
    assert rows["first"].reason.endswith(tail)
    assert f"first leaves FP16: {rows['first'].reason}" in report.warnings
    weak = [warning for warning in report.warnings if warning.startswith("weak.onnx has 2 groups of the plan in FP32")]
    assert len(weak) == (precision is BF16)
    pinned = json.loads((tmp_path / "run" / "constraints.json").read_text())
    assert pinned["first"] == pinned["second"] == "fp32"
    typed = ir.load(tmp_path / "run" / "typed.onnx")
    types = {node.name: node.outputs[0].dtype for node in typed.graph}
    wanted = {BF16: ir.DataType.BFLOAT16, FP32: ir.DataType.FLOAT}[precision]
    assert types["first"] is types["second"] is types["second.relu"] is wanted
    outputs = OnnxRuntime(1).load(tmp_path / "run" / "typed.onnx").run({"input": np.ones((1, 3, 8, 8), np.float32)})
    assert np.isfinite(outputs["output"]).all()


def test_bf16_on_top_holds_what_fp16_cannot(tmp_path):
    """No group is kept out, not even of 8 bit; what is reported is BF16's, and 8.6 cannot have it."""
    files = write_data(tmp_path, overflowing())
    run = start(files, tmp_path / "run", precisions="bf16,int8", target_accuracy=0.5, search="uniform", batch=8192)
    report = run.report()
    assert report.search.ladder == (BF16, INT8)
    assert set(report.plan.counts) == {INT8}
    assert not any("leaves" in warning for warning in report.warnings)
    assert "no weak.onnx was written: the weakly typed flavour (TensorRT 8.6) cannot hold bf16" in "".join(
        report.warnings
    )
    assert not (tmp_path / "run" / "weak.onnx").exists()
    found = json.loads((tmp_path / "run" / "report.json").read_text())
    assert found["baseline"] == "bf16"
    assert found["accuracy"]["fp16"] is found["latency_ms"]["fp16"] is found["size_bytes"]["fp16"] is None
    assert found["accuracy"]["uniform"].keys() == {"bf16", "int8"}
    typed = ir.load(tmp_path / "run" / "typed.onnx")
    quantizers = [node for node in typed.graph if node.op_type == "QuantizeLinear"]
    assert quantizers
    assert {node.inputs[1].dtype for node in quantizers} == {ir.DataType.BFLOAT16}
    scores = json.loads((tmp_path / "run" / "verification.json").read_text())
    assert scores.keys() >= {"reference", "typed"}


def test_bf16_is_refused_on_a_gpu_without_it(files, tmp_path):
    with pytest.raises(SettingsError, match="old has no bf16 arithmetic: leave bf16 out of --precisions"):
        start(files, tmp_path / "run", precisions="bf16,int8", device=without_bf16(tmp_path))


def test_scores_of_one_high_precision_are_not_taken_for_another_s(files, tmp_path):
    """The all-INT8 plan is spelled alike on both ladders and computes in another float type."""
    start(files, tmp_path / "run", precisions="fp16,int8", search="uniform").report()
    recorder = Recorder()
    start(files, tmp_path / "run", recorder, precisions="bf16,int8", search="uniform").report()
    assert {tuple(tried.plan.counts()) for tried in recorder.evaluations} == {(BF16,), (INT8,)}
    assert "Correcting biases for uniform int8 by mse" in recorder.stages
    assert "Calibrating" not in recorder.stages, "ranges are the same"


# Refusals.


def test_a_target_nobody_can_meet_names_the_best_plan_found(files, tmp_path):
    run = start(files, tmp_path / "run", metric="sqnr", target_accuracy=1.0)
    with pytest.raises(
        TargetNotReachable, match=r"reaches the required score bit-equal: the best \(uniform fp16: 4 x fp16\)"
    ) as e:
        run.report()
    assert "FP16 alone misses the target too: all its values are finite" in str(e.value)
    assert not (tmp_path / "run" / "report.json").exists()


def test_fp8_on_a_gpu_without_it_is_refused_before_anything_is_written(files, tmp_path):
    with pytest.raises(SettingsError, match="orin-agx has no fp8 arithmetic: leave fp8 out of --precisions"):
        start(files, tmp_path / "run", precisions="fp8", device="orin-agx")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"device": "h300"}, SettingsError, "unknown device 'h300'"),
        ({"search": "best"}, SettingsError, "unknown search 'best'"),
        ({"sensitivity": "feeling"}, SettingsError, "feeling"),
        ({"calibration": "median"}, SettingsError, "unknown calibration 'median': choose from minmax, percentile"),
    ],
)
def test_unknown_names_are_refused_before_anything_is_written(files, tmp_path, change, error, message):
    with pytest.raises(error, match=message):
        start(files, tmp_path / "run", **change)
    assert not (tmp_path / "run").exists()


def test_an_unknown_metric_is_refused_before_calibration(files, tmp_path):
    observer = Recorder()
    with pytest.raises(MetricError, match="unknown metric 'guess'"):
        start(files, tmp_path / "run", observer, metric="guess").report()
    assert observer.events == []


def test_another_models_folder_is_refused(files, tmp_path):
    start(files, tmp_path / "run")
    onnx.save(tiny_cnn(seed=1), tmp_path / "other.onnx")
    with pytest.raises(RunFolderError, match="belongs to another model"):
        start({**files, "model": str(tmp_path / "other.onnx")}, tmp_path / "run")


def test_a_reference_file_that_scores_otherwise_is_an_error(files, tmp_path, monkeypatch):
    run = start(files, tmp_path / "run", search="uniform")
    run.search()
    monkeypatch.setattr(delivery, "holds_reference", lambda *_: False)  # else it is known to hold what was scored
    monkeypatch.setattr(Scoring, "result", lambda self: Score(0.123, None, 100))
    with pytest.raises(RuntimeFailure, match=r"reference.onnx scores .* and the search measured .* delete"):
        run.emit()


# The user's own metric.


def test_a_users_metric_that_changes_is_asked_again(files, tmp_path, monkeypatch):
    module = tmp_path / "my_own_metric.py"
    monkeypatch.chdir(tmp_path)
    scores = []
    for factor in (1.0, 0.5):
        module.write_text(
            f"import numpy as np\ndef score(outputs, labels):\n    return {factor} * np.ones(len(labels))\n",
            encoding="utf-8",
        )
        sys.modules.pop("my_own_metric", None)
        report = start(files, tmp_path / "run", metric="my_own_metric:score", search="uniform").report()
        scores.append((report.accuracy.fp32, report.accuracy.plan))
    assert scores == [(1.0, 1.0), (0.5, 0.5)]


def test_a_users_metric_that_fails_does_so_before_calibration(files, tmp_path, monkeypatch):
    (tmp_path / "failing_metric.py").write_text("def score(outputs, labels):\n    return 1 / 0\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    observer = Recorder()
    with pytest.raises(MetricError, match=r"metric failing_metric:score raised ZeroDivisionError"):
        start(files, tmp_path / "run", observer, metric="failing_metric:score").report()
    assert observer.stages == ["Scoring FP32"]


def test_no_gpu_is_looked_for_where_no_engine_is_wanted(tmp_path, monkeypatch):
    """On a cluster that would mean to wait until one is free."""

    def find(gpu: Gpu) -> None:
        raise AssertionError("nobody asked for an engine")

    monkeypatch.setattr(Gpu, "_find", find)
    report = start(
        write_data(tmp_path, mlp()), tmp_path / "run", latency="modelled", engine={"build": "never"}
    ).report()
    assert "it was not asked for" in report.not_done[0]


def test_a_worker_ranks_without_knowing_what_plans_take(tmp_path, monkeypatch):
    """On another machine of a cluster the latencies that the search goes by cannot be had, and are not needed."""
    run = start(write_data(tmp_path, mlp()), tmp_path / "run")
    run.search()

    def choose(*_: object) -> None:
        raise AssertionError("a worker times nothing")

    monkeypatch.setattr("trt_mpq.pipeline.search.choose_latency", choose)
    inputs = opened_for_ranking(run.settings, tmp_path / "run")
    assert inputs.network.grouping.groups == run.inspect().groups


def test_the_delivered_plan_is_judged_on_a_third_set(files, tmp_path):
    arrays = dict(np.load(files["eval"]))
    held = tmp_path / "held.npz"
    np.savez(held, **{name: values[::2] for name, values in arrays.items()})
    report = start(files, tmp_path / "run", holdout=str(held), search="uniform").report()
    found = report.accuracy.holdout
    assert found is not None
    assert (found.source, found.plan.samples) == (str(held), len(arrays["labels"][::2]))
    assert found.kept == (found.plan.value >= found.required)
    assert any(remark.startswith("On the holdout set the plan ") for remark in remarks(report))
