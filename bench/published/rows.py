"""Published latencies that can be compared: which rows of `published.csv` belong to which network and device.

Left out, by rule:

- what did not run on TensorRT's own kernels (FasterTransformer and its plugins), and rows that are marked suspect;
- INT8 that is not the whole network's (partial, mixed, the rest in FP32), and precisions that trt-mpq has not;
- what may be FP32 or TF32, and what is faster than the GPU's peak rate allows, so that something else was measured: two
  rules that were added when such rows stood out in the fitted part;
- PaddleSlim's table of detectors, whose times hold much more than the network;
- older TensorRTs where the same table was published for a newer one; of the ten batches of demoBERT all but four;
- where a table holds the host's work (`HOST_MS`, stated by its collector), what that leaves below `LEAST_MS`.
"""

from __future__ import annotations

import csv
import io
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from bench.published.networks import NETWORKS
from trt_mpq.latency.target import target_from_name
from trt_mpq.types import Precision, Target

DATA = Path(os.environ.get("TRT_MPQ_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
FILE = DATA / "latency" / "published.csv"
HOST_MS, LEAST_MS = 0.5, 1.0
_PRECISIONS = {
    "FP16": Precision.FP16, "INT8": Precision.INT8, "FP8": Precision.FP8,
    "FP32": Precision.FP32, "TF32": Precision.FP32,
}  # fmt: skip
_DEVICES: Mapping[str, tuple[str, float, float]] = {
    "A100": ("a100", 1, 2039), "A100 80GB": ("a100", 1, 2039), "A100 40GB": ("a100", 1, 1555), "A30": ("a30", 1, 933),
    "A10": ("a10", 1, 600), "T4": ("t4", 1, 320), "L4": ("l4", 1, 300), "L40S": ("l40s", 1, 864),
    "RTX 4090": ("rtx4090", 1, 1008), "RTX 3090": ("rtx3090", 1, 936),
    "RTX PRO 6000 Blackwell": ("rtx-pro-6000", 1, 1792),
    "Jetson AGX Orin": ("orin-agx", 1, 204.8), "Jetson AGX Orin 64GB": ("orin-agx", 1, 204.8),
    "Jetson Orin NX 16GB": ("orin-nx", 1, 102.4), "Jetson Orin Nano Super": ("orin-nano", 1, 102.4),
    "Jetson Orin Nano 8GB": ("orin-nano", 625 / 1020, 68),
}  # fmt: skip
"""GPU as published: device, its clock against the device's file, its memory bandwidth in GB/s."""
_BATCHES = frozenset({1, 4, 16, 64})
"""Batches of demoBERT that are compared."""
DEMO_BERT, _PADDLE_TABLE = "demo/BERT", "QUANT_BENCHMARK"
_HOST_WORK = ("DeepLearningExamples", _PADDLE_TABLE)
_REFUSED = ("FasterTransformer", "SUSPECT", "stayed FP32", "relative")


@dataclass(frozen=True)
class Point:
    """One network on one device at one batch, as somebody measured it in one or more precisions.

    Attributes:
        network: A key of `NETWORKS`.
        device: The device's name.
        target: The GPU as it was when measured.
        batch: Samples per inference.
        ms: Precision to milliseconds.
        source: Where that stands.
    """

    network: str
    device: str
    target: Target
    batch: int
    ms: Mapping[Precision, float]
    source: str

    @property
    def architecture(self) -> str:
        """What networks of one design at other input sizes share."""
        return NETWORKS[self.network].published[0][0]

    def ratio(self, precision: Precision) -> float | None:
        """Time over that of FP16; None if one was not measured."""
        if precision in self.ms and Precision.FP16 in self.ms:
            return self.ms[precision] / self.ms[Precision.FP16]
        return None


def points(flops: Mapping[str, int], file: Path = FILE) -> list[Point]:
    """All that can be compared, in the file's order; `flops` are those of one sample of every network."""
    names = {published: name for name, one in NETWORKS.items() for published in one.published}
    found: dict[tuple[str, ...], dict[Precision, float]] = defaultdict(dict)
    for row in _newest(csv.DictReader(io.StringIO(file.read_text(encoding="utf-8")))):
        name = names.get((row["model"], row["input"]))
        if name is None or row["gpu"] not in _DEVICES or not _comparable(row):
            continue
        ms = _milliseconds(row)
        if ms is not None:
            found[name, row["gpu"], row["batch"], row["source"]].setdefault(_PRECISIONS[row["precision"]], ms)
    every = (
        Point(name, _DEVICES[gpu][0], _target(gpu), int(batch), times, source)
        for (name, gpu, batch, source), times in found.items()
    )
    return [point for point in every if is_possible(point, flops[point.network])]


def is_possible(point: Point, flops: int) -> bool:
    """Whether no time is below what the arithmetic takes at the peak rate."""
    rates = dict(point.target.peak_tops)
    rates[Precision.FP32] = max(rates[Precision.FP32], point.target.tf32_tops)
    return all(ms >= flops * point.batch / (rates[precision] * 1e9) for precision, ms in point.ms.items())


def _newest(rows: Iterator[dict[str, str]]) -> list[dict[str, str]]:
    """Of one table that was published for several TensorRTs, the last that has a row for the same measurement."""
    newest: dict[tuple[str, ...], dict[str, str]] = {}
    for row in rows:
        if "SUSPECT" in row["note"]:
            continue
        table = row["source"].split("@")[0]
        key = (row["model"], row["input"], row["batch"], row["gpu"], row["precision"], table)
        if DEMO_BERT not in table:
            key = (*key, row["trt"], row["method"])
        newest[key] = {**row, "source": table}
    return list(newest.values())


def _comparable(row: Mapping[str, str]) -> bool:
    everything = " ".join((row["model"], row["method"], row["source"], row["note"]))
    if row["precision"] not in _PRECISIONS or any(word in everything for word in _REFUSED):
        return False
    if DEMO_BERT in row["source"]:
        return int(row["batch"]) in _BATCHES
    return not (_PADDLE_TABLE in row["source"] and row["model"].startswith("YOLO"))


def _milliseconds(row: Mapping[str, str]) -> float | None:
    """Time of one inference on the GPU; None if the host's work is too large a part to take it off."""
    ms = float(row["latency_ms"])
    if "times are per image" in row["note"]:
        ms *= int(row["batch"])
    if any(word in row["source"] for word in _HOST_WORK):
        ms -= HOST_MS
        return ms if ms >= LEAST_MS else None
    return ms


def _target(gpu: str) -> Target:
    name, clock, bandwidth = _DEVICES[gpu]
    target = target_from_name(name)
    rates = {precision: rate * clock for precision, rate in target.peak_tops.items()}
    return replace(target, peak_tops=rates, bandwidth_gb_s=bandwidth)
