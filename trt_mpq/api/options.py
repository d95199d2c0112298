"""What a Python program may give to a run: the settings, as keyword arguments."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from trt_mpq.errors import TrtMpqError

if TYPE_CHECKING:
    from trt_mpq.export import ExportOptions
    from trt_mpq.settings import EngineOptions
    from trt_mpq.types import Observer, Precision

Words = str | Sequence[str]
"""Several names: a comma list, or a sequence."""

_OPTION = re.compile(r"(?<![\w`-])--([a-z][a-z-]*[a-z])")
_QUOTED = re.compile(r"(`[^`]*`)")


class _Shared(TypedDict, total=False):
    """What is given for one device as for several."""

    output: str | Path
    calib: Any
    eval: Any
    metric: str | Callable[..., Any] | None
    decode: str | None
    target_accuracy: float | None
    precisions: str | Sequence[str | Precision] | None
    batch: int | None
    progress: bool | Callable[[str, int, int], None] | Observer
    example_inputs: Any
    export: ExportOptions | None
    engine: EngineOptions | Mapping[str, Any] | None
    trust: bool
    holdout: Any
    outputs: Words | None
    max_loss: float | None
    target_sqnr: float | None
    target_latency: float | None
    target_size: int | str | None
    objective: str | None
    price_per_hour: float | str | Sequence[str] | None
    comparison_snr: Sequence[str] | None
    require_comparison: bool | None
    confidence: float | None
    mix_formats: bool | None
    sensitivity: Words | None
    compare_function: str | None
    compare_runner: str | None
    search: str | None
    max_evaluations: int | None
    max_seconds: float | None
    keep: Sequence[str] | None
    exclude: Sequence[str] | None
    calibration: Words | None
    from_qdq: bool | None
    bias_correction: bool | None
    adaround: bool | None
    adaround_steps: int | None
    clip_weights: bool | None
    gptq: bool | None
    refine_plan: bool | None
    equalize: bool | None
    smooth: bool | None
    smooth_alpha: float | None
    awq: bool | None
    exclusions: str | None
    preprocess: str | None
    calib_samples: int | None
    eval_samples: int | None
    batch_axis: Words | None
    states: Words | None
    sensitivity_samples: int | None
    trials: int | None
    noise_amplitude: float | None
    latency: str | None
    threads: int | None
    workers: int | None
    ray: str | None
    metric_timeout: float | None
    seed: int | None


class Given(_Shared, total=False):
    """Keyword arguments of `build` and `Run`: the settings of the command line, and what only Python can say.

    None of them stands for the default, which is that of the command line.
    """

    device: str | Path | None


class GivenDevices(_Shared):
    """Keyword arguments of `build` for several devices."""

    device: list[str] | tuple[str, ...]


NOT_SETTINGS = ("output", "progress", "example_inputs", "export", "trust")
"""What only Python programs give."""
DATA = ("calib", "eval", "holdout")
"""Settings that may be data themselves."""


def settings_given(given: Given) -> dict[str, Any]:
    """Those of the arguments that are settings and were given, spelled as in a job file."""
    fields = {name: value for name, value in given.items() if name not in NOT_SETTINGS and value is not None}
    for name, value in fields.items():
        if isinstance(value, Path) or name in ("keep", "exclude", "comparison_snr"):
            fields[name] = str(value) if isinstance(value, Path) else _several(value)
        elif hasattr(value, "model_dump"):
            fields[name] = value.model_dump(exclude_unset=True)
    return fields


def _several(value: object) -> object:
    return (value,) if isinstance(value, str) else value


def signature(model: str) -> inspect.Signature:
    """The signature of a function that takes a model, called `model`, and `Given`: for help and completion."""
    kind = inspect.Parameter.KEYWORD_ONLY
    first = inspect.Parameter("model", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=model)
    defaults = {"output": "run", "progress": True, "trust": False}
    options = (
        inspect.Parameter(name, kind, default=defaults.get(name), annotation=said.__forward_arg__)
        for name, said in Given.__annotations__.items()
    )
    return inspect.Signature([first, *options])


@contextmanager
def python_words() -> Iterator[None]:
    """Let errors name arguments, `calib=`, where they name options of the command line, `--calib`."""
    try:
        yield
    except TrtMpqError as error:
        error.args = (_in_python(str(error)),)
        raise


def _in_python(sentence: str) -> str:
    parts = _QUOTED.split(sentence)  # what stands between backticks are commands
    said = (_OPTION.sub(lambda match: match[1].replace("-", "_") + "=", part) for part in parts[::2])
    outside = [part.replace("with -o", "with output=") for part in said]
    return "".join(text for pair in zip(outside, [*parts[1::2], ""], strict=True) for text in pair)
