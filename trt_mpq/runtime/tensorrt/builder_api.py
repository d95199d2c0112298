"""The other way of a plan into TensorRT: a network parsed in high precision gets its quantizers layer by layer.

ONNX stays the source: the quantizers are those of the typed file, and what comes out is the network that the parser
makes of that. What a parsed convolution computes with lies inside the layer, so one that reads dequantized weights
takes its place.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from trt_mpq.graph.quantizers import HighPrecision, Quantizer, ScaleCodes
from trt_mpq.runtime.tensorrt.layers import layers_of, metadata_of, node_of
from trt_mpq.runtime.tensorrt.refusal import BuildError

if TYPE_CHECKING:
    import tensorrt as trt

_COPIED = ("stride_nd", "dilation_nd", "num_groups", "padding_mode", "pre_padding", "post_padding")


def add_quantizers(network: trt.INetworkDefinition, high: HighPrecision) -> tuple[NDArray[Any], ...]:
    """Add the quantizers of `high` to the network that was parsed from its graph.

    Returns:
        The arrays that the network reads its new constants from: they must live as long as it.

    Raises:
        BuildError: TensorRT made of the file what has no place for a quantizer, or refuses to add it.
    """
    editor = _Editor(network, high.nodes)
    for quantizer in high.quantizers:
        editor.add(quantizer)
    editor.mark_outputs()
    return tuple(editor.arrays)


class _Editor:
    """Adds layers to a parsed network.

    Attributes:
        arrays: What the constants were made of.
    """

    def __init__(self, network: trt.INetworkDefinition, nodes: Collection[str]) -> None:
        from trt_mpq.runtime.tensorrt.flavour import trt

        self._network, self._nodes = network, nodes
        self._outputs = [network.get_output(index).name for index in range(network.num_outputs)]
        self._parsed = list(layers_of(network))
        self._reads: dict[str, list[tuple[trt.ILayer, int]]] = {}
        self._tensors = {tensor.name: tensor for tensor in map(network.get_input, range(network.num_inputs))}
        for layer in self._parsed:
            for index in range(layer.num_inputs):
                if (tensor := layer.get_input(index)) is not None:
                    self._reads.setdefault(tensor.name, []).append((layer, index))
            for tensor in _outputs(layer):
                self._tensors[tensor.name] = tensor
        self._constants = {
            layer.name: layer.get_output(0) for layer in self._parsed if layer.type == trt.LayerType.CONSTANT
        }
        self._added: dict[str, trt.ITensor] = {}
        self.arrays: list[NDArray[Any]] = []

    def add(self, quantizer: Quantizer) -> None:
        """Add one quantizer in front of all that read it."""
        if quantizer.scale_codes is None:
            scale = self._constant(quantizer.scale_name, quantizer.scale, _data_type(quantizer.result))
            result = self._dequantized(self._codes(quantizer, scale), scale, quantizer)
        else:
            result = self._dequantized_twice(quantizer, quantizer.scale_codes)
        for node in dict.fromkeys(node for node, _ in quantizer.reads):
            self._connect(quantizer, node, result)

    def _dequantized(self, codes: trt.ITensor, scale: trt.ITensor, quantizer: Quantizer) -> trt.ITensor:
        layer = self._converting(self._network.add_dequantize, codes, scale, quantizer.result)
        return self._named(layer, quantizer.dequantized, quantizer.axis)

    def _dequantized_twice(self, quantizer: Quantizer, scales: ScaleCodes) -> trt.ITensor:
        """First the scales, then the values, both to FP32, and then cast: as the typed file has it."""
        wide = ir.DataType.FLOAT
        tensor_scale = self._constant(scales.tensor_scale_name, scales.tensor_scale, _data_type(wide))
        if scales.constant is not None and quantizer.constant is not None:
            codes = self._stored(quantizer.quantized, quantizer.constant)
            scale_codes, axis = self._stored(scales.quantized, scales.constant), quantizer.axis
        else:
            source = self._source(quantizer)
            axis = len(source.shape) - 1
            codes, scale_codes = self._quantized_as_they_come(quantizer, scales, source, tensor_scale)
        scale = self._converting(self._network.add_dequantize, scale_codes, tensor_scale, wide)
        scale = self._named(scale, scales.dequantized, 1)
        values = self._converting(self._network.add_dequantize, codes, scale, wide)
        values = self._named(values, scales.wide, axis)
        if quantizer.result is wide:
            return values
        cast = self._network.add_cast(values, _data_type(quantizer.result))
        return self._named(cast, quantizer.dequantized)

    def _quantized_as_they_come(
        self, quantizer: Quantizer, scales: ScaleCodes, source: trt.ITensor, tensor_scale: trt.ITensor
    ) -> tuple[trt.ITensor, trt.ITensor]:
        """Codes of the blocks along the last axis of `source`, and codes of their scales."""
        types = _data_type(quantizer.codes), _data_type(ir.DataType.FLOAT8E4M3FN)
        network: Any = self._network  # 8.6 has no such layer, nor FP4
        layer = network.add_dynamic_quantize(source, len(source.shape) - 1, quantizer.block, *types)
        codes = self._named(layer, quantizer.quantized)
        layer.set_input(1, tensor_scale)
        scale_codes: trt.ITensor = layer.get_output(1)
        scale_codes.name = scales.quantized
        return codes, scale_codes

    def mark_outputs(self) -> None:
        """Mark what is written for the outputs of the network now, in their order."""
        marked = [self._network.get_output(index) for index in range(self._network.num_outputs)]
        if [tensor.name for tensor in marked] != self._outputs:
            for tensor in marked:
                self._network.unmark_output(tensor)
            for name in self._outputs:
                self._network.mark_output(self._tensors[name])

    def _codes(self, quantizer: Quantizer, scale: trt.ITensor) -> trt.ITensor:
        if quantizer.stored:
            assert quantizer.constant is not None
            return self._stored(quantizer.quantized, quantizer.constant)
        if quantizer.quantized not in self._added:
            source = self._source(quantizer)
            layer = self._converting(self._network.add_quantize, source, scale, quantizer.codes)
            self._added[quantizer.quantized] = self._named(layer, quantizer.quantized, quantizer.axis)
        return self._added[quantizer.quantized]

    def _source(self, quantizer: Quantizer) -> trt.ITensor:
        if quantizer.constant is not None:
            held = quantizer.constant
            return self._stored(str(held.name), held)
        if quantizer.tensor not in self._tensors:
            raise _no_place(quantizer)
        return self._tensors[quantizer.tensor]

    def _converting(self, add: Any, tensor: trt.ITensor, scale: trt.ITensor, to: ir.DataType) -> Any:
        from trt_mpq.runtime.tensorrt.flavour import trt

        # 8.6 knows INT8 and FP32 alone, and takes no type.
        return add(tensor, scale, _data_type(to)) if hasattr(trt.IQuantizeLayer, "to_type") else add(tensor, scale)

    def _named(self, layer: Any, name: str, axis: int | None = None) -> trt.ITensor:
        if layer is None:
            raise BuildError(f"TensorRT refuses to add the quantizer {name}")
        layer.name, layer.metadata = name, metadata_of(name)
        if axis is not None:
            layer.axis = axis
        tensor: trt.ITensor = layer.get_output(0)
        tensor.name = name
        return tensor

    def _constant(self, name: str, content: NDArray[Any], data_type: trt.DataType) -> trt.ITensor:
        return self._constant_of(name, np.ascontiguousarray(content), content.shape, data_type)

    def _stored(self, name: str, held: ir.TensorProtocol) -> trt.ITensor:
        """A constant of the file, two elements of 4 bit in a byte."""
        array, shape = np.frombuffer(held.tobytes(), np.uint8), tuple(held.shape.numpy())
        return self._constant_of(name, array, shape, _data_type(held.dtype))

    def _constant_of(
        self, name: str, array: NDArray[Any], shape: tuple[int, ...], data_type: trt.DataType
    ) -> trt.ITensor:
        from trt_mpq.runtime.tensorrt.flavour import trt

        if name not in self._added:
            self.arrays.append(array)
            weights = trt.Weights(data_type, array.ctypes.data, prod(shape))
            layer = self._network.add_constant(shape, weights)
            if layer is None:
                raise BuildError(f"TensorRT refuses the constant {name}")
            layer.name = name
            self._added[name] = layer.get_output(0)
        return self._added[name]

    def _connect(self, quantizer: Quantizer, node: str, result: trt.ITensor) -> None:
        """Let the layers of `node` read `result` instead of what they read."""
        if quantizer.constant is None:
            before = self._tensors[quantizer.tensor]
        elif quantizer.tensor in self._constants:
            before = self._constants[quantizer.tensor]
        else:
            self._replace_convolution(quantizer, node, result)
            return
        reading = [(layer, i) for layer, i in self._reads.get(before.name, ()) if node in self._owners(layer)]
        if not reading:
            raise _no_place(quantizer)
        for layer, index in reading:
            layer.set_input(index, result)

    def _owners(self, layer: trt.ILayer) -> set[str]:
        """The nodes that a layer was made for: one that no node is named for is there for those that read it."""
        if (node := node_of(layer)) in self._nodes:
            return {node}
        readers = (reader for tensor in _outputs(layer) for reader, _ in self._reads.get(tensor.name, ()))
        return {owner for reader in readers for owner in self._owners(reader)}

    def _replace_convolution(self, quantizer: Quantizer, node: str, weights: trt.ITensor) -> None:
        """Add a convolution that reads `weights`, and let it do what the one of `node` did."""
        old, add = self._convolution(quantizer, node)
        from trt_mpq.runtime.tensorrt.flavour import trt

        bias = old.bias
        self.arrays.append(bias)
        empty = trt.Weights(_data_type(quantizer.result))
        new = add(old.get_input(0), old.num_output_maps, old.kernel_size_nd, empty, bias)
        for name in _COPIED:
            setattr(new, name, getattr(old, name))
        new.set_input(1, weights)
        new.metadata = old.metadata
        _take_name(old, new)
        self._tensors[old.get_output(0).name] = new.get_output(0)
        for layer, index in self._reads.get(old.get_output(0).name, ()):
            layer.set_input(index, new.get_output(0))
        _take_name(old.get_output(0), new.get_output(0))
        self._take_place(old, new)

    def _convolution(self, quantizer: Quantizer, node: str) -> tuple[Any, Any]:
        from trt_mpq.runtime.tensorrt.flavour import trt

        for layer in self._parsed:
            if node_of(layer) == node and layer.type == trt.LayerType.CONVOLUTION:
                return _known_as(layer, trt.IConvolutionLayer), self._network.add_convolution_nd
            if node_of(layer) == node and layer.type == trt.LayerType.DECONVOLUTION:
                return _known_as(layer, trt.IDeconvolutionLayer), self._network.add_deconvolution_nd
        raise _no_place(quantizer)

    def _take_place(self, old: trt.ILayer, new: trt.ILayer) -> None:
        """Read by `new` what `old` read, also for quantizers to come."""
        self._parsed.append(new)
        for reading in self._reads.values():
            reading[:] = [(new if layer is old else layer, index) for layer, index in reading]


def _take_name(old: Any, new: Any) -> None:
    name = old.name
    old.name = f"{name} in high precision"  # no two may have the same
    new.name = name


def _outputs(layer: trt.ILayer) -> Iterable[trt.ITensor]:
    return filter(None, (layer.get_output(index) for index in range(layer.num_outputs)))


def _known_as(layer: Any, kind: type[Any]) -> Any:
    """A layer that is asked for by number does not know its kind, of which it has to be told."""
    layer.__class__ = kind
    return layer


def _data_type(dtype: ir.DataType) -> trt.DataType:
    from trt_mpq.runtime.tensorrt.flavour import trt

    known = {
        ir.DataType.FLOAT: trt.DataType.FLOAT, ir.DataType.FLOAT16: trt.DataType.HALF,
        ir.DataType.BFLOAT16: getattr(trt.DataType, "BF16", None), ir.DataType.INT8: trt.DataType.INT8,
        ir.DataType.FLOAT8E4M3FN: trt.DataType.FP8, ir.DataType.INT4: getattr(trt.DataType, "INT4", None),
        ir.DataType.FLOAT4E2M1: getattr(trt.DataType, "FP4", None),
    }  # fmt: skip
    if (found := known.get(dtype)) is None:
        raise BuildError(f"the builder API of TensorRT {trt.__version__} has no type {dtype.name}")
    return found


def _no_place(quantizer: Quantizer) -> BuildError:
    return BuildError(
        f"the network that TensorRT parsed has no place for the quantizer {quantizer.dequantized}: take --through onnx"
    )
