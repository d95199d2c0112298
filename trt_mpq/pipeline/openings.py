"""What workers open to get ready for parts of a run: its folder, which they read and never write."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from trt_mpq.evaluate.score_cache import CachedScore
from trt_mpq.search.speculation import Asked
from trt_mpq.sensitivity import SensitivityInputs
from trt_mpq.settings import Settings


class Opened(Protocol):
    """A run as workers see it; raises RunFolderError where something of it is not there yet."""

    @property
    def sensitivity_inputs(self) -> SensitivityInputs:
        """What sensitivity metrics are given."""

    def measured(self, asked: Asked) -> CachedScore:
        """What a search asks of a plan, measured now."""


OpenRun = Callable[[Settings, Path], Opened]
"""Opens the run in a folder to read from; a function that other processes can import."""


@dataclass(frozen=True)
class Site:
    """Where a worker finds the run.

    Attributes:
        settings: Of the run, made for one worker by `site_of`.
        folder: The run folder, absolute.
        open_run: Opens it.
    """

    settings: Settings
    folder: Path
    open_run: OpenRun

    def run(self) -> Opened:
        """The run as it stands, to read from; raises RunFolderError."""
        return self.open_run(self.settings, self.folder)


def site_of(settings: Settings, folder: Path, open_run: OpenRun) -> Site:
    """The site of a run; threads are shared out among the workers of one host, and Ray's have one each."""
    threads = 1
    if settings.ray is None:
        threads = max(1, (settings.threads or os.cpu_count() or 1) // settings.workers)
    own = settings.anchored().model_copy(update={"threads": threads, "workers": 1, "ray": None})
    return Site(own, folder.resolve(), open_run)


@dataclass(frozen=True)
class RankingParts:
    """Opens the inputs of sensitivity metrics; `opening` is the metric's, see `SensitivityInputs.spread`."""

    site: Site
    opening: Callable[[SensitivityInputs], Callable[[Any], Any]]

    def __call__(self) -> Callable[[Any], Any]:
        """Ready for the metric's parts."""
        return self.opening(self.site.run().sensitivity_inputs)


@dataclass(frozen=True)
class PlanParts:
    """Opens what scores the plans of the search."""

    site: Site

    def __call__(self) -> Callable[[Asked], CachedScore]:
        """Ready for what a search asks."""
        return self.site.run().measured
