"""Calibration and evaluation data: opened, checked against the model's inputs, delivered in batches."""

from trt_mpq.dataset.padding import Column
from trt_mpq.dataset.samples import Batch, Samples, pad_batch, samples_from_arrays
from trt_mpq.dataset.sources import open_samples

__all__ = ["Batch", "Column", "Samples", "open_samples", "pad_batch", "samples_from_arrays"]
