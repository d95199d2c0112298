"""What a build would do, told before it is done."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from trt_mpq.dataset.chunks import chunks
from trt_mpq.pipeline.calibration import final_groups_of
from trt_mpq.pipeline.checks import check_before_search, without_effect
from trt_mpq.pipeline.devices import DevicesRun
from trt_mpq.pipeline.model_states import ORIGINAL
from trt_mpq.pipeline.run import Run
from trt_mpq.pipeline.sources import BATCH, CALIBRATION, EVALUATION, RUNTIME
from trt_mpq.settings import Settings
from trt_mpq.types import Grouping, Precision

_SENSITIVITY_SAMPLES = 256
_USUAL_PLANS = 20
"""Plans that a search without a budget rarely exceeds."""
_QUANTIZED = 2.0
"""What a pass with fake quantizers costs, in passes of FP32: a round figure."""


@dataclass(frozen=True)
class Outlook:
    """What a build would do.

    Attributes:
        model: The model.
        device: The device of the run.
        groups: Groups of the model.
        lowerable: Format to the number of groups that may run in it.
        share: Share of the multiply-adds that may run in 8 bit or less.
        calibration_samples: Samples of the calibration set.
        evaluation_samples: Samples of the evaluation set.
        batch: Samples at a time.
        pass_s: Seconds of FP32 on the whole evaluation set, estimated from one batch.
        passes: Least and most passes over it that are expected, in passes of FP32.
        idle: Options that do nothing, a sentence each.
        others: Devices after the first, for which only search and files would follow.
    """

    model: str
    device: str
    groups: int
    lowerable: Mapping[Precision, int]
    share: float
    calibration_samples: int
    evaluation_samples: int
    batch: int
    pass_s: float
    passes: tuple[float, float]
    idle: tuple[str, ...]
    others: tuple[str, ...] = ()


def outlook_of(build: Run | DevicesRun) -> Outlook:
    """Prepare the model and open the data as a build does, run one batch, and say what would follow.

    Raises:
        TrtMpqError: What a build would refuse before any work.
    """
    run = build if isinstance(build, Run) else build.first()
    store, settings = run.store, run.settings
    grouping = store[final_groups_of(settings)]
    check_before_search(store, run.gpu)
    calibration, evaluation = store[CALIBRATION].count, store[EVALUATION].count
    free = [group for group in grouping.groups if any(group.allows(p) for p in settings.formats)]
    return Outlook(
        model=str(settings.model),
        device=settings.device,
        groups=len(grouping.groups),
        lowerable={p: sum(group.allows(p) for group in grouping.groups) for p in settings.formats},
        share=sum(group.flops for group in free) / max(1, grouping.flops),
        calibration_samples=calibration,
        evaluation_samples=evaluation,
        batch=store[BATCH],
        pass_s=_seconds_per_sample(run) * evaluation,
        passes=_passes(
            settings, grouping, calibration / evaluation, min(calibration, _SENSITIVITY_SAMPLES) / evaluation
        ),
        idle=tuple(without_effect(settings)),
        others=tuple(folder.name for folder in build.folders[1:]),
    )


def _seconds_per_sample(run: Run) -> float:
    """What FP32 takes for a sample, of the second run of the first batch."""
    store = run.store
    session, first = store[RUNTIME].load(store[ORIGINAL]), next(chunks(store[EVALUATION], store[BATCH]))
    first.run(session)
    started = time.monotonic()
    first.run(session)
    return (time.monotonic() - started) / first.batch.size


def _passes(settings: Settings, grouping: Grouping, calibration: float, ranked: float) -> tuple[float, float]:
    """Passes over the evaluation set where the fastest plan keeps the target, and where nothing comes easily."""
    formats, methods = len(settings.formats), len(settings.calibration)
    corrected = 2 if settings.bias_correction else 1
    pairs = sum(group.allows(p) for group in grouping.groups for p in settings.formats)
    files = 3.0
    least = 1 + calibration + _QUANTIZED * (formats * (1 + calibration) + files)
    plans = settings.max_evaluations or _USUAL_PLANS
    trials = formats * methods * corrected * (1 + calibration / 2)
    rankings = 1 + (methods if methods > 1 else 0)  # by the ranges of every method, where none will do for all tensors
    most = 1 + calibration + _QUANTIZED * (trials + plans + files) + pairs * ranked * rankings
    return round(least, 1), round(max(least, most), 1)
