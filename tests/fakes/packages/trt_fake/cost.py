"""How long a layer of the pretended GPU takes, in milliseconds."""

from __future__ import annotations

from trt_fake.behaviour import Behaviour
from trt_fake.engine_layer import Border, Layer

BYTES = {"fp32": 4, "fp16": 2, "bf16": 2, "fp8": 1, "int8": 1, "uint8": 1, "int32": 4, "int64": 8, "bool": 1}
_SPEED = {"fp32": 1.0, "fp16": 2.0, "bf16": 2.0, "int8": 4.0, "fp8": 4.0}


def layer_ms(layer: Layer, behaviour: Behaviour, scale: float) -> float:
    """Time of one layer: launch, plus the slower of arithmetic and memory; `scale` is the batch over the optimum's."""
    eight_bit = layer.precision in ("int8", "fp8") and layer.kind != "Reformat"
    slowdown = behaviour.eight_bit_slowdown if eight_bit else 1.0
    arithmetic = layer.flops / (behaviour.gflops * 1e9 * _SPEED.get(layer.precision, 1.0))
    moved = sum(nbytes(border) for border in (*layer.inputs, *layer.outputs)) / (behaviour.bandwidth_gb_s * 1e9)
    return behaviour.launch_us / 1e3 + 1e3 * slowdown * scale * max(arithmetic, moved)


def nbytes(border: Border) -> int:
    """Size of a tensor with concrete shape."""
    total = BYTES.get(border.dtype, 4)
    for dimension in border.shape:
        total *= max(dimension, 1)
    return total
