"""`trt-mpq export`: from a torch module or a Hugging Face folder to a checked ONNX file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trt_mpq.cli.output import Output

_Module = typer.Argument(
    metavar="MODULE:FACTORY|FOLDER",
    show_default=False,
    help="Function that returns a torch.nn.Module, alone or with example inputs; or a Hugging Face model folder.",
)
_File = typer.Option("--output", "-o", help="ONNX file to write.", rich_help_panel="Output")
_Inputs = typer.Option(help="Example inputs, an .npz (default: those that come with the module).")
_Opset = typer.Option(help="ONNX opset; TensorRT 8.6 reads up to 17.")
_Dynamic = typer.Option(
    help="A free dimension besides the batch, NAME=AXIS:SYMBOL as in input_ids=1:sequence; for token ids and masks "
    "that is the default."
)
_FixedBatch = typer.Option(min=1, help="Samples per inference (default: the batch is free).")
_OutputNames = typer.Option(help="Names of the outputs, comma list (default: from the module).")
_Rtol = typer.Option(
    min=0.0,
    help="Difference from torch that is allowed, as a share of torch's magnitude, or of the output's RMS if larger.",
)
_Atol = typer.Option(min=0.0, help="What is allowed beside that.")


def export(
    module: Annotated[str, _Module],
    *,
    output: Annotated[Path, _File] = Path("model.onnx"),
    inputs: Annotated[str | None, _Inputs] = None,
    opset: Annotated[int, _Opset] = 17,
    dynamic: Annotated[list[str] | None, _Dynamic] = None,
    fixed_batch: Annotated[int | None, _FixedBatch] = None,
    output_names: Annotated[str | None, _OutputNames] = None,
    rtol: Annotated[float, _Rtol] = 1e-4,
    atol: Annotated[float, _Atol] = 1e-4,
    sink: Output,
) -> None:
    """Export a torch module to ONNX and compare the file with torch, at other batch sizes and lengths too.

    The file is written only if every output is as close as --rtol * max(|torch|, its RMS) + --atol.
    """
    from trt_mpq.cli.tables import exported_table
    from trt_mpq.export import DynamicAxis, ExportedModel, ExportOptions, Tolerance, export_to_onnx

    asked = ExportOptions(
        inputs=inputs,
        opset=opset,
        dynamic=tuple(DynamicAxis.from_text(text) for text in dynamic or ()),
        fixed_batch=fixed_batch,
        output_names=tuple(name.strip() for name in output_names.split(",")) if output_names else (),
        tolerance=Tolerance(rtol, atol),
    )
    exported = export_to_onnx(module, output, asked, sink)
    sink.result(exported, ExportedModel, lambda made: exported_table(made, asked.tolerance))
