"""Networks with states: plans are judged on sequences that run step by step, each with the states it comes to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.networks import stream, streaming
from tests.runs import Recorder, start
from trt_mpq.errors import SettingsError
from trt_mpq.pipeline.run import Run

STEPS = 7


def run(folder: Path, rows: int | str = "batch", proto: onnx.ModelProto | None = None, **settings: object) -> Run:
    """A run on sequences whose labels are what FP32 says of every step."""
    onnx.save(proto or streaming(rows), folder / "net.onnx")
    for name, count, seed in (("calib", 9, 1), ("eval", 40, 2)):
        x = np.random.default_rng(seed).standard_normal((count, STEPS, 12)).astype(np.float32)
        np.savez(folder / f"{name}.npz", x=x, labels=stream(streaming(), x).argmax(-1))
    files = {"model": str(folder / "net.onnx"), **{name: str(folder / f"{name}.npz") for name in ("calib", "eval")}}
    wanted = {"states": "next_state:state", "metric": "sqnr", "target_accuracy": 0.7, "batch": 8, "search": "uniform"}
    return start(files, folder / "run", Recorder(), **{**wanted, **settings})


@pytest.mark.parametrize("rows", ["batch", 4])
def test_a_plan_is_judged_by_what_it_says_with_its_own_states(rows: int | str, tmp_path: Path) -> None:
    found = run(tmp_path, rows, batch=8 if rows == "batch" else 4)
    found.emit()
    x, at_once = np.load(tmp_path / "eval.npz")["x"], 1 if rows == "batch" else 4
    exact, given = (
        stream(model, x, at_once).reshape(len(x), -1) for model in (streaming(rows), tmp_path / "run/reference.onnx")
    )
    noise = np.square(given - exact).sum(axis=1) / np.square(exact).sum(axis=1)
    assert noise.min() > 1e-7  # of a plan that is FP32 all scores would be right
    assert 1 - found.search().chosen.score.value == pytest.approx(noise.mean(), rel=1e-3)
    assert found.search().chosen.score.samples == len(x)


def test_labels_may_be_of_steps(tmp_path: Path) -> None:
    found = run(tmp_path, metric="accuracy")
    found.emit()
    data = np.load(tmp_path / "eval.npz")
    right = stream(tmp_path / "run/reference.onnx", data["x"]).argmax(-1) == data["labels"]
    assert found.search().chosen.score.value == pytest.approx(right.mean())


def test_it_is_calibrated_on_the_states_that_fp32_comes_to(tmp_path: Path) -> None:
    """Without them the product of the state would see zeros alone, and its range be empty."""
    found = run(tmp_path, calibration="minmax")
    x = np.load(tmp_path / "calib.npz")["x"]
    states = np.zeros((len(x), 16), np.float32)
    weights = {w.name: onnx.numpy_helper.to_array(w) for w in streaming().graph.initializer}
    largest = 0.0
    for step in range(STEPS - 1):  # what the last step comes to is fed to none
        states = np.tanh(x[:, step] @ weights["see.weight"] + states @ weights["keep.weight"])
        largest = max(largest, float(np.abs(states).max()))
    assert found.calibrate().tensors["unpack.out"].magnitude == pytest.approx(largest, rel=1e-5)


def test_all_of_a_run_takes_sequences(tmp_path: Path) -> None:
    """Ranking, search, refinement, comparison, layers and report; the file is compared step by step."""
    found = run(
        tmp_path, search="ilp", target_accuracy=0.995, holdout=str(tmp_path / "calib.npz"), sensitivity="noise,fisher"
    )
    report = found.report()
    assert report.accuracy.holdout is not None
    (output,) = found.compare().outputs
    assert (output.output, output.passed) == ("scores", True)
    assert any("next_state is not compared: it is a state" in note for note in report.warnings)


def test_what_only_later_steps_suffer_from_counts_in_rankings(tmp_path: Path) -> None:
    """A layer that writes nothing but the state: no single step's scores show what it loses."""
    proto = streaming()
    *_, last = proto.graph.node
    last.input[0] = "more.out"
    for op_type, operands, name in (("Relu", ["now.out"], "lift"), ("MatMul", ["lift.out", "keep.weight"], "more")):
        node = onnx.helper.make_node(op_type, operands, [f"{name}.out"], name)
        proto.graph.node.insert(len(proto.graph.node) - 1, node)
    (ranking,) = run(tmp_path, proto=proto).sensitivities().rankings
    assert ranking.scores["int8"]["more"] > 0


@pytest.mark.parametrize(
    ("states", "message"),
    [
        ("nothing:state", "nothing:state is to be an output and an input.*outputs are scores, next_state"),
        ("scores:state", r"scores FLOAT \[batch,5\] cannot be state FLOAT \[1,batch,16\] at the next step"),
        ("next_state", "spell it OUTPUT:INPUT, as in stateN:state"),
    ],
)
def test_what_cannot_be_a_state_is_refused(states: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=message):
        run(tmp_path, states=states).calibrate()
