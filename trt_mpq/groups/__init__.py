"""Groups: what TensorRT fuses into one kernel, and which therefore shares one precision.

Rules decided here, each by graph structure and never by a node's name:

- A group is an *anchor* (Conv, ConvTranspose, Gemm, MatMul with a constant second operand), then what
  follows it while the tensor between has one reader and is no network output: a per-channel constant Add,
  a residual Add, one activation. Each step is optional (TensorRT developer guide, "Types of fusions").
- A residual Add joins the later of two anchors that could take it: that one runs last and adds in its
  epilogue. The other operand is quantized too ("Explicit quantization", recommendation on skip connections).
- Anchors that read the same weight along the same axis quantize it alike and stay groups of their own.
  Along different axes there is no common quantized weight, so they stay in high precision.
- Model Optimizer's exclusions are priors (`exclusions="modelopt"`), to be overridden by measurements.
"""

from trt_mpq.groups.grouping import Exclusions, groups_from_model
from trt_mpq.groups.text import describe_groups

__all__ = ["Exclusions", "describe_groups", "groups_from_model"]
