"""The rankings of a run: one that the search uses, and others to compare it with."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

from trt_mpq.artifacts.stage import Job, Stage, json_kind
from trt_mpq.artifacts.store import Store
from trt_mpq.emit import Network
from trt_mpq.engine.plan_engines import PlanEngines
from trt_mpq.pipeline.gpu import Gpu
from trt_mpq.pipeline.plan_engines import engines_for_ranking
from trt_mpq.pipeline.sources import BATCH, CALIBRATION, PREPARED, RUNTIME
from trt_mpq.pipeline.task import LOSS, OUTPUTS
from trt_mpq.runtime.base import with_outputs
from trt_mpq.sensitivity import SensitivityInputs, SensitivityMetric, metric_from_name
from trt_mpq.sensitivity.agreement import REFERENCE, Agreement, Sensitivities, agreement_of
from trt_mpq.sensitivity.base import Distribute
from trt_mpq.settings import Settings
from trt_mpq.types import Ranking

UNRANKED = Stage("unranked", lambda job: Ranking("", 0, (), {}), digest=lambda ranking: ranking.metric)
"""What stands for a ranking that would decide nothing."""


@dataclass(frozen=True)
class RankingStages:
    """The ranking that a search goes by, those that it is compared with, and how well they agree.

    Attributes:
        inputs: What sensitivity metrics are given.
        first: The ranking of the search.
        others: Those that it is compared with.
        agreement: How well they agree; None if there is one only.
    """

    inputs: Stage[SensitivityInputs]
    first: Stage[Ranking]
    others: tuple[Stage[Ranking], ...]
    agreement: Stage[Agreement] | None

    def all(self, store: Store) -> Sensitivities:
        """Every ranking, and their agreement."""
        ranked = (self.first, *self.others)
        return Sensitivities(tuple(store[one] for one in ranked), store[self.agreement] if self.agreement else None)


def rankings_of(
    settings: Settings, network: Stage[Network], distribution: Stage[Distribute | None], gpu: Gpu
) -> RankingStages:
    """The rankings of a calibrated network by every metric that was asked for, on `gpu` if one of them runs engines."""
    inputs = _inputs(network, distribution, engines_for_ranking(settings, network, gpu.stage))
    first, *others = settings.sensitivity
    if others and REFERENCE not in settings.sensitivity:
        others.append(REFERENCE)
    ranked = (
        _ranking(first, "sensitivity", inputs),
        *(_ranking(name, f"sensitivity.{name}", inputs) for name in others),
    )
    agreement = Stage(
        "agreement", lambda job: agreement_of([job[one] for one in ranked]), json_kind(Agreement), needs=ranked
    )
    return RankingStages(inputs, ranked[0], ranked[1:], agreement if others else None)


def configured_metric(name: str, settings: Settings) -> SensitivityMetric:
    """The sensitivity metric called `name`, its fields set by the settings of the same names.

    Raises:
        SettingsError: There is none of this name.
    """
    metric: Any = metric_from_name(name)
    given = {option: getattr(settings, option) for option in _options_of(metric)}
    configured: SensitivityMetric = replace(metric, **{key: value for key, value in given.items() if value is not None})
    return configured


def _options_of(metric: Any) -> tuple[str, ...]:
    return tuple(field.name for field in fields(metric) if field.name in Settings.model_fields)


def _inputs(
    network: Stage[Network], distribution: Stage[Distribute | None], engines: Stage[PlanEngines] | None
) -> Stage[SensitivityInputs]:
    def make(job: Job) -> SensitivityInputs:
        settings, own = job.settings, job[network]
        states = job[PREPARED].states.values()  # steps run alone here, and these tell what later ones would suffer
        counted = replace(own, graph=with_outputs(own.graph, list(dict.fromkeys((*job[OUTPUTS].names, *states)))))
        return SensitivityInputs(
            network=counted, candidates=settings.formats, samples=job[CALIBRATION],
            sample_limit=settings.sensitivity_samples, loss=job[LOSS], runtime=job[RUNTIME], batch=job[BATCH],
            seed=settings.seed, distribute=job[distribution], engines=job[engines] if engines else None,
        )  # fmt: skip

    asked = (engines,) if engines else ()
    return Stage(
        "sensitivity-inputs", make, needs=(network, PREPARED, CALIBRATION, LOSS, OUTPUTS, RUNTIME, *asked),
        reads=("formats", "sensitivity_samples", "seed"), uses=(BATCH, distribution),
    )  # fmt: skip


def _ranking(metric: str, name: str, inputs: Stage[SensitivityInputs]) -> Stage[Ranking]:
    return Stage(
        name, lambda job: configured_metric(metric, job.settings).rank(job[inputs], job.progress), json_kind(Ranking),
        needs=(inputs,), reads=_options_of(metric_from_name(metric)), constants=(metric,),
        title=f"Sensitivity ({metric})",
    )  # fmt: skip
