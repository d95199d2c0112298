"""The engine inspector's JSON, in the schema of each version."""

from __future__ import annotations

import json
from typing import Any

from trt_fake.classes import Stored
from trt_fake.engine_layer import Border, Layer
from trt_fake.plan import Plan

_OLD_FORMATS = {
    "fp32": "Row major linear FP32",
    "fp16": "Channel major FP16 format where channel % 8 == 0",
    "int8": "Thirty-two wide channel vectorized row major Int8 format",
    "int32": "Row major linear Int32 format",
    "bool": "Row major Bool format",
}
_SHORT = {
    "fp32": "Float",
    "fp16": "Half",
    "bf16": "BFloat16",
    "fp8": "FP8",
    "int8": "Int8",
    "uint8": "UInt8",
    "int32": "Int32",
    "int64": "Int64",
    "bool": "Bool",
}
_TACTICS = {
    "fp32": "sm80_xmma_fprop_implicit_gemm_f32f32_f32f32_f32_nhwckrsc_nhwc_tilesize128x64x8_stage3",
    "fp16": "sm80_xmma_fprop_implicit_gemm_f16f16_f16f16_f16_nhwckrsc_nhwc_tilesize128x64x32_stage4",
    "bf16": "sm80_xmma_fprop_implicit_gemm_bf16bf16_bf16f32_f32_nhwckrsc_nhwc_tilesize128x64x32_stage4",
    "int8": "sm80_xmma_fprop_implicit_gemm_interleaved_i8i8_i8i32_f32_nchw_vect_c_32kcrs_vect_c_32_nchw_vect_c_32",
    "fp8": "sm89_xmma_fprop_implicit_gemm_e4m3e4m3_e4m3f32_f32_nhwckrsc_nhwc_tilesize128x64x64_stage3_warpsize2x2x1",
}


class EngineInspector:
    """Describes an engine, as far as it was built to be described."""

    execution_context = Stored(None)

    def _setup(self, plan: Plan) -> None:
        self._plan = plan

    def get_engine_information(self, format: Any) -> str:
        layers = [self._layer(layer) for layer in self._plan.layers]
        if self._is_new:
            return json.dumps({"Layers": layers, "I/O Tensors": self._io_tensors()}, indent=1)
        names = [border.name for border in (*self._plan.inputs, *self._plan.outputs)]
        return json.dumps({"Layers": layers, "Bindings": names}, indent=1)

    def get_layer_information(self, layer_index: int, format: Any) -> str:
        return json.dumps(self._layer(self._plan.layers[layer_index]), indent=1)

    @property
    def _is_new(self) -> bool:
        return not hasattr(self._api.BuilderFlag, "FP16")

    @property
    def _is_old(self) -> bool:
        return not hasattr(self._api.ICudaEngine, "get_engine_stat")

    def _layer(self, layer: Layer) -> Any:
        if self._plan.verbosity != "DETAILED":
            return layer.name if self._plan.verbosity == "LAYER_NAMES_ONLY" else ""
        opaque = layer.kind == "Myelin"
        described = {
            "Name": layer.name,
            "LayerType": layer.kind,
            "Inputs": [self._tensor(border) for border in layer.inputs],
            "Outputs": [self._tensor(border) for border in layer.outputs],
            "TacticName": _TACTICS.get(layer.precision, "") if layer.kind.startswith("Cask") and not opaque else "",
            "TacticValue": "0x0000000000000000",
            "StreamId": 0,
            "Metadata": "\x1e".join(f"[ONNX Layer: {node}]" for node in layer.nodes),
        }
        if layer.op in ("Conv", "ConvTranspose") and not opaque:
            described |= {"ParameterType": "Convolution", "Weights": {"Type": _SHORT[layer.precision], "Count": 0}}
        return described

    def _tensor(self, border: Border) -> dict[str, Any]:
        described: dict[str, Any] = {"Name": border.name, "Location": "Device", "Dimensions": list(border.shape)}
        if self._is_new:
            return described | {"Format": "Linear", "Datatype": _SHORT[border.dtype]}
        known = _OLD_FORMATS if self._is_old else _SHORT
        format = known.get(border.dtype, _SHORT[border.dtype])
        if any(size < 0 for size in border.shape) and self.execution_context is None:
            format = "N/A due to dynamic shapes"
        return described | {"Format/Datatype": format}

    def _io_tensors(self) -> list[dict[str, Any]]:
        return [
            {
                "Name": border.name,
                "IOMode": mode,
                "DataType": _SHORT[border.dtype],
                "Dimensions": list(border.shape),
                "Location": "Device",
                "IsShapeInferenceIO": "False",
                "ProfileInfo": [
                    dict(zip(("MinShape", "OptShape", "MaxShape"), shapes[border.name], strict=True))
                    | {"Format": "Linear"}
                    for shapes in self._plan.profiles
                    if border.name in shapes
                ],
            }
            for mode, side in (("Input", self._plan.inputs), ("Output", self._plan.outputs))
            for border in side
        ]
