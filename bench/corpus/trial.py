"""What becomes of one ONNX file: `python -m bench.corpus.trial FOLDER` reads `model.onnx` and `data.npz` there.

It is calibrated, every group that may is quantized, first to INT8, then to FP8, the files are written, and judged by
others: ONNX's checker, ONNX Runtime beside the original, and NVIDIA's compiler for every compute capability.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from bench.compiled import Compiled, Order, engines
from bench.program import program
from trt_mpq.emit import Network
from trt_mpq.emit.deliver import deliver
from trt_mpq.errors import RuntimeFailure, TrtMpqError
from trt_mpq.groups.accounting import account_for
from trt_mpq.lint import lint_graph
from trt_mpq.model import load_graph
from trt_mpq.pipeline.run import Run
from trt_mpq.runtime.onnxruntime import OnnxRuntime
from trt_mpq.settings import settings_from
from trt_mpq.types import LayerGroup, Precision, SilentObserver

CAPABILITIES = {Precision.INT8: (80, 86, 89, 120), Precision.FP8: (89, 120)}
"""What NVIDIA's compiler is asked for, by format: compute capabilities, times ten."""
READ_BACK = 89
"""The capability whose engine is looked into."""
DEVICE = "rtx4090"
"""A GPU of that capability, which decides what is left out of FP8."""
BATCH, COMPARED = 2, 4
"""Rows per inference, and rows that are compared."""
AGREES_DB, WORSE_DB = 30.0, 3.0
"""typed.onnx agrees if it is this near to the original, or no further from it than the reference, within a margin.

Where weights are random and noise grows from layer to layer to the size of the signal, it is luck which of two files
that round apart is nearer; then they have to be as near to each other as two draws of the same noise, which is 3 dB.
"""
_NO_TARGET = 1e-6
_Rows = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Lowered:
    """What came of one 8-bit format.

    Attributes:
        valid: What ONNX's checker or the linter's errors say against typed.onnx; empty if nothing.
        interface: What is not the original's: names, order, types or ranks of inputs and outputs; empty if nothing.
        typed_db: SQNR of typed.onnx against the original, the worst output; None if that cannot be told.
        reference_db: The same of reference.onnx, whose score a search goes by.
        apart_db: SQNR of typed.onnx against reference.onnx.
        engines: Compute capability to "ok", or to what NVIDIA's compiler says.
        groups: Groups that the plan quantizes.
        realised: How many of them run with 8-bit operands in the engine for 8.9; None if there is none.
        share: Of all multiply-adds, those in these groups.
        failure: Why there is no file.
    """

    valid: str = ""
    interface: str = ""
    typed_db: float | None = None
    reference_db: float | None = None
    apart_db: float | None = None
    engines: Mapping[str, str] = field(default_factory=dict)
    groups: int = 0
    realised: int | None = None
    share: float = 0.0
    failure: str | None = None

    @property
    def agrees(self) -> bool:
        if self.typed_db is None or self.reference_db is None:
            return False
        nearest = self.typed_db if self.apart_db is None else max(self.typed_db, self.apart_db)
        return nearest >= min(AGREES_DB, self.reference_db - WORSE_DB)


@dataclass(frozen=True)
class Outcome:
    """What became of a file.

    Attributes:
        original: What NVIDIA's compiler says of the original: "ok" or its words.
        refused: The sentence that refuses the file; None if it was taken.
        formats: Format to what came of it.
        left_out: Share of the multiply-adds outside 8 bit by reason, the largest first.
        operators: The kinds of nodes of the file.
    """

    original: str
    refused: str | None = None
    formats: Mapping[str, Lowered] = field(default_factory=dict)
    left_out: Mapping[str, float] = field(default_factory=dict)
    parameters: int = 0
    nodes: int = 0
    operators: tuple[str, ...] = ()


def attempt(folder: Path) -> Outcome:
    """The outcome for the file in `folder`."""
    source = folder / "model.onnx"
    data = dict(np.load(folder / "data.npz"))
    proto = onnx.load(source)
    facts: dict[str, Any] = {
        "operators": tuple(sorted({node.op_type for node in proto.graph.node})),
        "nodes": len(proto.graph.node),
        "parameters": sum(int(np.prod(tensor.dims)) for tensor in proto.graph.initializer),
    }
    shapes = {value.name: _shape(value, data[value.name]) for value in proto.graph.input if value.name in data}
    order = Order(source.read_bytes(), (READ_BACK,))
    try:
        network = _calibrated(folder)
        original, formats = _lowered(network, folder, data, order, shapes)
    except TrtMpqError as refusal:
        original = _said(engines({"": order}, shapes)[""])
        return Outcome(original, refused=str(refusal).replace(f"{folder}/", ""), **facts)
    left = {
        f"{'group' if share.grouped else 'outside'}: {share.reason}": share.share
        for share in account_for(network.grouping)
        if share.reason
    }
    return Outcome(original, formats=formats, left_out=left, **facts)


def _shape(value: onnx.ValueInfoProto, rows: NDArray[Any]) -> tuple[int, ...]:
    """What an input is compiled for: what the file fixes, `BATCH` rows, and the data's sizes elsewhere."""
    dims = value.type.tensor_type.shape.dim
    sizes = (BATCH, *rows.shape[1:]) if len(dims) == rows.ndim else (BATCH,) * len(dims)
    return tuple(dim.dim_value if dim.dim_value > 0 else size for dim, size in zip(dims, sizes, strict=True))


def _calibrated(folder: Path) -> Network:
    settings = settings_from(
        {
            "model": folder / "model.onnx", "calib": str(folder / "data.npz"), "precisions": ["fp16", "fp8", "int8"],
            "metric": "sqnr", "target_accuracy": _NO_TARGET, "batch": BATCH, "threads": 1, "bias_correction": False,
            "device": DEVICE,
        },
        "bench",
    )  # fmt: skip
    run = Run(settings, folder / "run", SilentObserver(), "bench.corpus")
    return run.store[run.calibration_stages().scored.network]


def _lowered(
    network: Network, folder: Path, data: _Rows, original: Order, shapes: Mapping[str, Sequence[int]]
) -> tuple[str, dict[str, Lowered]]:
    """What the compiler says of the original and what comes of each format; one process of it, slow to start."""
    formats = {p: _written(p, network, folder, data) for p in CAPABILITIES}
    orders: dict[Any, Order] = {
        (precision, sm): Order((folder / precision.value / "typed.onnx").read_bytes(), (sm,))
        for precision, one in formats.items()
        if one.failure is None
        for sm in CAPABILITIES[precision]
    }
    found = engines({None: original, **orders}, shapes)
    for precision, sm in orders:
        one, built = formats[precision], found[precision, sm]
        formats[precision] = replace(
            one,
            engines={**one.engines, str(sm): _said(built)},
            realised=_realised(built, network, precision) if sm == READ_BACK else one.realised,
        )
    return _said(found[None]), {precision.value: one for precision, one in formats.items()}


def _written(precision: Precision, network: Network, folder: Path, data: _Rows) -> Lowered:
    """The files of a format, judged by ONNX's checker and ONNX Runtime."""
    place, original = folder / precision.value, folder / "model.onnx"
    place.mkdir(exist_ok=True)
    plan = network.grouping.uniform(precision)
    try:
        deliver(network.emitter(), plan, place)
    except TrtMpqError as error:
        return Lowered(failure=str(error))
    runnable = _runnable(folder)
    rows = _compared(runnable, data)
    expected = _outputs(runnable, rows)
    typed, reference = (_outputs(place / name, rows) for name in ("typed.onnx", "reference.onnx"))
    lowered = _groups(network, precision)
    return Lowered(
        valid=_against(place / "typed.onnx"),
        interface=_interface(original, place / "typed.onnx"),
        typed_db=_sqnr_db(expected, typed),
        reference_db=_sqnr_db(expected, reference),
        apart_db=_sqnr_db(reference, typed),
        groups=len(lowered),
        share=sum(group.flops for group in lowered) / max(1, network.grouping.flops),
    )


def _runnable(folder: Path) -> Path:
    """The original, or the prepared model where ONNX Runtime does not take the original."""
    try:
        OnnxRuntime(threads=1).load(folder / "model.onnx")
    except RuntimeFailure:
        return folder / "run" / "model.onnx"
    return folder / "model.onnx"


def _compared(file: Path, data: _Rows) -> _Rows:
    """The first rows: as many as the file fixes, if it does."""
    first = OnnxRuntime(threads=1).load(file).native.get_inputs()[0]
    count = first.shape[0] if first.shape and isinstance(first.shape[0], int) else COMPARED
    return {name: values[:count] for name, values in data.items()}


def _groups(network: Network, precision: Precision) -> list[LayerGroup]:
    """Groups that run in `precision` where all do that may."""
    chosen = network.grouping.uniform(precision).as_dict()
    return [group for group in network.grouping.groups if chosen[group.id] is precision]


def _said(found: Compiled) -> str:
    return "ok" if found.built else f"{found.stage}: {found.message}"


def _realised(found: Compiled, network: Network, precision: Precision) -> int | None:
    """Groups of which a product has 8-bit operands; None if there is no engine."""
    if found.engine is None:
        return None
    in_eight_bit = {node for kernel in program(found.engine) if kernel.in_eight_bit for node in kernel.nodes}
    return sum(not in_eight_bit.isdisjoint(group.nodes) for group in _groups(network, precision))


def _against(typed: Path) -> str:
    try:
        onnx.checker.check_model(str(typed), full_check=True)
    except Exception as error:  # the checker and shape inference have no common base
        return str(error).splitlines()[0]
    errors = [found.rule for found in lint_graph(load_graph(typed)) if found.severity.level == "error"]
    return ", ".join(dict.fromkeys(errors))


def _interface(original: Path, typed: Path) -> str:
    ours, theirs = (_signature(file) for file in (typed, original))
    return "" if ours == theirs else f"{ours} instead of {theirs}"


def _signature(file: Path) -> list[tuple[str, int]]:
    graph = onnx.load(file, load_external_data=False).graph
    stored = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in stored]
    return [(value.name, value.type.tensor_type.elem_type) for value in (*inputs, *graph.output)]


def _outputs(file: Path, rows: _Rows) -> dict[str, Any]:
    session = OnnxRuntime(threads=1).load(file)
    return session.run({one.name: rows[one.name] for one in session.native.get_inputs()})


def _sqnr_db(expected: Mapping[str, Any], computed: Mapping[str, Any]) -> float | None:
    """Signal to noise of the worst floating-point output, in decibels; None if shapes or NaN differ."""
    worst = float("inf")
    for name, values in expected.items():
        other = computed.get(name)
        if values.dtype.kind != "f":
            continue
        if other is None or other.shape != values.shape or (np.isfinite(values) & ~np.isfinite(other)).any():
            return None
        finite = np.isfinite(values)
        signal, noise = values[finite].astype(np.float64), (other - values)[finite].astype(np.float64)
        worst = min(worst, float(10 * np.log10(max((signal**2).sum(), 1e-300) / max((noise**2).sum(), 1e-300))))
    return round(min(worst, 200.0), 1)


def main() -> None:
    """Write `outcome.json` beside the file."""
    folder = Path(sys.argv[1])
    (folder / "outcome.json").write_text(json.dumps(asdict(attempt(folder)), indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
