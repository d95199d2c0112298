"""The placement linter: what TensorRT would refuse or not fuse in an ONNX file with explicit Q/DQ, and why.

It reads any file, ours or another tool's. A rule is a small function and one row in the table of its severity
(`errors`, `warnings`, `notes`).
"""

from __future__ import annotations

import onnx_ir as ir

from trt_mpq.lint.errors import ERRORS
from trt_mpq.lint.findings import Finding, Severity
from trt_mpq.lint.graph import QdqGraph
from trt_mpq.lint.notes import NOTES
from trt_mpq.lint.warnings import WARNINGS

__all__ = ["RULES", "Finding", "Severity", "lint_graph"]

RULES = {Severity.ERROR: ERRORS, Severity.WARNING: WARNINGS, Severity.NOTE: NOTES}
"""Every rule by its severity, worst first."""


def lint_graph(model: ir.Model) -> tuple[Finding, ...]:
    """Every breach of a rule in `model`, errors first, each rule's in network order. `model` is not changed.

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
