"""The comparison with peers: what counts as 8 bit, how a file maps to our groups, and how failures are kept."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from bench.peers import __main__ as command
from bench.peers.adapters.task import Task, batches, spearman, top1
from bench.peers.environments import Environment, InstallationError, pip_error
from bench.peers.judge import (
    Verdict,
    eight_bit_share,
    findings_in,
    multiply_adds,
    plan_of,
    precisions_in,
    relative_latency,
)
from bench.peers.measure import measure
from bench.peers.roster import PEERS, Peer
from bench.peers.rows import Job, Row, read_rows, row_from_json, row_to_json
from bench.peers.subjects import Subject
from bench.peers.table import placement, table
from trt_mpq.errors import ModelError
from trt_mpq.evaluate.metrics import metric_from_name
from trt_mpq.groups import groups_from_model
from trt_mpq.groups.shapes import bind_shapes
from trt_mpq.types import Precision, TensorSpec

SHAPES = {"x": (1, 2, 4, 4)}
CONV_MACS = 3 * 4 * 4 * 2 * 3 * 3
GEMM_MACS = 5 * 3 * 4 * 4
CODES: dict[str, Any] = {"int8": np.int8, "uint8": np.uint8, "int16": np.int16, "fp8": ml_dtypes.float8_e4m3fn}


class Drawn:
    """A Conv and a Gemm; those operands named in `codes` pass through Q and DQ of the type given."""

    def __init__(self, codes: dict[str, str] | None = None, rename: str = "", split_gemm: bool = False) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.codes = codes or {}
        x, w = self.operand("x"), self.operand("w", np.full((3, 2, 3, 3), 0.5, np.float32))
        self.node("Conv", f"{rename}conv", [x, w], "y", pads=[1, 1, 1, 1])
        self.node("Relu", f"{rename}relu", ["y"], "z")
        self.node("Flatten", f"{rename}flatten", ["z"], "flat")
        v = np.full((48, 5), 0.25, np.float32)
        head = [self.operand("flat"), self.operand("v", v)]
        bias = self.constant("bias", np.zeros(5, np.float32))
        if split_gemm:
            self.node("MatMul", f"{rename}product", head, "partial")
            self.node("Add", f"{rename}add", ["partial", bias], "logits")
        else:
            self.node("Gemm", f"{rename}gemm", [*head, bias], "logits")

    def node(self, op_type: str, name: str, inputs: list[str], output: str, **attributes: object) -> None:
        self.nodes.append(helper.make_node(op_type, inputs, [output], name=name, **attributes))

    def constant(self, name: str, values: NDArray[Any]) -> str:
        self.weights.append(numpy_helper.from_array(values, name))
        return name

    def operand(self, name: str, values: NDArray[np.float32] | None = None) -> str:
        if values is not None:
            self.constant(name, values)
        if name not in self.codes:
            return name
        scale = self.constant(f"{name}.scale", np.array(0.5, np.float32))
        zero = self.constant(f"{name}.zero", np.zeros((), CODES[self.codes[name]]))
        self.node("QuantizeLinear", f"{name}.q", [name, scale, zero], f"{name}.codes")
        self.node("DequantizeLinear", f"{name}.dq", [f"{name}.codes", scale, zero], f"{name}.floats")
        return f"{name}.floats"

    def model(self) -> ir.Model:
        """Opset 21, the first with 16-bit codes."""
        graph = helper.make_graph(
            self.nodes, "drawn",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 2, 4, 4])],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", None])],
            self.weights,
        )  # fmt: skip
        proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
        onnx.checker.check_model(proto, full_check=True)
        return cast(ir.Model, ir.from_proto(proto))


ORIGINAL = Drawn().model()


def quantized(**codes: str) -> ir.Model:
    return Drawn(codes).model()


def macs() -> dict[str, int]:
    return multiply_adds(bind_shapes(ORIGINAL, SHAPES))


def share(delivered: ir.Model) -> float:
    return eight_bit_share(macs(), precisions_in(delivered, ORIGINAL, SHAPES))


def test_multiply_adds_are_counted_by_hand() -> None:
    assert macs() == {"conv": CONV_MACS, "gemm": GEMM_MACS}


def test_multiply_adds_of_transposed_and_batched_operators() -> None:
    """A loop over what really is multiplied."""
    nodes = [
        helper.make_node("ConvTranspose", ["a", "k"], ["up"], name="up", strides=[2, 2]),
        helper.make_node("MatMul", ["p", "q"], ["pq"], name="product"),
        helper.make_node("Gemm", ["g", "h"], ["gh"], name="gemm", transA=1, transB=1),
    ]
    shapes = {"a": (1, 2, 3, 3), "k": (2, 4, 2, 2), "p": (2, 3, 4), "q": (2, 4, 5), "g": (7, 6), "h": (8, 7)}
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("up", "pq", "gh")]
    graph = helper.make_graph(nodes, "products", inputs, outputs)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    counted = multiply_adds(bind_shapes(cast(ir.Model, ir.from_proto(proto)), shapes))
    up = sum(1 for _ in np.ndindex(2, 3, 3) for _ in np.ndindex(4, 2, 2))
    assert counted == {"up": up, "product": 2 * 3 * 5 * 4, "gemm": 6 * 8 * 7}


@pytest.mark.parametrize("codes", ["int8", "uint8", "fp8"])
def test_operators_whose_two_operands_are_dequantized_from_8_bit_count(codes: str) -> None:
    assert share(quantized(x=codes, w=codes)) == CONV_MACS / (CONV_MACS + GEMM_MACS)
    assert share(quantized(x=codes, w=codes, flat=codes, v=codes)) == 1


@pytest.mark.parametrize(
    "codes",
    [{}, {"w": "int8"}, {"x": "int8", "flat": "int8"}, {"x": "int16", "w": "int8"}, {"x": "int8", "w": "fp8"}],
    ids=["none", "weights only", "activations only", "16 bit", "two formats"],
)
def test_anything_else_does_not(codes: dict[str, str]) -> None:
    assert share(quantized(**codes)) == 0


def test_formats_are_told_apart() -> None:
    found = precisions_in(quantized(x="fp8", w="fp8", flat="uint8", v="int8"), ORIGINAL, SHAPES)
    assert found == {"conv": Precision.FP8, "gemm": Precision.INT8}


@pytest.mark.parametrize("split_gemm", [False, True])
def test_renamed_operators_are_found_by_their_order(split_gemm: bool) -> None:
    delivered = Drawn({"x": "int8", "w": "int8"}, rename="new.", split_gemm=split_gemm).model()
    assert precisions_in(delivered, ORIGINAL, SHAPES) == {"conv": Precision.INT8, "gemm": Precision.FP16}


def test_a_file_with_other_operators_is_refused() -> None:
    drawn = Drawn(rename="new.")
    drawn.nodes[-1] = helper.make_node("Identity", ["flat"], ["logits"])
    with pytest.raises(ModelError, match="its 1 weighted operators are not the model's 2"):
        precisions_in(drawn.model(), ORIGINAL, SHAPES)


def test_a_group_is_in_8_bit_only_if_all_its_operators_are() -> None:
    grouping = groups_from_model(ORIGINAL, SHAPES, exclusions="none")
    plan = plan_of(grouping, {"conv": Precision.INT8, "gemm": Precision.FP16})
    assert plan.as_dict() == {"conv": Precision.INT8, "gemm": Precision.FP16}
    joined = SimpleNamespace(groups=[SimpleNamespace(id="qk", nodes=("q", "scale", "k"))])
    mixed = plan_of(cast(Any, joined), {"q": Precision.INT8, "k": Precision.FP16})
    assert mixed.as_dict() == {"qk": Precision.FP16}


def test_a_file_without_quantizers_is_as_fast_as_fp16() -> None:
    grouping = groups_from_model(ORIGINAL, SHAPES, exclusions="none")
    assert relative_latency(grouping, precisions_in(ORIGINAL, ORIGINAL, SHAPES)) == 1


def test_unsigned_codes_are_an_error_for_tensorrt() -> None:
    assert findings_in(quantized(x="uint8", w="int8"))["wrong numbers"]["unsigned-codes"] >= 1
    assert not findings_in(quantized(x="int8", w="int8")).keys() & {"refused", "wrong numbers"}


@pytest.mark.parametrize("samples", [2, 40])
def test_peers_are_scored_with_our_metrics(samples: int) -> None:
    random = np.random.default_rng(samples)
    pairs = random.standard_normal((samples, 2, 8)).astype(np.float32)
    people = random.integers(0, 4, samples).astype(np.float32)  # with ties
    people[:2] = 0, 1
    output = (TensorSpec("e", "float32", ("batch", 8)),)
    ours = metric_from_name("spearman", has_labels=True, outputs=output, rows_per_sample=2).accumulator()
    ours.add({"e": pairs}, people, None)
    assert spearman(pairs.reshape(-1, 8), people) == pytest.approx(ours.result().value, abs=1e-12)
    logits = random.standard_normal((samples, 5))
    labels = random.integers(0, 5, samples)
    expected = sum(int(max(range(5), key=lambda c: row[c]) == label) for row, label in zip(logits, labels, strict=True))
    assert top1(logits, labels) == expected / samples


def test_a_task_counts_what_it_scores(tmp_path: Path) -> None:
    arrays = {"x": np.eye(4, dtype=np.float32), "labels": np.array([0, 1, 2, 0])}
    np.savez(tmp_path / "data.npz", **arrays)
    data = str(tmp_path / "data.npz")
    fields: dict[str, object] = {"model": "m.onnx", "metric": "top1", "target": 0.99, "precision": "int8", "batch": 3}
    path = tmp_path / "task.json"
    path.write_text(json.dumps({**fields, "folder": str(tmp_path), "calibration": data, "evaluation": data}))
    task = Task(path)
    session = SimpleNamespace(run=lambda _, feeds: [feeds["x"]])
    assert task.evaluate(session) == 0.75
    task.evaluate(session)
    assert [len(batch["x"]) for batch in batches(task.calibration, task.batch)] == [3, 1]
    task.deliver(notes=("a note",), packages=("numpy",))
    outcome = json.loads((tmp_path / "outcome.json").read_text())
    assert outcome == {"evaluations": 2.0, "notes": ["a note"], "versions": {"numpy": np.__version__}}


def test_ours_counts_ranking_scores_and_delivered_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(command.ADAPTERS))
    evaluations = importlib.import_module("run_trt_mpq").evaluations
    lines = [["c", "p", 0.9, None, 100, 1.0], ["c", "file f", 0.9, None, 50, 1.0]]
    (tmp_path / "evaluations.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    report = {"accuracy": {"samples": 100}}
    assert evaluations(report, tmp_path) == 1.5, "nothing was ranked"
    (tmp_path / "sensitivity.json").write_text('{"forward_passes": 200}')
    assert evaluations(report, tmp_path) == 1.5 + 2.0


JOB = Job("nncf", "resnet20", 0.99, "int8", 64, 200)
VERDICT = Verdict(
    0.995,
    0.75,
    0.7,
    {"wrong numbers": {"unsigned-codes": 20}, "extra kernel": {"standalone": 1}, "note": {"movable": 3}},
)


def test_a_row_survives_its_file(tmp_path: Path) -> None:
    row = Row(JOB, None, 12.5, 300.25, 4.0, VERDICT, {"nncf": "3.4.0"}, ("a note",))
    assert row_from_json(row_to_json(row)) == row
    failed = Row(JOB, failure="does not install: no wheel")
    (tmp_path / f"{JOB.slug}.json").write_text(row_to_json(failed))
    assert read_rows(tmp_path) == (failed,)


def test_the_table_keeps_failures_and_peers_without_a_target() -> None:
    rows = (
        Row(JOB, None, 12.5, 300.25, 4.0, VERDICT, {"nncf": "3.4.0"}, ("a note",)),
        Row(Job("modelopt", "resnet20", None, "fp8", 64, 200), None, 1, 2, 0, Verdict(0.9, 1, 0.6, {}, ("why",))),
        Row(Job("aimet", "resnet20", 0.99, "int8", 64, 200), "does not install: a | b"),
    )
    lines = table(rows).splitlines()
    assert "### resnet20, target 0.99 of FP32 (64 calibration, 200 evaluation samples)" in lines
    nncf, aimet, modelopt = (line for line in lines if line.count(" | ") == 9 and "peer" not in line)
    assert nncf == (
        "| NNCF, accuracy control | int8 | 99.50% | kept | 75.0% | 0.700 | 4.0 | 12 | 300 | findings".replace(
            "findings", "wrong numbers 20 (unsigned-codes 20); extra kernel 1 (standalone 1) |"
        )
    )
    assert aimet == (
        "| AIMET, automatic mixed precision | int8 |  | failed |  |  |  | ? | ? | does not install: a \\| b |"
    )
    assert modelopt.startswith("| Model Optimizer, ONNX PTQ | fp8 | 90.00% | missed, takes none | 100.0% |")
    assert modelopt.endswith("| holds |")
    assert "- NNCF, accuracy control, int8: a note" in lines
    assert "- Model Optimizer, ONNX PTQ, fp8: why" in lines
    assert "| NNCF, accuracy control | nncf 3.4.0 |" in lines


def test_notes_of_the_linter_stand_in_no_kernels_way() -> None:
    assert placement(Verdict(1, 1, 1, {"note": {"movable": 3}})) == "holds"


def test_a_verdict_on_the_edge_of_the_target_keeps_it() -> None:
    row = Row(JOB, None, 1, 1, 1, Verdict(0.99 - 1e-16, 1, 1, {}))
    assert "| kept |" in table((row,))


@pytest.fixture
def subject(tmp_path: Path) -> Subject:
    """What a job needs to know of a subject, without data."""
    files = SimpleNamespace(calibration=tmp_path / "c.npz", evaluation=tmp_path / "e.npz")
    (tmp_path / "m.onnx").write_bytes(b"the model")
    fake = SimpleNamespace(
        name="resnet20", source=tmp_path / "m.onnx", metric="top1", arrays=files, real=None,
        evaluation=SimpleNamespace(rows=1), calibration_samples=64, evaluation_samples=200,
    )  # fmt: skip
    return cast(Subject, fake)


@pytest.mark.parametrize(
    ("script", "failure"),
    [
        ("print('busy'); raise ImportError('no such wheel')", "exit code 1: ImportError: no such wheel"),
        ("print('all done')", "exit code 0: all done"),
        ("import time; time.sleep(600)", "not done after 2 s"),
    ],
    ids=["error", "no outcome", "too slow"],
)
def test_a_peer_that_fails_is_a_row(
    script: str, failure: str, subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "CACHE", tmp_path / "cache")
    (tmp_path / "run_it.py").write_text(script)
    row = command.perform(JOB, Peer("it", "It", str(tmp_path / "run_it.py"), ()), subject, tmp_path, timeout_s=2)
    assert row.failure == failure
    assert row.seconds is not None
    assert row.verdict is None


def test_a_peer_that_writes_its_model_anew_leaves_that_of_the_others(
    subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Model Optimizer does so while it looks at the file, which others may read just then."""
    monkeypatch.setattr(command, "CACHE", tmp_path / "cache")
    reads = "import json, pathlib; model = json.loads(pathlib.Path('task.json').read_text())['model']"
    script = f"{reads}; pathlib.Path(model).write_text('half'); print('done')"
    (tmp_path / "run_it.py").write_text(script)
    row = command.perform(JOB, Peer("it", "It", str(tmp_path / "run_it.py"), ()), subject, tmp_path, timeout_s=60)
    assert row.failure == "exit code 0: done"
    assert subject.source.read_bytes() == b"the model"


def test_a_peer_that_does_not_install_is_a_row_and_is_not_tried_again(subject: Subject, tmp_path: Path) -> None:
    record = {"requirements": ["it==1"], "failure": "ERROR: No matching distribution found for it==1", "installed": []}
    (tmp_path / "it.json").write_text(json.dumps(record))
    with pytest.raises(InstallationError, match="No matching distribution"):
        Environment(tmp_path / "it", ("it==1",)).python()
    row = command.perform(JOB, Peer("it", "It", "run_it.py", ("it==1",)), subject, tmp_path, 1)
    assert row.failure == "does not install: ERROR: No matching distribution found for it==1"


def test_what_pip_says() -> None:
    text = "WARNING: old\nERROR: no version\nERROR: No matching distribution\n[notice] update\n"
    assert pip_error(text) == "ERROR: No matching distribution"
    assert pip_error("killed\n") == "killed"


def test_memory_of_grandchildren_counts(tmp_path: Path) -> None:
    child = "import time; block = bytearray(b'1' * (96 << 20)); time.sleep(1)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}], check=True)"
    measured = measure([sys.executable, "-c", parent], tmp_path, tmp_path / "log.txt", 60, {})
    assert measured.code == 0
    assert measured.peak_mib > 96


@pytest.mark.parametrize(("code", "killed"), [("while True: pass", True), ("import time; time.sleep(3)", False)])
def test_a_process_may_be_given_seconds_of_its_own_instead_of_the_clock(tmp_path: Path, code: str, killed: bool):
    measured = measure([sys.executable, "-c", code], tmp_path, tmp_path / "log.txt", 1, {}, of_cpu=True)
    assert (measured.code is None) is killed


def test_peers_without_a_target_have_one_job_per_format(subject: Subject) -> None:
    found = list(command.jobs([PEERS["nncf"], PEERS["modelopt"]], [0.99, 0.999], subject))
    asked = [(job.peer, job.precision, job.target) for job in found]
    assert asked == [
        ("nncf", "int8", 0.99),
        ("nncf", "int8", 0.999),
        ("modelopt", "int8", None),
        ("modelopt", "fp8", None),
    ]


def test_every_adapter_is_there() -> None:
    for peer in PEERS.values():
        assert (command.ADAPTERS / peer.script).is_file()
        assert all("==" in requirement for requirement in peer.requirements)
