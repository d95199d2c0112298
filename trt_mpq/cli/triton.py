"""`trt-mpq triton`: the engine as a model repository of Triton Inference Server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trt_mpq.cli.options import RunDir, Verify
from trt_mpq.cli.output import Output

_Repository = typer.Option("--output", "-o", help="Model repository; created if absent.")
_Name = typer.Option(help="Name of the model there (default: that of the run folder).")
_Version = typer.Option(min=1, help="Version of the model; one that is there already gets another.")
_Versions = typer.Option(min=0, help="Newest versions that Triton serves; 0 is all.")
_Instances = typer.Option(min=1, help="Executions side by side on the GPU.")
_Batching = typer.Option(help="Let Triton join requests to batches, where the engine takes them.")
_Preferred = typer.Option(
    min=1, help="Batch to form if possible, may be repeated (default: what the engine is best for)."
)
_Delay = typer.Option(min=0, help="Microseconds that a request may wait for others.")


def triton(
    run_dir: RunDir,
    *,
    output: Annotated[Path, _Repository] = Path("model_repository"),
    name: Annotated[str | None, _Name] = None,
    version: Annotated[int, _Version] = 1,
    serve_versions: Annotated[int, _Versions] = 1,
    instances: Annotated[int, _Instances] = 1,
    dynamic_batching: Annotated[bool, _Batching] = True,
    preferred_batch: Annotated[list[int] | None, _Preferred] = None,
    max_queue_delay_us: Annotated[int, _Delay] = 0,
    verify: Verify = None,
    sink: Output,
) -> None:
    """Export the engine of a run folder as a Triton Inference Server model: config.pbtxt and model.plan."""
    from rich.text import Text

    from trt_mpq.engine.run import export_to_triton
    from trt_mpq.engine.triton_config import Serving

    serving = Serving(
        instances, dynamic_batching, tuple(preferred_batch or ()), max_queue_delay_us, serve_versions or None
    )
    made = export_to_triton(run_dir, output, name, verify, version=version, serving=serving)
    sink.result(str(made), str, Text)
