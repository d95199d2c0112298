"""Options shared by the commands, one per field of `Settings` and named like it.

All default to None, so that only what the user gave overrides a job file or a run folder. The defaults
named in the help texts are those of `Settings`; a test compares them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer


def _setting(panel: str, name: str, help_text: str) -> Any:
    return typer.Option(name, help=help_text, rich_help_panel=panel, show_default=False)


Source = Annotated[
    Path,
    typer.Argument(
        metavar="MODEL_OR_JOB",
        show_default=False,
        help="ONNX model, job file (.toml), torch module:factory, or Hugging Face model folder.",
    ),
]
RunDir = Annotated[Path, typer.Argument(metavar="RUN_DIR", show_default=False, help="Run folder to go on with.")]

Model = Annotated[Path | None, _setting("Data", "--model", "ONNX model, in place of the job file's.")]
Calib = Annotated[
    str | None,
    _setting("Data", "--calib", "Calibration data: .npz, .npy, recipe file, or recipe name[:split]."),
]
Eval = Annotated[str | None, _setting("Data", "--eval", "Evaluation data, in the same forms.")]
CalibSamples = Annotated[
    int | None, _setting("Data", "--calib-samples", "Calibrate on the first so many (default: all).")
]
EvalSamples = Annotated[int | None, _setting("Data", "--eval-samples", "Evaluate on the first so many (default: all).")]

Metric = Annotated[
    str | None,
    _setting(
        "Goal",
        "--metric",
        "Task metric: top1, top5, accuracy, perplexity, spearman, pearson, f1, exact-match, agreement, cosine, kl, "
        "sqnr, or your module:function (default: auto).",
    ),
]
TargetAccuracy = Annotated[
    float | None,
    _setting("Goal", "--target-accuracy", "Share of the FP32 score to keep, up to 1 (default: 0.99)."),
]
Confidence = Annotated[
    float | None,
    _setting(
        "Search",
        "--confidence",
        "Stop evaluating a plan as soon as a test is so sure; 1 runs every sample (default: 0.999).",
    ),
]
TargetLatency = Annotated[
    float | None,
    _setting("Goal", "--target-latency", "Milliseconds to keep instead, as accurately as possible (default: none)."),
]
TargetSize = Annotated[
    str | None,
    _setting("Goal", "--target-size", "Bytes of parameters to keep instead, also as 12MiB (default: none)."),
]
Precisions = Annotated[
    str | None,
    _setting(
        "Goal", "--precisions", "Ladder to search: fp16 or bf16, then any of fp8, int8, int4 (default: fp16,int8)."
    ),
]
Device = Annotated[
    str | None,
    _setting("Goal", "--device", "Device model for latency: a name in engines/targets or a file (default: h200)."),
]
Batch = Annotated[int | None, _setting("Goal", "--batch", "Samples per inference (default: 32).")]

MixFormats = Annotated[
    bool | None,
    _setting(
        "Search",
        "--mix-formats/--no-mix-formats",
        "Let one plan hold FP8 and INT8 (default: off, the faster of the two).",
    ),
]
Sensitivity = Annotated[
    str | None,
    _setting(
        "Search",
        "--sensitivity",
        "Ranks the groups: quantization-error, noise, hessian, fisher, output-sqnr, task-loss, dependency, random "
        "(default: output-sqnr). Of a comma list the first ranks, and all are compared with task-loss.",
    ),
]
Search = Annotated[
    str | None,
    _setting("Search", "--search", "Search algorithm: ilp, pareto, bisection, greedy, uniform (default: ilp)."),
]
MaxEvaluations = Annotated[
    int | None,
    _setting("Search", "--max-evaluations", "Plans to evaluate at most (default: the algorithm's own)."),
]
MaxSeconds = Annotated[
    float | None, _setting("Search", "--max-seconds", "Seconds of evaluations at most (default: no limit).")
]
Keep = Annotated[
    list[str] | None,
    _setting(
        "Search",
        "--keep",
        "Groups that run in a precision, PRECISION:PATTERN as in 'fp16:layer1*'; may be repeated (default: none).",
    ),
]
Exclude = Annotated[
    list[str] | None,
    _setting("Search", "--exclude", "Groups that stay out of 8 bit, a glob; may be repeated (default: none)."),
]
SensitivitySamples = Annotated[
    int | None,
    _setting("Search", "--sensitivity-samples", "Calibration samples a metric runs (default: the metric's own)."),
]
Trials = Annotated[
    int | None, _setting("Search", "--trials", "Random draws of noise and hessian (default: the metric's own).")
]
NoiseAmplitude = Annotated[
    float | None,
    _setting("Search", "--noise-amplitude", "Standard deviation of the noise in quantization steps (default: 1.0)."),
]

Calibration = Annotated[
    str | None,
    _setting(
        "Quantizers",
        "--calibration",
        "Ranges by mse, entropy, minmax or percentile; of several a format takes the first with which its uniform plan "
        "keeps the target, else the best (default: mse,entropy,minmax,percentile).",
    ),
]
BiasCorrection = Annotated[
    bool | None,
    _setting(
        "Quantizers",
        "--bias-correction/--no-bias-correction",
        "Correct each group's mean output before the search (default: on).",
    ),
]
Adaround = Annotated[
    bool | None,
    _setting(
        "Quantizers",
        "--adaround/--no-adaround",
        "Learn whether to round each weight up or down, with torch; takes minutes (default: off).",
    ),
]
AdaroundSteps = Annotated[
    int | None, _setting("Quantizers", "--adaround-steps", "Steps that learn one layer's rounding (default: 100).")
]
RefinePlan = Annotated[
    bool | None,
    _setting(
        "Search",
        "--refine-plan/--no-refine-plan",
        "Correct biases anew for the plan that was found, and try to lower more groups (default: on).",
    ),
]
Equalize = Annotated[
    bool | None,
    _setting(
        "Quantizers",
        "--equalize/--no-equalize",
        "Equalize weight ranges across layers before calibration (default: off).",
    ),
]
Smooth = Annotated[
    bool | None,
    _setting(
        "Quantizers",
        "--smooth/--no-smooth",
        "Move outliers of activations into the weights of linear layers, SmoothQuant (default: off).",
    ),
]
SmoothAlpha = Annotated[
    float | None,
    _setting("Quantizers", "--smooth-alpha", "Share of the outliers that moves, from 0 to 1 (default: 0.8)."),
]
Exclusions = Annotated[
    str | None,
    _setting("Quantizers", "--exclusions", "Shapes kept out of 8 bit beforehand: modelopt, none (default: modelopt)."),
]

Latency = Annotated[
    str | None,
    _setting("Goal", "--latency", "Latencies: modelled, measured, auto, or a device table (default: auto)."),
]

Engine = Annotated[
    bool | None,
    _setting("Engine", "--engine/--no-engine", "Build and time engines (default: where a GPU and TensorRT are)."),
]
Typing = Annotated[
    str | None,
    _setting(
        "Engine", "--typing", "Precision by types in the network or by constraints: auto, strong, weak (default: auto)."
    ),
]
Shapes = Annotated[
    list[str] | None,
    _setting(
        "Engine",
        "--shapes",
        "Range of a dynamic input, NAME=MIN:OPT:MAX as in x=1x3x8x8:8x3x8x8:8x3x8x8 (default: 1 to the batch).",
    ),
]
WorkspaceMib = Annotated[
    int | None, _setting("Engine", "--workspace-mib", "Workspace memory of the builder (default: TensorRT's).")
]
OptimizationLevel = Annotated[
    int | None, _setting("Engine", "--optimization-level", "Builder optimization level, 0 to 5 (default: TensorRT's).")
]
TimingCache = Annotated[
    Path | None, _setting("Engine", "--timing-cache", "Folder of timing caches (default: in the run folder).")
]
VersionCompatible = Annotated[
    bool | None,
    _setting(
        "Engine", "--version-compatible/--no-version-compatible", "For later TensorRT versions too (default: off)."
    ),
]
HardwareCompatible = Annotated[
    str | None,
    _setting(
        "Engine",
        "--hardware-compatible",
        "For other GPUs too: none, ampere_plus, same_compute_capability (default: none).",
    ),
]
Refit = Annotated[bool | None, _setting("Engine", "--refit/--no-refit", "Weights can be replaced (default: off).")]
Sparsity = Annotated[
    bool | None, _setting("Engine", "--sparsity/--no-sparsity", "Use 2:4 sparse weights (default: off).")
]
Tf32 = Annotated[bool | None, _setting("Engine", "--tf32/--no-tf32", "TF32 in FP32 groups (default: off).")]
DlaCore = Annotated[
    int | None, _setting("Engine", "--dla-core", "Run on this DLA core what it can (default: the GPU alone).")
]
Plugins = Annotated[list[Path] | None, _setting("Engine", "--plugins", "Plugin library to load (default: none).")]
BuildTimeoutS = Annotated[
    float | None, _setting("Engine", "--build-timeout-s", "Longest an engine build may take (default: 3600.0).")
]
CudaGraph = Annotated[
    bool | None, _setting("Timing", "--cuda-graph/--no-cuda-graph", "Launch as a CUDA graph (default: on).")
]
WarmUpMs = Annotated[float | None, _setting("Timing", "--warm-up-ms", "Inferences before timing (default: 200.0).")]
Rounds = Annotated[int | None, _setting("Timing", "--rounds", "Turns in which engines are timed (default: 30).")]
RoundMs = Annotated[float | None, _setting("Timing", "--round-ms", "Least time of a turn (default: 100.0).")]
InputSets = Annotated[int | None, _setting("Timing", "--input-sets", "Inputs that timing rotates (default: 4).")]
Margin = Annotated[
    float | None,
    _setting("Timing", "--margin", "How much faster than FP16 (or BF16) a plan must be to be shipped (default: 0.02)."),
]

Threads = Annotated[
    int | None,
    _setting("Running", "--threads", "Threads of the reference runtime, 0 for every core (default: 0)."),
]
Workers = Annotated[
    int | None,
    _setting("Running", "--workers", "Processes side by side, for sensitivities and plans (default: 1)."),
]
Ray = Annotated[
    str | None,
    _setting("Running", "--ray", "A Ray cluster to work on: its address, or auto for this machine's (default: none)."),
]
Seed = Annotated[int | None, _setting("Running", "--seed", "Seed of every random draw (default: 0).")]

Output = Annotated[
    Path, typer.Option("--output", "-o", help="Run folder; the same command resumes there.", rich_help_panel="Output")
]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="No progress, no tables: errors only.", rich_help_panel="Output")
]
Json = Annotated[bool, typer.Option("--json", help="Result as JSON on standard output.", rich_help_panel="Output")]
Details = Annotated[bool, typer.Option("--details", help="Also one line per group.", rich_help_panel="Output")]


def settings_given(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `Settings` among a command's `arguments` that the user really gave."""
    from trt_mpq.settings import EngineOptions, Settings

    stated = {name: value for name, value in arguments.items() if value is not None and value != []}
    given = {name: value for name, value in stated.items() if name in Settings.model_fields}
    if "precisions" in given:
        given["precisions"] = tuple(part.strip() for part in given["precisions"].split(","))
    engine = {name: value for name, value in stated.items() if name in EngineOptions.model_fields}
    if "engine" in given:
        engine["build"] = "always" if given.pop("engine") else "never"
    return {**given, "engine": engine} if engine else given
