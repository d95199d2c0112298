"""`trt-mpq lint`: what TensorRT would refuse or not fuse in an ONNX file."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trt_mpq.cli import options

if TYPE_CHECKING:
    from rich.console import RenderableType

    from trt_mpq.lint import Finding

File = Annotated[
    Path, typer.Argument(metavar="FILE", show_default=False, help="ONNX file with QuantizeLinear and DequantizeLinear.")
]


def lint(file: File, quiet: options.Quiet = False, json: options.Json = False) -> None:
    """Name every quantizer that TensorRT would refuse or not fuse, and why.

    The file may come from anywhere: this tool, Model Optimizer, NNCF, ONNX Runtime. Ends with exit code 2 if there is
    an error, which is something TensorRT refuses or computes differently; warnings and notes end with 0.
    """
    from trt_mpq.cli.output import Output
    from trt_mpq.errors import ModelError
    from trt_mpq.lint import Finding, Severity, lint_graph
    from trt_mpq.model import load_graph

    model = load_graph(file)
    if model.metadata_props.get("trt_mpq.flavour") == "reference":
        raise ModelError(
            f"{file} is the reference flavour, made for ONNX Runtime: lint typed.onnx or weak.onnx beside it"
        )
    findings = lint_graph(model)
    Output(quiet=quiet, json=json).result(findings, tuple[Finding, ...], findings_list)
    if any(finding.severity is Severity.ERROR for finding in findings):
        raise typer.Exit(2)


def findings_list(findings: tuple[Finding, ...]) -> RenderableType:
    """Every finding, errors first, and how many there are of each severity."""
    from rich.console import Group
    from rich.padding import Padding
    from rich.text import Text

    from trt_mpq.report.wording import printable

    lines: list[RenderableType] = []
    for finding in findings:
        where = next(iter((*finding.nodes, *finding.tensors)), "the file")
        lines.append(Text(f"{finding.severity} {finding.rule}: {printable(where)}", overflow="fold"))
        lines.append(Padding(Text(printable(finding.message), overflow="fold"), (0, 0, 0, 4), expand=False))
    return Group(*lines, Text(summary(findings)))


def summary(findings: tuple[Finding, ...]) -> str:
    """How many findings of each severity there are: 1 error, 2 warnings."""
    counts = Counter(finding.severity.value for finding in findings)
    return ", ".join(f"{count} {name}{'s' if count > 1 else ''}" for name, count in counts.items()) or "nothing found"
