"""Settings that name what there is not, refused before any work."""

from __future__ import annotations

from pathlib import Path

from trt_mpq.calibrate.histogram import METHODS
from trt_mpq.errors import SettingsError
from trt_mpq.latency.target import target_from_name
from trt_mpq.pipeline.ranking import configured_metric
from trt_mpq.runtime.user_code import is_of_this_process
from trt_mpq.search import SEARCHES, search_from_name
from trt_mpq.settings import Settings


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
    if is_of_this_process(settings.metric) and (settings.workers > 1 or settings.ray is not None):
        raise SettingsError(
            "workers cannot import the metric, a function of this Python session: put it into a module, or leave out "
            "--workers and --ray"
        )
    for method in settings.calibration:
        if method not in METHODS:
            raise SettingsError(f"unknown calibration {method!r}: choose from {', '.join(METHODS)}")
