"""From a torch module or a Hugging Face folder to an ONNX file that computes the same, checked before it is written."""

from trt_mpq.export.exporter import export_loaded_once, export_once, export_to_onnx, exported_from
from trt_mpq.export.sources import is_torch_source, load_module
from trt_mpq.export.values import DynamicAxis, ExportedModel, ExportOptions, OutputCheck, Tolerance

__all__ = [
    "DynamicAxis",
    "ExportOptions",
    "ExportedModel",
    "OutputCheck",
    "Tolerance",
    "export_loaded_once",
    "export_once",
    "export_to_onnx",
    "exported_from",
    "is_torch_source",
    "load_module",
]
