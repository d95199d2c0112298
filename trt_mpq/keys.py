"""What each stage depends on: its key changes whenever something changes that can change its result.

A setting belongs into a key exactly if it can alter the files of that stage: `threads`, `workers` and `ray` are in
none. `batch` is in those that latency or task scores depend on; ranges and rankings are the same for every batch up to
float rounding. Keys build on each other, so a stage also depends on whatever the stages before it depend on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from trt_mpq import __version__
from trt_mpq.inputs import Choices, Data
from trt_mpq.settings import Settings
from trt_mpq.storage import key_of, to_json
from trt_mpq.types import Model, PrecisionPlan, Target


def preparation_key(source_sha256: str) -> str:
    """Key of the prepared model: the file it was made from."""
    return key_of(__version__, source_sha256)


def equalization_key(prepared: Model) -> str:
    """Key of the equalized model, which follows from the prepared one."""
    return key_of(__version__, prepared.sha256)


def smoothing_key(model: Model, settings: Settings, data: Data, runtime: str) -> str:
    """Key of `model` smoothed, which the calibration data in `runtime` and the parameter decide."""
    return key_of(
        __version__, model.sha256, data.calibration.fingerprint, data.sample_shapes, settings.smooth_alpha, runtime
    )


@dataclass(frozen=True)
class Keys:
    """The keys of every stage after preparation.

    Args:
        settings: What the user asked for.
        choices: What the settings name.
        data: Calibration and evaluation data, and the prepared model they were opened for.
        prepared: The prepared model, before it is equalized or smoothed.
        model: The model that the stages work on.
    """

    settings: Settings
    choices: Choices
    data: Data
    prepared: Model
    model: Model

    def groups(self, model: Model) -> str:
        """Key of the groups of `model`."""
        return key_of(__version__, model.sha256, self.settings.exclusions, self.data.sample_shapes)

    def ranges(self, model: Model) -> str:
        """Key of the ranges of `model`."""
        formats = self.settings.formats
        calibration = self.data.calibration.fingerprint
        return key_of(self.groups(model), calibration, self.settings.calibration, formats, self.choices.runtime.name)

    def network(self, model: Model) -> str:
        """Key of the calibrated network: the ranges of `model`, and what it runs in where that is not 8 bit."""
        return key_of(self.ranges(model), self.settings.top, self.choices.refuge)

    def rounding(self, plan: str) -> str:
        """Key of the learned rounding under `plan`: a precision for its uniform plan, or a digest."""
        return key_of("rounding", self.network(self.model), plan, self.settings.adaround_steps, self.settings.seed)

    def corrections(self, roundings: Sequence[str]) -> str:
        """Key of the bias corrections, which the calibrated network decides, and the weights as they are rounded."""
        return key_of("corrections", self.network(self.model), *roundings)

    def scores(self, model: Model) -> str:
        """Context of the scores of plans of `model`, beside the plan and its refinement."""
        return key_of(self.network(model), self._task)

    @property
    def fp32_score(self) -> str:
        """Context of the score of the FP32 model."""
        return key_of(__version__, self.prepared.sha256, self.choices.runtime.name, self._task)

    def ranking(self, metric: str) -> str:
        """Key of the ranking by `metric`."""
        s = self.settings
        return key_of(
            self.network(self.model), metric, s.sensitivity_samples, s.trials, s.noise_amplitude, s.seed,
            self.data.loss.name,
        )  # fmt: skip

    @property
    def described(self) -> str:
        """Key of what is handed over of the calibrated network."""
        s = self.settings
        return key_of(
            self.network(self.model), self.data.evaluation.fingerprint, self.data.batch, s.precisions, s.mix_formats,
            s.seed,
        )  # fmt: skip

    def search(self, latency: str) -> str:
        """Key of the search with latencies from what `latency` identifies."""
        s = self.settings
        return key_of(
            self.ranking(s.sensitivity[0]), self.fp32_score, self.scores(self.model), s.bias_correction,
            s.adaround and s.adaround_steps, s.search, s.precisions, s.mix_formats, s.target_accuracy, s.target_latency,
            s.target_size, s.confidence, s.max_evaluations, s.max_seconds, s.keep, s.exclude,
            to_json(self.choices.target, Target), latency,
        )  # fmt: skip

    def result(self, search: str) -> str:
        """Key of what is made of the outcome of the search with the key `search`."""
        return key_of(search, self.settings.refines_plan)

    def delivery(self, result: str, plan: PrecisionPlan) -> str:
        """Key of the files of `plan`, which was chosen under the key `result`."""
        return key_of(result, plan.digest)

    def comparison(self, delivery: str, samples: int) -> str:
        """Key of the comparison with FP32 of what was delivered, on the first `samples` evaluation samples."""
        return key_of(delivery, self.data.evaluation.fingerprint, samples)

    @property
    def _task(self) -> str:
        return key_of(self.data.evaluation.fingerprint, self.data.metric_identity, self.data.batch)
