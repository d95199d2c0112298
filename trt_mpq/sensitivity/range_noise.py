"""Which calibration method serves each tensor best, told by the noise at the network's outputs.

The least squared error of a tensor does not tell: an outlier that a method clips may be what the network looks at. So
the groups that read a tensor are lowered alone, once by the range of every method, as for `output-sqnr`, and the method
is taken with which they disturb the outputs least. Noise adds up over groups, so what is best for each is best for
plans, whichever groups these lower.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from trt_mpq.calibrate.ranges import by_format
from trt_mpq.emit import Emitter, Network
from trt_mpq.evaluate.losses import LOSSES
from trt_mpq.sensitivity.base import SensitivityInputs
from trt_mpq.sensitivity.lowering import Lowering, with_enough_outputs
from trt_mpq.types import PER_TENSOR, Grouping, LayerGroup, Precision, Progress, Ranges


def method_by_tensor(
    inputs: SensitivityInputs,
    precision: Precision,
    candidates: Sequence[Ranges],
    progress: Progress | None = None,
) -> dict[str, str]:
    """Every tensor that is quantized in `precision` to the method of its range.

    Tensors are decided one after the other, those that share a scale together; those decided before keep what they
    have, others have the first method. Where methods choose the same range nothing is run, and the first of equals is
    taken. Biases are not corrected: corrections are those of a whole plan, and in a group alone they would be an error.

    Args:
        inputs: Network and samples.
        precision: What groups are lowered to.
        candidates: The ranges by every method, which they name.
        progress: Told how many of the lowered networks have run.
    """
    lowering = Lowering(replace(with_enough_outputs(inputs), loss=LOSSES["mse"]))
    by_method = {ranges.methods[precision]: ranges for ranges in candidates}
    decisions = [_Decision(*tied, by_method, precision) for tied in _tied(inputs.network.grouping, precision)]
    total, done = sum(len(decision.different) for decision in decisions), 0
    chosen: dict[str, str] = {}
    for decision in decisions:
        noise = dict.fromkeys(by_method, 0.0)
        for method in decision.different:
            tried = _emitter(inputs.network, candidates, precision, chosen | dict.fromkeys(decision.tensors, method))
            noise[method] = lowering.growth(decision.readers, precision, tried).loss
            done += 1
            if progress:
                progress(done, total)
        best = min(decision.different or by_method, key=noise.__getitem__)
        chosen.update(dict.fromkeys(decision.tensors, best))
    return chosen


@dataclass(frozen=True)
class _Decision:
    """Tensors of one scale, and the groups that read them."""

    tensors: tuple[str, ...]
    readers: tuple[str, ...]
    candidates: Mapping[str, Ranges]
    precision: Precision

    @property
    def different(self) -> tuple[str, ...]:
        """The methods, without those that choose the same as one before; none if they all do."""
        first: dict[tuple[float, ...], str] = {}
        for method, ranges in self.candidates.items():
            first.setdefault(tuple(ranges.tensors[name].amax[self.precision] for name in self.tensors), method)
        return tuple(first.values()) if len(first) > 1 else ()


def _tied(grouping: Grouping, precision: Precision) -> Iterator[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Tensors that are quantized in `precision`, those of one scale together, and who reads them, in order."""
    scale = {name: names for names in grouping.shared_scales for name in names}
    readers: dict[tuple[str, ...], dict[str, list[str]]] = {}
    for group in grouping.groups:
        for tensor in _quantized(group, precision):
            readers.setdefault(scale.get(tensor, (tensor,)), {}).setdefault(tensor, []).append(group.id)
    for own in readers.values():
        yield tuple(own), tuple(dict.fromkeys(group for groups in own.values() for group in groups))


def _quantized(group: LayerGroup, precision: Precision) -> tuple[str, ...]:
    """The tensors that the group quantizes in `precision`; none if it may not run in it."""
    reads = group.inputs if group.allows(precision) else ()
    return tuple(dict.fromkeys(site.tensor for site in reads if precision.spec.reads(site.role)))


def _emitter(
    network: Network, candidates: Sequence[Ranges], precision: Precision, methods: Mapping[str, str]
) -> Emitter:
    """Writes plans by the ranges of `methods`, of the first one for tensors without."""
    ranges = by_format(candidates, {precision: PER_TENSOR}, {precision: methods})
    return replace(network, ranges=ranges).emitter()
