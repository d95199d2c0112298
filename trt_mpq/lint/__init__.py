"""The placement linter: what TensorRT would refuse or not fuse in an ONNX file with explicit Q/DQ, and why.

It reads any file, ours or another tool's. A rule is a small function in one of four modules (`refusals`,
`placement`, `sharing`, `kernels`) and one row of `RULES`.
"""

from __future__ import annotations

import onnx_ir as ir

from trt_mpq.lint import kernels, placement, refusals, sharing
from trt_mpq.lint.graph import QdqGraph
from trt_mpq.lint.values import Finding, Rule, Severity

__all__ = ["RULES", "Finding", "Rule", "Severity", "lint_graph"]

_ERROR, _WARNING, _NOTE = Severity

RULES: tuple[Rule, ...] = (
    Rule("foreign-operator", _ERROR, refusals.foreign_operators),
    Rule("code-type", _ERROR, refusals.code_types),
    Rule("zero-point", _ERROR, refusals.zero_points),
    Rule("scale-value", _ERROR, refusals.scale_values),
    Rule("scale-shape", _ERROR, refusals.scale_shapes),
    Rule("scale-type", _ERROR, refusals.scale_types),
    Rule("operand-types", _ERROR, refusals.operand_types),
    Rule("pair-mismatch", _ERROR, refusals.pairs),
    Rule("activation-per-channel", _ERROR, refusals.per_channel_activations),
    Rule("activation-int4", _ERROR, refusals.int4_activations),
    Rule("opset", _ERROR, refusals.opsets),
    Rule("weak-type", _ERROR, refusals.weak_types),
    Rule("weight-axis", _ERROR, kernels.weight_axes),
    Rule("unpaired-quantize", _ERROR, placement.unpaired_quantize),
    Rule("unpaired-dequantize", _WARNING, placement.unpaired_dequantize),
    Rule("half-quantized", _WARNING, placement.half_quantized),
    Rule("bias-quantized", _WARNING, placement.biases),
    Rule("blocked-epilogue", _WARNING, placement.blocked_epilogues),
    Rule("residual-high-precision", _WARNING, placement.residuals),
    Rule("dq-q-leftover", _WARNING, sharing.leftover_pairs),
    Rule("requantize", _WARNING, sharing.requantizations),
    Rule("concat-scales", _WARNING, sharing.concat_scales),
    Rule("tensor-two-scales", _WARNING, sharing.two_scales),
    Rule("standalone", _WARNING, placement.standalone),
    Rule("pool-output", _WARNING, placement.pool_outputs),
    Rule("cast", _WARNING, sharing.casts),
    Rule("mixed-formats", _WARNING, kernels.mixed_formats),
    Rule("kernel-limit", _WARNING, kernels.small_layers),
    Rule("weak-stored-weight", _WARNING, refusals.weak_codes),
    Rule("scale-subnormal", _NOTE, refusals.subnormal_scales),
    Rule("duplicate-quantizer", _NOTE, sharing.duplicates),
    Rule("movable", _NOTE, sharing.movable),
)
"""Every rule, errors first."""


def lint_graph(model: ir.Model) -> tuple[Finding, ...]:
    """Every breach of a rule in `model`, errors first, each rule's in network order. `model` is not changed.

    Raises:
        ModelError: The graph is not valid ONNX.
    """
    graph = QdqGraph(model)
    return tuple(finding for rule in RULES for finding in rule.findings(graph))
