"""The placement linter: what TensorRT would make of an ONNX file with explicit Q/DQ, and why.

It reads any file, ours or another tool's. A rule is a small function and one row in the table of its severity, which is
a module. What NVIDIA's compiler says to the graphs of every rule is in `bench/results/lint-truth.md`.
"""

from __future__ import annotations

import onnx_ir as ir

from trt_mpq.lint.extra_kernel import EXTRA_KERNEL
from trt_mpq.lint.findings import Finding, Severity
from trt_mpq.lint.graph import QdqGraph
from trt_mpq.lint.high_precision import HIGH_PRECISION
from trt_mpq.lint.notes import NOTES
from trt_mpq.lint.refused import REFUSED
from trt_mpq.lint.wrong_numbers import WRONG_NUMBERS

__all__ = ["RULES", "Finding", "Severity", "lint_graph"]

RULES = {
    Severity.REFUSED: REFUSED,
    Severity.WRONG_NUMBERS: WRONG_NUMBERS,
    Severity.HIGH_PRECISION: HIGH_PRECISION,
    Severity.EXTRA_KERNEL: EXTRA_KERNEL,
    Severity.NOTE: NOTES,
}
"""Every rule by its severity, worst first."""


def lint_graph(model: ir.Model) -> tuple[Finding, ...]:
    """Every breach of a rule in `model`, worst first, each rule's in network order. `model` is not changed.

    Raises:
        ModelError: The graph is not valid ONNX.
    """
    graph = QdqGraph(model)
    return tuple(
        Finding(rule, severity, hit.nodes, hit.tensors, hit.message)
        for severity, rules in RULES.items()
        for rule, check in rules.items()
        for hit in check(graph)
    )
