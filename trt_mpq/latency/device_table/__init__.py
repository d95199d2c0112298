"""Latency measured on a device: a handful of engines, timed layer by layer, tell what every plan costs."""

from __future__ import annotations

from trt_mpq.latency.device_table.fit import fit
from trt_mpq.latency.device_table.measured import MeasuredLatency
from trt_mpq.latency.device_table.probing import probing_plans
from trt_mpq.latency.device_table.storage import load_table, matches, refuse_mismatch, save_table
from trt_mpq.latency.device_table.values import ConversionCost, DeviceTable, PredictionError, ProbedEngine, Provenance

__all__ = [
    "ConversionCost",
    "DeviceTable",
    "MeasuredLatency",
    "PredictionError",
    "ProbedEngine",
    "Provenance",
    "fit",
    "load_table",
    "matches",
    "probing_plans",
    "refuse_mismatch",
    "save_table",
]
