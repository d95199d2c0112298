"""From plan to graph: Q/DQ placement, float types, and the three flavours."""

from trt_mpq.emit.emitter import Emitter
from trt_mpq.emit.network import Network
from trt_mpq.emit.refinements import BiasCorrections, Own, RefinedWeights, Refinements, Roundings

__all__ = ["BiasCorrections", "Emitter", "Network", "Own", "RefinedWeights", "Refinements", "Roundings"]
