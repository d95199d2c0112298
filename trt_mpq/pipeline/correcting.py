"""The bias corrections of one run, measured once for whoever asks."""

from __future__ import annotations

from trt_mpq.artifacts.stages import Stages
from trt_mpq.dataset import Samples
from trt_mpq.emit import BiasCorrections, Refinements
from trt_mpq.emit.network import Network
from trt_mpq.pipeline.keys import Keys
from trt_mpq.refine.bias_correction import CorrectionInputs, correct_biases, correct_for_plan
from trt_mpq.refine.storage import corrections_from_file, save_corrections
from trt_mpq.runtime.base import Runtime
from trt_mpq.types import Precision, PrecisionPlan


class Correcting:
    """Corrects the biases of calibrated networks.

    Args:
        keys: Keys of the stages.
        stages: Keep what is computed here.
        samples: Calibration data.
        runtime: Where networks run.
    """

    def __init__(self, keys: Keys, stages: Stages, samples: Samples, runtime: Runtime) -> None:
        self._keys, self._stages, self._samples, self._runtime = keys, stages, samples, runtime

    def inputs(self, network: Network, refinements: Refinements, formats: tuple[Precision, ...]) -> CorrectionInputs:
        """How biases of `network` are corrected, with whatever else is refined in it."""
        return CorrectionInputs(
            network.graph, network.grouping, network.emitter(refinements), self._samples, self._runtime, formats
        )

    def for_plan(self, network: Network, refinements: Refinements, plan: PrecisionPlan) -> BiasCorrections:
        """The corrections under exactly `plan`, with whatever else is refined in it; measured anew at each call."""
        return correct_for_plan(self.inputs(network, refinements, ()), plan)

    def unrounded(self, network: Network, precision: Precision) -> BiasCorrections:
        """The corrections under the uniform plan of `precision` where weights are rounded to nearest."""
        method = network.ranges.methods[precision]
        path = self._stages.path(f"corrections-{precision}-{method}.npz")
        given = self.inputs(network, Refinements(), (precision,))
        self._stages.files(
            f"correct-biases.{precision}.{method}", self._keys.unrounded_corrections(network, precision), (path.name,),
            lambda progress: save_corrections(path, correct_biases(given, progress)),
            f"Correcting biases for uniform {precision} by {method}",
        )  # fmt: skip
        return corrections_from_file(path)
