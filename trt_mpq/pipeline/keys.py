"""What each stage depends on: its key changes whenever something changes that can change its result.

A setting belongs into a key exactly if it can alter the files of that stage: `threads`, `workers` and `ray` are in
none. `batch` is in those that latency or task scores depend on; ranges and rankings are the same for every batch up to
float rounding. Keys build on each other, so a stage also depends on whatever the stages before it depend on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from trt_mpq import __version__
from trt_mpq.artifacts.storage import key_of, to_json
from trt_mpq.emit.network import Network
from trt_mpq.pipeline.inputs import Choices, Data
from trt_mpq.settings import Settings
from trt_mpq.types import Model, Precision, PrecisionPlan, Target


def preparation_key(source_sha256: str) -> str:
    """Key of the prepared model: the file it was made from."""
    return key_of(__version__, source_sha256)


def equalization_key(prepared: Model, data: Data) -> str:
    """Key of the equalized model, which follows from the groups of the prepared one, and so from the data's shapes."""
    return key_of(__version__, prepared.sha256, data.sample_shapes)


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
    """

    settings: Settings
    choices: Choices
    data: Data
    prepared: Model

    def groups(self, model: Model) -> str:
        """Key of the groups of `model`."""
        return key_of(__version__, model.sha256, self.settings.exclusions, self.data.sample_shapes)

    def ranges(self, model: Model) -> str:
        """Key of the ranges of `model` by every method."""
        return key_of(self._observed(model), self.settings.calibration, self.settings.formats)

    def methods(self, model: Model) -> str:
        """Key of the choice of a calibration method for every format, which the scores of uniform plans decide."""
        s = self.settings
        target = (self.fp32_score, s.target_accuracy) if s.seeks_target else None
        return key_of(self.ranges(model), self.scores(model), s.bias_correction, target)

    def network(self, network: Network) -> str:
        """Key of a calibrated network: the ranges of its model, and what it runs in where that is not 8 bit."""
        return key_of(self._in_high_precision(network.model), network.ranges.methods)

    def rounding(self, network: Network, plan: str) -> str:
        """Key of the learned rounding under `plan`: a precision for its uniform plan, or a digest."""
        return key_of("rounding", self.network(network), plan, self.settings.adaround_steps, self.settings.seed)

    def corrections(self, network: Network, roundings: Sequence[str]) -> str:
        """Key of the bias corrections, which the calibrated network decides, and the weights as they are rounded."""
        return key_of("corrections", self.network(network), *roundings)

    def unrounded_corrections(self, network: Network, precision: Precision) -> str:
        """Key of the bias corrections for one format where weights are rounded to nearest."""
        return key_of(
            "corrections", self._in_high_precision(network.model), network.ranges.methods[precision], precision
        )

    def scores(self, model: Model) -> str:
        """Context of the scores of plans of `model`, beside the plan, the ranges of its formats and its refinement."""
        return key_of(self._in_high_precision(model), self._task)

    @property
    def fp32_score(self) -> str:
        """Context of the score of the FP32 model."""
        return key_of(__version__, self.prepared.sha256, self.choices.runtime.name, self._task)

    def ranking(self, network: Network, metric: str) -> str:
        """Key of the ranking by `metric`."""
        s = self.settings
        return key_of(
            self.network(network), metric, s.sensitivity_samples, s.trials, s.noise_amplitude, s.seed,
            self.data.loss.name,
        )  # fmt: skip

    def described(self, network: Network) -> str:
        """Key of what is handed over of the calibrated network."""
        s = self.settings
        return key_of(
            self.network(network), self.data.evaluation.fingerprint, self.data.batch, s.precisions, s.mix_formats,
            s.seed,
        )  # fmt: skip

    def search(self, network: Network, latency: str) -> str:
        """Key of the search with latencies from what `latency` identifies."""
        s = self.settings
        return key_of(
            self.ranking(network, s.sensitivity[0]), self.fp32_score, self.scores(network.model), s.bias_correction,
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

    def _observed(self, model: Model) -> str:
        """Digest of what calibration observes, whatever it makes of it."""
        return key_of(self.groups(model), self.data.calibration.fingerprint, self.choices.runtime.name)

    def _in_high_precision(self, model: Model) -> str:
        """Digest of that, and of what runs that is not in 8 bit."""
        return key_of(self._observed(model), self.settings.top, self.choices.refuge)

    @property
    def _task(self) -> str:
        return key_of(self.data.evaluation.fingerprint, self.data.metric_identity, self.data.batch)
