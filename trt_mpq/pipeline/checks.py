"""What settings and inputs tell already, refused or said before any work."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from trt_mpq.artifacts.store import Store
from trt_mpq.calibrate.histogram import METHODS
from trt_mpq.errors import SettingsError
from trt_mpq.groups.pins import require_matches
from trt_mpq.latency.target import require_power, target_from_name
from trt_mpq.pipeline.gpu import Gpu
from trt_mpq.pipeline.judging import HOLDOUT_DATA
from trt_mpq.pipeline.latency import DEVICE_TABLE
from trt_mpq.pipeline.model_states import states
from trt_mpq.pipeline.networks import groups_of, require_groups
from trt_mpq.pipeline.ranking import configured_metric
from trt_mpq.pipeline.sources import BATCH, CALIBRATION, EVALUATION
from trt_mpq.runtime.user_code import is_of_this_process
from trt_mpq.search import SEARCHES, search_from_name
from trt_mpq.settings import EngineOptions, Settings

_OF_TIMING = ("cuda_graph", "warm_up_ms", "rounds", "round_ms", "input_sets", "margin")


def check_inputs(settings: Settings, folder: Path) -> None:
    """Refuse inputs that lie where the results go, lest one be written over; raises SettingsError."""
    for name in ("model", "calib", "eval", "holdout"):
        file = Path(str(getattr(settings, name)).partition(":")[0])
        if file.is_file() and file.resolve().parent == folder.resolve():
            raise SettingsError(f"{file} lies in the run folder, where results go: move it, or choose another with -o")


def check_settings(settings: Settings) -> None:
    """Refuse unknown names, and what the device cannot compute.

    Raises:
        SettingsError: A name is unknown, or the device cannot compute in a precision of the ladder.
    """
    target = target_from_name(settings.device)
    if search_from_name(settings.search).accuracy_only and (settings.target_latency or settings.target_size):
        others = ", ".join(name for name, search in SEARCHES.items() if not search.accuracy_only)
        raise SettingsError(f"--search {settings.search} knows no target but accuracy: choose one of {others}")
    for name in settings.sensitivity:
        configured_metric(name, settings)
    for precision in settings.precisions:
        if not target.supports(precision):
            raise SettingsError(f"{target.name} has no {precision} arithmetic: leave {precision} out of --precisions")
    if settings.objective == "energy":
        require_power(target)
    if is_of_this_process(settings.metric) and (settings.workers > 1 or settings.ray is not None):
        raise SettingsError(
            "workers cannot import the metric, a function of this Python session: put it into a module, or leave out "
            "--workers and --ray"
        )
    for method in settings.calibration:
        if method not in METHODS:
            raise SettingsError(f"unknown calibration {method!r}: choose from {', '.join(METHODS)}")


def check_pins(store: Store) -> None:
    """Refuse patterns of `--keep` and `--exclude` that match no group of the model.

    Raises:
        SettingsError: A pattern matches none.
        ModelError: There are patterns, and no groups that they could match.
    """
    settings = store.settings
    if settings.keep or settings.exclude:
        first = states(settings)[0]
        require_groups(store, first)
        require_matches(store[groups_of(first)], settings.keep, settings.exclude)


def check_before_search(store: Store, gpu: Gpu) -> None:
    """Refuse what the model, the data and the machine tell, before anything is calibrated or scored.

    Raises:
        SettingsError: The model has a fixed batch, and another is asked for.
        DataError: Data is missing or does not fit the model.
        RuntimeFailure: Latencies are to be measured, and there is no GPU.
        MissingDependencyError: The same, for want of TensorRT or pycuda.
    """
    settings = store.settings
    fixed = store[BATCH]
    if settings.batch not in (fixed, _default("batch")):
        raise SettingsError(
            f"the model has a fixed batch of {fixed} and --batch asks for {settings.batch}: leave --batch out, or "
            "export the model with a free batch"
        )
    for data in (CALIBRATION, EVALUATION, *([HOLDOUT_DATA] if settings.holdout is not None else [])):
        store[data]  # opened, and checked against the model
    if settings.latency == "measured" and not (store.folder / DEVICE_TABLE).is_file():
        gpu.require()


def without_effect(settings: Settings) -> Iterator[str]:
    """The options that were given and do nothing in this run, each with the reason."""
    metrics = ", ".join(settings.sensitivity)
    used = {option for name in settings.sensitivity for option in vars(configured_metric(name, settings))}
    decoded = ("map50", "map50-95", "wer", "cer")
    idle: dict[str, tuple[bool, str]] = {
        **{
            option: (option not in used, f"--sensitivity {metrics} does not use it")
            for option in ("trials", "noise_amplitude", "compare_function", "compare_runner")
        },
        "awq": (not settings.scaled_by_awq, "it is for w8a16, w4a16 and nvfp4, and --precisions names none of them"),
        "smooth_alpha": (not settings.smooth, "it is for --smooth"),
        "adaround_steps": (not settings.adaround, "it is for --adaround"),
        "mix_formats": (len(settings.formats) == 1, f"{settings.formats[0]} is the only format of --precisions"),
        "eval_samples": (settings.eval is None, "there is no --eval"),
        "decode": (settings.metric not in decoded, f"it is for the metrics {', '.join(decoded)}"),
        "preprocess": (not _reads_folder(settings), "no data is a folder of images"),
        "metric_timeout": (":" not in settings.metric, "it is for a metric of your own"),
    }
    for option, (does_nothing, why) in idle.items():
        if does_nothing and getattr(settings, option) != _default(option):
            yield f"--{option.replace('_', '-')} has no effect in this run: {why}"
    engine = settings.engine
    timing = [name for name in _OF_TIMING if getattr(engine, name) != EngineOptions.model_fields[name].default]
    if engine.build == "never" and timing:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in timing)
        yield f"{options} has no effect in this run: no engine is timed with --no-engine"
    if engine.portable and not engine.compile:
        yield "--portable has no effect in this run: --no-compile leaves the compiler out"


def _default(option: str) -> object:
    return Settings.model_fields[option].default


def _reads_folder(settings: Settings) -> bool:
    return any(Path(str(source)).is_dir() for source in (settings.calib, settings.eval, settings.holdout) if source)
