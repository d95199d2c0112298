"""Every rule is triggered by graphs made for it, alone, and by nothing that is sound."""

from __future__ import annotations

import sys
from pathlib import Path

import onnx
import onnx_ir as ir
import pytest

from tests.lint.cases import BROKEN, PAIRS, SOUND, Case, conv, qdq
from trt_mpq.errors import ModelError
from trt_mpq.lint import RULES, Finding, Severity, lint_graph

IDS = [rule for rules in RULES.values() for rule in rules]
GOLDEN = Path(__file__).parents[1] / "golden" / "lint" / "findings.txt"
CASES = [(rule, case) for rule, cases in BROKEN.items() for case in cases]


def line(finding: Finding) -> str:
    where = f"{', '.join(finding.nodes)} | {', '.join(finding.tensors)}"
    return f"{finding.severity}, {finding.rule}: {where}\n    {finding.message}\n"


def all_findings() -> str:
    return "".join(line(finding) for _, case in CASES for finding in lint_graph(case.model()))


def test_every_rule_has_graphs_that_break_it() -> None:
    assert list(BROKEN) == sorted(BROKEN, key=IDS.index)
    assert len(set(IDS)) == len(IDS)


@pytest.mark.parametrize(("rule", "case"), CASES, ids=[f"{rule}-{i}" for i, (rule, _) in enumerate(CASES)])
def test_a_broken_graph_breaks_its_rule_and_no_other(rule: str, case: Case) -> None:
    assert {finding.rule for finding in lint_graph(case.model())} == {rule}


@pytest.mark.parametrize("rule", PAIRS)
def test_its_neighbour_breaks_none(rule: str) -> None:
    for pair in PAIRS[rule]:
        assert {finding.rule for finding in lint_graph(pair.keeps.model())} <= {"no-quantizers"} - {rule}


@pytest.mark.parametrize("op_type", ["Conv", "ConvTranspose"])
def test_output_channels_of_a_transposed_convolution_are_its_second_axis(op_type: str) -> None:
    found = set()
    for axis in (0, 1):
        weight = f"[w_dq] wd = DequantizeLinear<axis={axis}>(w, ws, wz) "
        body = qdq("a", "x") + weight + conv("y", "a").replace("Conv", op_type)
        found |= {(axis, finding.rule) for finding in lint_graph(Case(body).model()) if finding.rule == "weight-axis"}
    assert found == {(1 if op_type == "Conv" else 0, "weight-axis")}


@pytest.mark.parametrize("name", SOUND)
def test_a_sound_graph_has_no_findings(name: str) -> None:
    assert lint_graph(SOUND[name].model()) == ()


def test_findings_name_nodes_and_tensors_of_the_graph_and_say_what_to_do() -> None:
    for rule, case in CASES:
        model = case.model()
        nodes = {node.name for node in model.graph}
        tensors = {value.name for value in (*model.graph.inputs, *model.graph.initializers.values())}
        tensors |= {value.name for node in model.graph for value in node.outputs}
        for finding in lint_graph(model):
            assert set(finding.nodes) <= nodes
            assert set(finding.tensors) <= tensors
            assert ": " in finding.message, rule


def test_findings_as_reviewed() -> None:
    assert all_findings() == GOLDEN.read_text()


def test_errors_come_first() -> None:
    assert list(RULES) == list(Severity)
    levels = [severity.level for severity in Severity]
    assert levels == sorted(levels, key=["error", "warning", "note"].index)


def test_linting_changes_nothing() -> None:
    for _, case in CASES:
        model = case.model()
        before = ir.to_proto(model).SerializeToString(deterministic=True)
        lint_graph(model)
        assert ir.to_proto(model).SerializeToString(deterministic=True) == before


def test_a_deep_graph_is_no_deep_recursion() -> None:
    relus = "".join(f"[r{i}] t{i + 1} = Relu(t{i}) " for i in range(1100))
    turns = "".join(f"[m{i}] u{i + 1} = Transpose<perm=[0,1,3,2]>(u{i}) " for i in range(1100))
    body = "[first] t0 = Neg(x) " + relus + qdq("u0", "t1100") + turns + "[last] y = Softmax(u1100)"
    assert [finding.rule for finding in lint_graph(Case(body).model())] == ["standalone"]


@pytest.mark.parametrize(
    "text",
    [
        '<ir_version: 8, opset_import: ["":17]> g (float[N,4] x) => (float[N,4] y) { y = other.Op(x) }',
        '<ir_version: 8, opset_import: ["":17]> g (float[N,4] x) => (float[N,4] y) { y = Relu(z) z = Relu(x) }',
    ],
    ids=["a domain without version", "a wrong order"],
)
def test_an_invalid_graph_is_refused(text: str) -> None:
    with pytest.raises(ModelError, match="the graph is not valid ONNX"):
        lint_graph(ir.from_proto(onnx.parser.parse_model(text)))


if __name__ == "__main__":
    GOLDEN.write_text(all_findings())
    sys.stdout.write(GOLDEN.read_text())
