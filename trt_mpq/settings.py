"""What a user asks for: one validated value, from the command line, a job file, or a run folder."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from trt_mpq._data import load_toml
from trt_mpq.errors import SettingsError
from trt_mpq.groups.pins import parse_pin
from trt_mpq.types import Precision

Count = Annotated[int, Field(gt=0)]
Level = Annotated[int, Field(ge=0, le=5)]

_FILES = ("model", "calib", "eval", "device", "latency")
"""Settings that may name a file."""


_TARGETS = ("target_accuracy", "target_latency", "target_size")
_BYTES = {"": 1, "B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


_NOT_IN_THE_ENGINE = frozenset(
    {
        "build", "typing", "shapes", "timing_cache", "build_timeout_s", "cuda_graph", "warm_up_ms", "rounds",
        "round_ms", "input_sets", "margin",
    }
)  # fmt: skip
"""Options that an engine does not show: how it is timed and chosen, and what is resolved before it is built."""


class EngineOptions(BaseModel):
    """Options of engine builds and their profiles; a job file has them in its table `[engine]`."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    build: Literal["auto", "always", "never"] = "auto"
    """Whether `trt-mpq build` builds engines: "auto" does where a GPU, TensorRT and pycuda are there."""
    typing: Literal["auto", "strong", "weak"] = "auto"
    """How precision reaches the builder: types in the network, or constraints beside Q/DQ (TensorRT 8.6 to 10).
    "auto" is strong from TensorRT 10 on."""
    shapes: tuple[str, ...] = ()
    """Optimization profile of dynamic inputs, as NAME=MIN:OPT:MAX with shapes such as 1x3x224x224. Left out, the batch
    dimension goes from 1 to the batch of the run, which is the optimum."""
    workspace_mib: Annotated[int, Field(gt=0)] | None = None
    """Limit of the builder's workspace memory."""
    optimization_level: Level | None = None
    """Builder optimization level; None is TensorRT's default."""
    timing_cache: Path | None = None
    """Folder of timing caches, one per GPU and TensorRT version; None keeps them in the run folder."""
    version_compatible: bool = False
    """Build an engine that later TensorRT versions run."""
    hardware_compatible: Literal["none", "ampere_plus", "same_compute_capability"] = "none"
    """Build an engine that other GPUs run."""
    refit: bool = False
    """Let the weights of the engine be replaced."""
    sparsity: bool = False
    """Let the builder use 2:4 sparse weights."""
    tf32: bool = False
    """Let FP32 groups use TF32 (trtexec does by default)."""
    dla_core: Annotated[int, Field(ge=0)] | None = None
    """Run on this DLA core what it can, the rest on the GPU (Jetson)."""
    plugins: tuple[Path, ...] = ()
    """Plugin libraries to load before parsing and before loading the engine."""
    build_timeout_s: Annotated[float, Field(gt=0)] = 3600.0
    """Longest a single engine build may take."""
    cuda_graph: bool = True
    """Launch timed inferences as a CUDA graph (as trtexec 11 does; trtexec 10 does not)."""
    warm_up_ms: Annotated[float, Field(ge=0)] = 200.0
    """Time of uncounted inferences before timing (trtexec's default)."""
    rounds: Annotated[int, Field(ge=2)] = 30
    """Turns in which engines that are compared are timed."""
    round_ms: Annotated[float, Field(gt=0)] = 100.0
    """Least time of one engine's turn."""
    input_sets: Annotated[int, Field(gt=0)] = 4
    """Different inputs that timed inferences rotate."""
    margin: Annotated[float, Field(ge=0, lt=1)] = 0.02
    """How much faster than FP16 a plan must be, at the confidence of the ratio, to be shipped."""

    def of_engine(self) -> dict[str, Any]:
        """The options that an engine depends on, as JSON values; `typing` and `shapes` are resolved elsewhere."""
        return self.model_dump(mode="json", exclude=set(_NOT_IN_THE_ENGINE))


class Settings(BaseModel):
    """Everything that decides the outcome of a run.

    Job files (`engines/jobs/*.toml`) spell the fields exactly like this; the command line uses dashes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    model: Path
    """ONNX file to quantize."""
    calib: str | None = None
    """Calibration data: `.npz`, `.npy`, a recipe file, or the name of a recipe with an optional `:split`."""
    eval: str | None = None
    """Evaluation data, in the same forms."""
    metric: str = "auto"
    """Task metric, or `module:function`."""
    target_accuracy: Annotated[float, Field(gt=0, le=1)] = 0.99
    """Least share of the FP32 score that the plan must keep."""
    target_latency: Annotated[float, Field(gt=0)] | None = None
    """Milliseconds that the plan may take, which then is the most accurate such plan; no accuracy is required."""
    target_size: Count | None = None
    """Bytes that the parameters may take, also as "12MiB"; the same for the size."""
    confidence: Annotated[float, Field(gt=0.5, le=1)] = 0.999
    """How sure a search must be of a plan to stop its evaluation early; 1 runs every plan on every sample, as the
    chosen one always is."""
    precisions: tuple[Precision, ...] = (Precision.FP16, Precision.INT8)
    """Ladder of precisions to search, in any order, also as "fp16,int8". Its top is BF16 where that is named without
    FP16, else FP16; BF16 beside FP16 is where groups run that overflow FP16, named or not."""
    mix_formats: bool = False
    """Let one plan hold FP8 and INT8; otherwise each is searched alone and the faster plan wins."""
    sensitivity: Annotated[tuple[str, ...], Field(min_length=1)] = ("output-sqnr",)
    """Sensitivity metrics, also as "noise,fisher": the first ranks the groups; of several the report says how well they
    agree with the loss of really quantizing every group."""
    search: str = "ilp"
    """Search algorithm."""
    max_evaluations: Count | None = None
    """Plans the search may evaluate; None leaves it to the algorithm."""
    max_seconds: Annotated[float, Field(gt=0)] | None = None
    """Seconds the search may spend on evaluations."""
    keep: tuple[str, ...] = ()
    """Groups that run in a given precision, each as `precision:pattern` with a glob over group ids."""
    exclude: tuple[str, ...] = ()
    """Globs over the ids of groups that stay out of 8 bit and less."""
    device: str = "h200"
    """Device model for latency: a name in `engines/targets/` or a path."""
    batch: Count = 32
    """Rows per inference: what the latency is for, and how many the reference runtime takes at a time."""
    calibration: Annotated[tuple[str, ...], Field(min_length=1)] = ("mse", "entropy", "minmax", "percentile")
    """Calibration methods, also as "mse,minmax": every format takes the first with which its uniform plan keeps the
    target, else the one with which that scores best."""
    bias_correction: bool = True
    """Correct the mean output of every quantized group before the search."""
    adaround: bool = False
    """Learn whether to round each weight up or down before the search (AdaRound; needs torch)."""
    adaround_steps: Count = 100
    """Steps of gradient descent with which a layer's rounding is learned."""
    refine_plan: bool = True
    """Correct biases once more for exactly the plan that was found, and try to bring more groups down."""
    equalize: bool = False
    """Equalize weight ranges across layers before calibration."""
    smooth: bool = False
    """Move outliers of activations into the weights of linear layers before calibration (SmoothQuant)."""
    smooth_alpha: Annotated[float, Field(ge=0, le=1)] = 0.8
    """How much of the range smoothing takes from activations: 0 evens out weights only, 1 activations only."""
    exclusions: Literal["modelopt", "none"] = "modelopt"
    """Shapes that stay out of 8 bit beforehand: Model Optimizer's list, or none."""
    calib_samples: Count | None = None
    """Use the first so many calibration samples."""
    eval_samples: Count | None = None
    """Use the first so many evaluation samples."""
    sensitivity_samples: Count | None = None
    """Calibration samples that sensitivity metrics run; None is the metric's own number."""
    trials: Count | None = None
    """Random draws of the noise and Hessian metrics; None is the metric's own default."""
    noise_amplitude: Annotated[float, Field(gt=0)] = 1.0
    """Standard deviation of the injected noise in quantization steps."""
    latency: str = "auto"
    """Where latencies come from: "modelled"; "measured" on this machine's GPU; a device table that `trt-mpq measure`
    wrote; "auto" is measured where a GPU, TensorRT and pycuda are there, else modelled."""
    engine: EngineOptions = EngineOptions()
    """How engines are built and timed."""
    threads: Annotated[int, Field(ge=0)] = 0
    """Threads of the reference runtime; 0 takes every core."""
    workers: Count = 1
    """Processes that work side by side on sensitivities and plans; 1 is this one alone."""
    ray: str | None = None
    """Address of a Ray cluster whose CPUs do that work, or "auto"; `workers` then says how many, 1 for all. Where this
    machine has no GPU, one of the cluster builds and times the engines."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of every random draw."""

    @field_validator("keep")
    @classmethod
    def _check_pins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for spec in value:
            parse_pin(spec)
        return value

    @field_validator("target_size", mode="before")
    @classmethod
    def _count_bytes(cls, value: Any) -> Any:
        return bytes_from_text(value) if isinstance(value, str) else value

    @field_validator("target_size")
    @classmethod
    def _one_limit(cls, value: int | None, others: ValidationInfo) -> int | None:
        if value is not None and others.data.get("target_latency") is not None:
            raise ValueError("excludes target_latency: give one of them")
        return value

    @field_validator("precisions", "sensitivity", "calibration", mode="before")
    @classmethod
    def _split_list(cls, value: Any) -> Any:
        return tuple(part.strip() for part in value.split(",")) if isinstance(value, str) else value

    @field_validator("precisions")
    @classmethod
    def _order_ladder(cls, value: tuple[Precision, ...]) -> tuple[Precision, ...]:
        if Precision.FP32 in value:
            raise ValueError("fp32 is not a rung of the ladder: groups that overflow its top leave it by themselves")
        top = Precision.BF16 if Precision.BF16 in value and Precision.FP16 not in value else Precision.FP16
        formats = tuple(p for p in Precision if p in value and p.quantized)
        if not formats:
            raise ValueError(f"name at least one of fp8, int8, int4 beside {top}")
        return (top, *formats)

    @property
    def top(self) -> Precision:
        """The high precision: what all runs in that is not in 8 bit."""
        return self.precisions[0]

    @field_validator("sensitivity", "calibration")
    @classmethod
    def _require_different(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if twice := next((name for name in value if value.count(name) > 1), None):
            raise ValueError(f"{twice} is named twice")
        return value

    @property
    def formats(self) -> tuple[Precision, ...]:
        """The quantized precisions of the ladder."""
        return tuple(p for p in self.precisions if p.quantized)

    @property
    def seeks_target(self) -> bool:
        """Whether the plan is to keep a share of the FP32 score; otherwise the more accurate the better.

        A frontier answers every target, so it must not depend on one.
        """
        return self.search != "pareto" and self.target_latency is None and self.target_size is None

    @property
    def refines_plan(self) -> bool:
        """Whether the plan that is found is refined once more for itself.

        A uniform search is to stay uniform, and a frontier to answer every target with what was measured.
        """
        return self.refine_plan and self.bias_correction and self.search not in ("uniform", "pareto")

    def anchored(self) -> Settings:
        """The same settings with absolute paths, so that they hold in any working directory."""
        here = Path.cwd()
        return Settings(**_anchored(self.model_dump(), here))


def bytes_from_text(text: str) -> int:
    """A size as people write it: 1200000, 1.2MB, 12 MiB; raises ValueError."""
    written = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", text.strip())
    if written is None or written[2] not in _BYTES:
        raise ValueError(f"spell it as bytes or with one of {', '.join(filter(None, _BYTES))}")
    return round(float(written[1]) * _BYTES[written[2]])


def settings_from(fields: dict[str, Any], origin: str) -> Settings:
    """Validate `fields`; `origin` says in an error where they came from.

    Raises:
        SettingsError: A field is unknown or its value is not allowed.
    """
    try:
        return Settings(**fields)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][: 2 if first["loc"][0] == "engine" else 1])
        raise SettingsError(f"{origin}: {where}: {_reason(first)}") from error


def fields_from_job(path: Path) -> dict[str, Any]:
    """The fields a job file sets; a relative `model` and data paths are taken relative to the job file's folder.

    Raises:
        SettingsError: The file is missing or is no TOML.
    """
    return _anchored(dict(load_toml(path)), path.parent)


def overridden(fields: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """`fields` with what was `given` instead; of the engine's options only those that were given change.

    A target that is given replaces the stored one, whatever it was for; raises SettingsError if two are.
    """
    targets = [name for name in _TARGETS if given.get(name) is not None]
    if len(targets) > 1:
        options = " and ".join(f"--{name.replace('_', '-')}" for name in targets)
        raise SettingsError(f"{options} exclude each other: give one of them")
    if targets:
        fields = {name: value for name, value in fields.items() if name not in _TARGETS}
    stored = fields.get("engine")
    if "engine" in given and isinstance(stored, dict):
        given = {**given, "engine": {**stored, **given["engine"]}}
    return {**fields, **given}


def _anchored(fields: dict[str, Any], folder: Path) -> dict[str, Any]:
    """`fields` with every path that is relative to `folder` made to hold anywhere."""
    files: dict[str, Any] = {
        name: _located(fields[name], folder) for name in _FILES if isinstance(fields.get(name), (str, Path))
    }
    if isinstance(engine := fields.get("engine"), dict):
        files["engine"] = {**engine, **_anchored_engine(engine, folder)}
    return {**fields, **files}


def _anchored_engine(engine: dict[str, Any], folder: Path) -> dict[str, Any]:
    paths: dict[str, Any] = {}
    if isinstance(cache := engine.get("timing_cache"), (str, Path)):
        paths["timing_cache"] = str(folder / cache)
    if isinstance(plugins := engine.get("plugins"), (list, tuple)):
        paths["plugins"] = tuple(_located(plugin, folder) for plugin in plugins)
    return paths


def _located(value: str | Path, folder: Path) -> str:
    """`value`, a path with perhaps a `:split` behind it, as a path from `folder` if there is such a file."""
    name, colon, split = str(value).partition(":")
    return f"{folder / name}{colon}{split}" if (folder / name).is_file() else str(value)


def _reason(error: Any) -> str:
    if error["type"] == "missing":
        return "is needed and was not given"
    if error["type"] == "enum":
        return f"got {error['input']!r}, choose from {', '.join(p.value for p in Precision if p is not Precision.FP32)}"
    if error["type"] == "extra_forbidden":
        known = EngineOptions.model_fields if error["loc"][0] == "engine" else Settings.model_fields
        return f"unknown setting; known are {', '.join(known)}"
    return f"{error['msg'].removeprefix('Value error, ')} (got {error['input']!r})"
