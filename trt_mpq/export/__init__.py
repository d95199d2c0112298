"""From a torch module or a Hugging Face folder to an ONNX file that computes the same, checked before it is written."""

from trt_mpq.export.exporter import export_once, export_to_onnx
from trt_mpq.export.sources import is_torch_source
from trt_mpq.export.values import DynamicAxis, ExportedModel, ExportOptions, OutputCheck, Tolerance

__all__ = [
    "DynamicAxis",
    "ExportOptions",
    "ExportedModel",
    "OutputCheck",
    "Tolerance",
    "export_once",
    "export_to_onnx",
    "is_torch_source",
]
