"""`trt-mpq export`: from a torch module or a Hugging Face folder to a checked ONNX file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trt_mpq.cli import options

if TYPE_CHECKING:
    from rich.console import RenderableType

    from trt_mpq.export import ExportedModel, OutputCheck

Module = Annotated[
    str,
    typer.Argument(
        metavar="MODULE:FACTORY|FOLDER",
        show_default=False,
        help="Function that returns a torch.nn.Module, alone or with example inputs; or a Hugging Face model folder.",
    ),
]
File = Annotated[Path, typer.Option("--output", "-o", help="ONNX file to write.", rich_help_panel="Output")]
Inputs = Annotated[
    str | None, typer.Option("--inputs", help="Example inputs, an .npz (default: those that come with the module).")
]
Opset = Annotated[int, typer.Option("--opset", help="ONNX opset; TensorRT 8.6 reads up to 17.")]
Dynamic = Annotated[
    list[str] | None,
    typer.Option(
        "--dynamic",
        help="A free dimension besides the batch, NAME=AXIS:SYMBOL as in input_ids=1:sequence; for token ids and masks "
        "that is the default.",
    ),
]
FixedBatch = Annotated[
    int | None, typer.Option("--fixed-batch", min=1, help="Samples per inference (default: the batch is free).")
]
OutputNames = Annotated[
    str | None, typer.Option("--output-names", help="Names of the outputs, comma list (default: from the module).")
]
Atol = Annotated[float, typer.Option("--atol", min=0.0, help="Largest absolute difference from torch.")]


def export(
    module: Module,
    output: File = Path("model.onnx"),
    inputs: Inputs = None,
    opset: Opset = 17,
    dynamic: Dynamic = None,
    fixed_batch: FixedBatch = None,
    output_names: OutputNames = None,
    atol: Atol = 1e-4,
    quiet: options.Quiet = False,
    json: options.Json = False,
) -> None:
    """Export a torch module to ONNX and compare the file with torch, at other batch sizes and lengths too.

    The file is written only if every output is as close as --atol says.
    """
    from trt_mpq.cli.output import Output
    from trt_mpq.export import DynamicAxis, ExportedModel, ExportOptions, export_to_onnx

    sink = Output(quiet=quiet, json=json)
    asked = ExportOptions(
        inputs=inputs,
        opset=opset,
        dynamic=tuple(DynamicAxis.from_text(text) for text in dynamic or ()),
        fixed_batch=fixed_batch,
        output_names=tuple(name.strip() for name in output_names.split(",")) if output_names else (),
        atol=atol,
    )
    sink.result(export_to_onnx(module, output, asked, sink), ExportedModel, exported_table)


def exported_table(exported: ExportedModel) -> RenderableType:
    """Inputs and outputs of the file, and how far it is from torch at each size that was compared."""
    from rich.console import Group
    from rich.text import Text

    from trt_mpq.cli.tables import cells, table_of

    tensors = table_of("", "name", "type", "shape")
    for kind, specs in (("input", exported.inputs), ("output", exported.outputs)):
        for spec in specs:
            tensors.add_row(*cells((kind, spec.name, spec.dtype, "x".join(map(str, spec.shape)))))
    checks = table_of("compared with torch for", *(f"{spec.name}, max abs error" for spec in exported.outputs))
    for check in exported.checks:
        errors = (f"{check.max_abs_error[spec.name]:.2g}" for spec in exported.outputs)
        checks.add_row(*cells((_shapes(check), *errors)))
    facts = f"{exported.path}: opset {exported.opset}, {exported.parameters:,} parameters"
    return Group(Text(facts), tensors, checks)


def _shapes(check: OutputCheck) -> str:
    return ", ".join(f"{name} {'x'.join(map(str, shape))}" for name, shape in check.shapes.items())
