"""`trt-mpq lint`: what TensorRT would refuse or not fuse in an ONNX file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trt_mpq.cli.output import Output

_File = typer.Argument(metavar="FILE", show_default=False, help="ONNX file with QuantizeLinear and DequantizeLinear.")


def lint(file: Annotated[Path, _File], sink: Output) -> None:
    """Name every quantizer that TensorRT would refuse or not fuse, and why.

    The file may come from anywhere: this tool, Model Optimizer, NNCF, ONNX Runtime. Ends with exit code 2 if there is
    an error, which is something TensorRT refuses or computes differently; warnings and notes end with 0.
    """
    from trt_mpq.cli.tables import findings_list
    from trt_mpq.errors import ModelError
    from trt_mpq.lint import Finding, Severity, lint_graph
    from trt_mpq.model import load_graph

    model = load_graph(file)
    if model.metadata_props.get("trt_mpq.flavour") == "reference":
        raise ModelError(
            f"{file} is the reference flavour, made for ONNX Runtime: lint typed.onnx or weak.onnx beside it"
        )
    findings = lint_graph(model)
    sink.result(findings, tuple[Finding, ...], findings_list)
    if any(finding.severity is Severity.ERROR for finding in findings):
        raise typer.Exit(2)
