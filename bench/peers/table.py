"""The comparison as Markdown: one table per model and target, every peer a row, failures included."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone

from bench.peers.judge import DEVICE, Verdict
from bench.peers.roster import PEERS, Peer
from bench.peers.rows import Row
from bench.peers.subjects import BATCH

_COLUMNS = (
    "peer", "format", "accuracy / FP32", "target", "MACs in 8 bit", "latency / FP16", "evaluations", "wall s",
    "peak MiB", "TensorRT placement",
)  # fmt: skip
_TEXT_COLUMNS = (0, 1, 3, 9)
_NOTE = "note"
"""Severity of findings that stand in no kernel's way."""


def table(rows: Sequence[Row], peers: Mapping[str, Peer] = PEERS) -> str:
    """The whole comparison of `rows`, headed by how to read it."""
    lines = [*_head(), *_versions(rows, peers)]
    for model, calibration, evaluation in sorted({_data(row) for row in rows}):
        own = [row for row in rows if _data(row) == (model, calibration, evaluation)]
        targets = sorted({row.job.target for row in own if row.job.target is not None})
        for target in targets or (None,):
            shown = sorted(
                (row for row in own if row.job.target in (target, None)), key=lambda row: _position(row, peers)
            )
            kept = "no target" if target is None else f"target {target} of FP32"
            lines += ["", f"### {model}, {kept} ({calibration} calibration, {evaluation} evaluation samples)", ""]
            lines += [_line(_COLUMNS), _rule()]
            lines += [_line(_cells(row, target, peers)) for row in shown]
            remarks = list(_remarks(shown, peers))
            lines += ["", *remarks] if remarks else []
    return "\n".join(lines).rstrip() + "\n"


def _data(row: Row) -> tuple[str, int, int]:
    return row.job.model, row.job.calibration_samples, row.job.evaluation_samples


def _position(row: Row, peers: Mapping[str, Peer]) -> tuple[int, str]:
    return list(peers).index(row.job.peer), row.job.precision


def _head() -> Iterator[str]:
    yield "# Ours against peers"
    yield ""
    yield (
        f"Written {datetime.now(timezone.utc):%Y-%m-%d}, measured on {os.cpu_count()} CPU cores, no GPU, one peer at a "
        "time. Every peer got the same ONNX file, the same preprocessed arrays and the same target, in an environment "
        "and a process of its own, and was used as its documentation says (`bench/peers/adapters`)."
    )
    yield ""
    yield "- **accuracy / FP32**: the delivered file in our reference runtime, on the evaluation samples."
    yield "- **MACs in 8 bit**: multiply-adds of operators both of whose operands are dequantized from 8 bit."
    yield (
        f"- **latency / FP16**: **modelled** for an {DEVICE.upper()} at batch {BATCH}, as if TensorRT fused every "
        "quantizer of the file; the last column says whether it would."
    )
    yield (
        "- **evaluations**: samples run to score models, in passes over the evaluation set; ours counts the ranking, "
        "the calibration methods it tries and its checks of the delivered files too. Calibration itself is in "
        "nobody's count."
    )
    yield "- **wall s**, **peak MiB**: of the peer's processes, loading included."
    yield "- **TensorRT placement**: what `trt-mpq lint` finds in the delivered file, by what TensorRT makes of it."


def _versions(rows: Sequence[Row], peers: Mapping[str, Peer]) -> Iterator[str]:
    yield ""
    yield "| peer | ran on |"
    yield "|---|---|"
    for name, peer in peers.items():
        known = [row.versions for row in rows if row.job.peer == name and row.versions]
        if known:
            yield _line((peer.title, ", ".join(f"{package} {number}" for package, number in known[-1].items())))


def _rule() -> str:
    return "|" + "|".join("---" if i in _TEXT_COLUMNS else "---:" for i in range(len(_COLUMNS))) + "|"


def _cells(row: Row, target: float | None, peers: Mapping[str, Peer]) -> tuple[str, ...]:
    name = (peers[row.job.peer].title, row.job.precision)
    if row.failure is not None:
        spent = (_number(row.seconds, "{:.0f}"), _number(row.peak_mib, "{:.0f}"))
        return (*name, "", "failed", "", "", "", *spent, row.failure)
    verdict = row.verdict
    assert verdict is not None
    return (
        *name,
        _number(verdict.accuracy, "{:.2%}"),
        _kept(verdict, target, asked=row.job.target is not None),
        _number(verdict.eight_bit, "{:.1%}"),
        _number(verdict.latency, "{:.3f}"),
        _number(row.evaluations, "{:.1f}"),
        _number(row.seconds, "{:.0f}"),
        _number(row.peak_mib, "{:.0f}"),
        placement(verdict),
    )


def _number(value: float | None, form: str) -> str:
    return "?" if value is None else form.format(value)


def _kept(verdict: Verdict, target: float | None, *, asked: bool) -> str:
    if verdict.accuracy is None or target is None:
        return "?"
    kept = "kept" if round(verdict.accuracy, 12) >= target else "missed"
    return kept if asked else f"{kept}, takes none"


def placement(verdict: Verdict) -> str:
    """What stands in the way of TensorRT: "holds" if nothing does."""
    parts = []
    for severity, rules in verdict.findings.items():
        if severity != _NOTE:
            count = sum(rules.values())
            listed = ", ".join(f"{rule} {number}" for rule, number in rules.items())
            parts.append(f"{severity} {count} ({listed})")
    return "; ".join(parts) or "holds"


def _remarks(rows: Sequence[Row], peers: Mapping[str, Peer]) -> Iterator[str]:
    for row in rows:
        for remark in (*row.notes, *(row.verdict.remarks if row.verdict else ())):
            yield f"- {peers[row.job.peer].title}, {row.job.precision}: {remark}"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
