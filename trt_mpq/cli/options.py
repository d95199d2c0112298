"""Options shared by the commands, one per field of `Settings` and named like it.

All default to None, so that only what the user gave overrides a job file or a run folder. The defaults
named in the help texts are those of `Settings`; a test compares them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

_DATA, _GOAL, _SEARCH, _QUANTIZERS, _RUN, _OUTPUT = "Data", "Goal", "Search", "Quantizers", "Running", "Output"

Source = Annotated[
    Path, typer.Argument(metavar="MODEL_OR_JOB", show_default=False, help="ONNX model, or job file (.toml).")
]
RunDir = Annotated[Path, typer.Argument(metavar="RUN_DIR", show_default=False, help="Run folder to go on with.")]

Model = Annotated[
    Path | None, typer.Option("--model", help="ONNX model, in place of the job file's.", rich_help_panel=_DATA)
]
Calib = Annotated[
    str | None,
    typer.Option(
        "--calib", help="Calibration data: .npz, .npy, recipe file, or recipe name[:split].", rich_help_panel=_DATA
    ),
]
Eval = Annotated[str | None, typer.Option("--eval", help="Evaluation data, in the same forms.", rich_help_panel=_DATA)]
CalibSamples = Annotated[
    int | None,
    typer.Option("--calib-samples", help="Calibrate on the first so many (default: all).", rich_help_panel=_DATA),
]
EvalSamples = Annotated[
    int | None,
    typer.Option("--eval-samples", help="Evaluate on the first so many (default: all).", rich_help_panel=_DATA),
]

Metric = Annotated[
    str | None,
    typer.Option(
        "--metric",
        help="Task metric: top1, top5, sqnr, cosine, kl, agreement, or your module:function (default: auto).",
        rich_help_panel=_GOAL,
    ),
]
TargetAccuracy = Annotated[
    float | None,
    typer.Option(
        "--target-accuracy", help="Share of the FP32 score to keep, up to 1 (default: 0.99).", rich_help_panel=_GOAL
    ),
]
Precisions = Annotated[
    str | None,
    typer.Option(
        "--precisions",
        help="Ladder to search, comma list of fp16, fp8, int8, int4 (default: fp16,int8).",
        rich_help_panel=_GOAL,
    ),
]
MixFormats = Annotated[
    bool | None,
    typer.Option(
        "--mix-formats/--no-mix-formats",
        help="Let one plan hold FP8 and INT8 (default: off, the better of the two).",
        rich_help_panel=_SEARCH,
    ),
]
Device = Annotated[
    str | None,
    typer.Option(
        "--device",
        help="Device model for latency: a name in engines/targets or a file (default: h200).",
        rich_help_panel=_GOAL,
    ),
]
Batch = Annotated[
    int | None, typer.Option("--batch", help="Samples per inference (default: 32).", rich_help_panel=_GOAL)
]

Sensitivity = Annotated[
    str | None,
    typer.Option(
        "--sensitivity",
        help="Ranks the groups: quantization-error, noise, hessian, random (default: noise).",
        rich_help_panel=_SEARCH,
    ),
]
Search = Annotated[
    str | None,
    typer.Option(
        "--search", help="Search algorithm: bisection, greedy, uniform (default: bisection).", rich_help_panel=_SEARCH
    ),
]
Calibration = Annotated[
    str | None,
    typer.Option(
        "--calibration",
        help="Ranges by: minmax, percentile, entropy, mse (default: minmax).",
        rich_help_panel=_QUANTIZERS,
    ),
]
BiasCorrection = Annotated[
    bool | None,
    typer.Option(
        "--bias-correction/--no-bias-correction",
        help="Correct each group's mean output before the search (default: on).",
        rich_help_panel=_QUANTIZERS,
    ),
]
Equalize = Annotated[
    bool | None,
    typer.Option(
        "--equalize/--no-equalize",
        help="Equalize weight ranges across layers before calibration (default: off).",
        rich_help_panel=_QUANTIZERS,
    ),
]
Exclusions = Annotated[
    str | None,
    typer.Option(
        "--exclusions",
        help="Shapes kept out of 8 bit beforehand: modelopt, none (default: modelopt).",
        rich_help_panel=_QUANTIZERS,
    ),
]
SensitivitySamples = Annotated[
    int | None,
    typer.Option(
        "--sensitivity-samples", help="Calibration samples a metric runs (default: 256).", rich_help_panel=_SEARCH
    ),
]
Trials = Annotated[
    int | None,
    typer.Option(
        "--trials", help="Random draws of noise and hessian (default: the metric's own).", rich_help_panel=_SEARCH
    ),
]
NoiseAmplitude = Annotated[
    float | None,
    typer.Option(
        "--noise-amplitude",
        help="Standard deviation of the noise in quantization steps (default: 1.0).",
        rich_help_panel=_SEARCH,
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(
        "--threads", help="Threads of the reference runtime, 0 for every core (default: 0).", rich_help_panel=_RUN
    ),
]
Seed = Annotated[
    int | None, typer.Option("--seed", help="Seed of every random draw (default: 0).", rich_help_panel=_RUN)
]

Output = Annotated[
    Path, typer.Option("--output", "-o", help="Run folder; the same command resumes there.", rich_help_panel=_OUTPUT)
]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="No progress, no tables: errors only.", rich_help_panel=_OUTPUT)
]
Json = Annotated[bool, typer.Option("--json", help="Result as JSON on standard output.", rich_help_panel=_OUTPUT)]
Details = Annotated[bool, typer.Option("--details", help="Also one line per group.", rich_help_panel=_OUTPUT)]


def settings_given(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `Settings` among a command's `arguments` that the user really gave."""
    from trt_mpq.settings import Settings

    given = {name: value for name, value in arguments.items() if name in Settings.model_fields and value is not None}
    if "precisions" in given:
        given["precisions"] = tuple(part.strip() for part in given["precisions"].split(","))
    return given
