"""`trt-mpq lint`: what TensorRT would make of the quantizers of an ONNX file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trt_mpq.cli.output import Output

_File = typer.Argument(metavar="FILE", show_default=False, help="ONNX file with QuantizeLinear and DequantizeLinear.")


def lint(file: Annotated[Path, _File], sink: Output) -> None:
    """Name every quantizer that TensorRT would not take as it is meant, and why.

    The file may come from anywhere: this tool, Model Optimizer, NNCF, ONNX Runtime. Each finding says what TensorRT
    makes of it. Errors are "refused" (by its parser or compiler) and "wrong numbers" (it compiles and computes
    something else); warnings are "high precision" (a quantized layer runs in 16 or 32 bit) and "extra kernel". Ends
    with exit code 2 if there is an error, as for a file that cannot be read; with 0 if there are warnings and notes
    alone.
    """
    from trt_mpq.cli.tables import findings_list
    from trt_mpq.errors import ModelError
    from trt_mpq.lint import Finding, lint_graph
    from trt_mpq.model import load_graph

    model = load_graph(file)
    if model.metadata_props.get("trt_mpq.flavour") == "reference":
        raise ModelError(
            f"{file} is the reference flavour, made for ONNX Runtime: lint typed.onnx or weak.onnx beside it"
        )
    findings = lint_graph(model)
    sink.result(findings, tuple[Finding, ...], findings_list)
    if any(finding.severity.level == "error" for finding in findings):
        raise typer.Exit(2)
