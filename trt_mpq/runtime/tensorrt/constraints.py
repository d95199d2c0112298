"""Weak typing, TensorRT 8.6 to 10: a plan's precisions as constraints on network layers.

Everything here is gone in TensorRT 11. Constraining more than needed makes builds fail: TensorRT refuses types on
shape tensors, finds no kernel for constrained constants (NVIDIA/TensorRT issues 2407 and 3224) and leaves Q/DQ
unfused. So only layers that compute floating point are constrained.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from trt_mpq.runtime.tensorrt.layers import layers_of, node_of
from trt_mpq.types import Precision

if TYPE_CHECKING:
    import tensorrt as trt

_NO_ARITHMETIC = ("CONSTANT", "SHAPE", "SHUFFLE", "IDENTITY", "CAST", "QUANTIZE", "DEQUANTIZE")
_SHOWN = 5


def constrain(
    network: trt.INetworkDefinition, config: trt.IBuilderConfig, constraints: Mapping[str, Precision]
) -> tuple[str, ...]:
    """Allow the precisions of the plan in `config` and pin layers of `network` to theirs.

    Args:
        network: Parsed from ONNX, weakly typed.
        config: Its builder configuration.
        constraints: ONNX node name to FP16, FP32 or INT8; what is in INT8 writes what its reader or Q/DQ asks for.

    Returns:
        A note if some nodes became no layer, which leaves their precision to TensorRT.
    """
    from trt_mpq.runtime.tensorrt.flavour import trt

    types = {
        Precision.FP16: trt.DataType.HALF,
        Precision.FP32: trt.DataType.FLOAT,
        Precision.INT8: trt.DataType.INT8,
    }
    found = set()
    for layer in layers_of(network):
        if (node := node_of(layer)) in constraints:
            found.add(node)
            _pin(layer, types[constraints[node]])
    _allow(network, config, constraints)
    lost = [node for node in constraints if node not in found]
    if not lost:
        return ()
    shown = ", ".join(lost[:_SHOWN]) + (", …" if len(lost) > _SHOWN else "")
    return (f"{len(lost)} of {len(constraints)} precision constraints: TensorRT has no layer of that name ({shown})",)


def _pin(layer: trt.ILayer, dtype: trt.DataType) -> None:
    from trt_mpq.runtime.tensorrt.flavour import trt

    if layer.type in {getattr(trt.LayerType, name) for name in _NO_ARITHMETIC}:
        return
    outputs = [layer.get_output(index) for index in range(layer.num_outputs)]
    computed = [index for index, tensor in enumerate(outputs) if tensor is not None and _is_activation(tensor)]
    if computed:
        layer.precision = dtype
    if dtype != trt.DataType.INT8:  # its result is floating point: a quantizer behind it says where it is not
        for index in computed:
            layer.set_output_type(index, dtype)


def _is_activation(tensor: trt.ITensor) -> bool:
    from trt_mpq.runtime.tensorrt.flavour import trt

    return tensor.is_execution_tensor and tensor.dtype in (trt.DataType.FLOAT, trt.DataType.HALF)


def _allow(network: trt.INetworkDefinition, config: trt.IBuilderConfig, constraints: Mapping[str, Precision]) -> None:
    from trt_mpq.runtime.tensorrt.flavour import trt

    quantized = _quantized_types(network)
    if quantized or not constraints or Precision.FP16 in constraints.values():  # all FP32: nothing else to try
        config.set_flag(trt.BuilderFlag.FP16)
    if trt.DataType.INT8 in quantized:  # without Q/DQ the flag asks for a calibrator
        config.set_flag(trt.BuilderFlag.INT8)
    if trt.DataType.FP8 in quantized:
        config.set_flag(trt.BuilderFlag.FP8)
    config.set_flag(trt.BuilderFlag.OBEY_PRECISION_CONSTRAINTS)


def _quantized_types(network: trt.INetworkDefinition) -> set[trt.DataType]:
    from trt_mpq.runtime.tensorrt.flavour import trt

    types = set()
    for layer in layers_of(network):
        if layer.type == trt.LayerType.QUANTIZE:
            types.add(layer.get_output(0).dtype)
        elif layer.type == trt.LayerType.DEQUANTIZE:
            types.add(layer.get_input(0).dtype)
    return types
