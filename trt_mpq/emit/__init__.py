"""From plan to graph: Q/DQ placement, float types, and the three flavours."""

from trt_mpq.emit.emitter import BiasCorrections, Emitter

__all__ = ["BiasCorrections", "Emitter"]
