"""Groups: what TensorRT fuses into one kernel, and which therefore shares one precision.

Rules decided here, each by graph structure and never by a node's name:

- A group is an *anchor* (Conv, ConvTranspose, Gemm, MatMul with one constant operand, on either side), then what
  follows it while the tensor between has one reader and is no network output: a per-channel constant Add,
  behind a convolution a residual Add, one activation, also one that is spelled out (GELU, Swish). Each step
  is optional (TensorRT developer guide, "Types of fusions"). An activation stays in FP16, without quantizers.
- A residual Add joins the later of two convolutions that could take it: that one runs last and adds in its
  epilogue. The other operand is quantized too ("Explicit quantization", recommendation on skip connections).
  Behind a matrix product it stays outside (`fusion._absorb_residual` says why).
- Matrix products of one tensor (Q, K and V; the gate of an MLP) are one group with several anchors, which
  TensorRT runs as one product if their precisions agree. No plan can split them. Where only weights are quantized they
  are a product each, and still one decision: nothing is gained by leaving one of them wide.
- The two products of attention, with the scale, the mask and the softmax between them, are one group without
  a weight, where TensorRT fuses them. Other products of two computed tensors are groups of their own, without a weight
  too. Embeddings and what no 8-bit kernel exists for stay in high precision with the reason.
- Anchors that read the same weight along the same axis quantize it alike and stay groups of their own.
  Along different axes there is no common quantized weight, so they stay in high precision.
- Model Optimizer's exclusions are priors (`exclusions="modelopt"`), to be overridden by measurements.
"""

from trt_mpq.groups.grouping import Exclusions, groups_from_model
from trt_mpq.groups.text import describe_groups

__all__ = ["Exclusions", "describe_groups", "groups_from_model"]
