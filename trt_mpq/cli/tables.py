"""What each stage found, as Rich tables for people; scripts take the JSON."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from trt_mpq.cli.output import counts_text, judged_text
from trt_mpq.emit.deliver import FLAVOUR_FILES
from trt_mpq.numerics import LARGEST
from trt_mpq.report.wording import count_text, methods_text, printable, size_text, tau_text
from trt_mpq.sensitivity.agreement import Agreement, Sensitivities
from trt_mpq.types import (
    Comparison,
    Evaluation,
    Grouping,
    LayerGroup,
    Precision,
    PrecisionPlan,
    Ranges,
    Ranking,
    SearchResult,
    TensorRange,
)

BAR_WIDTH = 24


def groups_table(grouping: Grouping) -> RenderableType:
    """Every group in network order, its work, and the precisions it stays out of, with the reason."""
    table = table_of("#", "group", "op", "weight", "FLOPs", "stays out of")
    for group in grouping.groups:
        weight = " + ".join("x".join(map(str, weight.shape)) for weight in group.weights) or "none"
        row = (str(group.index + 1), group.id, group.op_type, weight, count_text(group.flops), _exclusions(group))
        table.add_row(*cells(row))
    flops = count_text(sum(group.flops for group in grouping.groups))
    summary = f"{len(grouping.groups)} groups with {flops} FLOPs for one sample, {len(grouping.loose)} ops outside them"
    left_out = [Text(f"{op.node} ({op.op_type}) stays out: {op.reason}") for op in grouping.loose if op.reason]
    return Group(table, Text(summary), *left_out)


def _exclusions(group: LayerGroup) -> str:
    by_reason: dict[str, list[str]] = {}
    for precision, reason in group.excluded.items():
        by_reason.setdefault(reason, []).append(precision.value)
    return "; ".join(f"{', '.join(names)}: {reason}" for reason, names in by_reason.items())


def ranges_table(ranges: Ranges) -> RenderableType:
    """Tensors that a plan may quantize or that FP16 cannot hold, with their chosen clipping magnitudes."""
    formats = _in_order(p for tensor in ranges.tensors.values() for p in tensor.amax)
    table = table_of("tensor", "min", "max", *(f"amax {p.name}" for p in formats))
    for name, tensor in ranges.tensors.items():
        if tensor.amax or _overflows(tensor):
            amax = (f"{tensor.amax[p]:.4g}" if p in tensor.amax else "" for p in formats)
            table.add_row(*cells((name, f"{tensor.minimum:.4g}", f"{tensor.maximum:.4g}", *amax)))
    overflows = sum(map(_overflows, ranges.tensors.values()))
    observed = f"{len(ranges.tensors)} tensors observed on {ranges.samples:,} samples"
    summary = f"{observed}, ranges by {methods_text(ranges.methods)}"
    return Group(table, Text(f"{summary}, {overflows} beyond FP16" if overflows else summary))


def _overflows(tensor: TensorRange) -> bool:
    return tensor.magnitude > LARGEST[Precision.FP16]


def ranking_table(ranking: Ranking) -> RenderableType:
    """One table per precision, the most sensitive group on top."""
    parts: list[RenderableType] = []
    for precision in _in_order(ranking.scores):
        scores = ranking.scores[precision]
        table = table_of("#", "group", "score", "", title=f"{ranking.metric} sensitivity to {precision.name}")
        top = max((s for s in scores.values() if math.isfinite(s)), default=0.0)
        for place, group in enumerate(reversed(ranking.order(precision)), start=1):
            table.add_row(*cells((str(place), group, f"{scores[group]:.3g}", _bar(scores[group], top))))
        parts += [table, Text("")]
    summary = f"the search lowers the bottom rows first; seed {ranking.seed}"
    return Group(*parts, Text(f"{summary}, {ranking.forward_passes:,.0f} samples run forward"))


def sensitivities_table(found: Sensitivities) -> RenderableType:
    """The ranking that the search uses, then how well the metrics agree if there are several."""
    ranking = ranking_table(found.rankings[0])
    return Group(ranking, Text(""), *agreement_tables(found.agreement)) if found.agreement else ranking


def agreement_tables(agreement: Agreement) -> Iterator[RenderableType]:
    """Kendall's tau of every metric with every other, one table per precision, and what it cost."""
    for precision in _in_order(agreement.tau):
        table = table_of("", *agreement.metrics, title=f"Kendall tau between metrics at {precision.name}")
        for metric, row in zip(agreement.metrics, agreement.tau[precision], strict=True):
            table.add_row(*cells((metric, *map(tau_text, row))))
        yield from (table, Text(""))
    yield Text("task-loss is the loss with each group really quantized: trust a metric that agrees with it")


def _bar(value: float, top: float) -> str:
    if top <= 0 or math.isnan(value):
        return ""
    return "█" * max(0, round(BAR_WIDTH * min(value / top, 1.0)))


def search_table(result: SearchResult) -> RenderableType:
    """Every plan tried, in order; the chosen one in bold."""
    table = table_of("plan", "runs in", "score", "latency", "", "step", wrapped=("step",))
    for number, step in enumerate(result.path, start=1):
        style = "bold" if step.plan == result.chosen.plan else None
        verdict = "✓" if step.feasible else "✗"
        table.add_row(*cells((str(number), *_figures(step), verdict, step.note)), style=style)
    chosen = ", ".join(_figures(result.chosen)[1:])
    return Group(table, Text(f"{result.algorithm} search chose {counts_text(result.chosen.plan)}: score {chosen}"))


def _figures(step: Evaluation) -> tuple[str, str, str]:
    error = "" if step.score.stderr is None else f" ± {step.score.stderr:.1g}"
    return counts_text(step.plan), judged_text(step, error), f"{step.latency_ms:.3g} ms"


def comparison_table(comparison: Comparison) -> RenderableType:
    """Every output of the typed network against FP32."""
    table = table_of("output", "SQNR", "cosine", "max error", "Polygraphy")
    for output in comparison.outputs:
        sqnr = "bit-equal" if output.sqnr_db is None else f"{output.sqnr_db:.1f} dB"
        verdict = "passed" if output.passed else "failed"
        table.add_row(*cells((output.output, sqnr, f"{output.cosine:.6f}", f"{output.max_abs_error:.3g}", verdict)))
    tolerances = f"absolute {comparison.absolute_tolerance:g} or relative {comparison.relative_tolerance:g}"
    return Group(table, Text(f"{comparison.samples:,} samples against FP32; Polygraphy tolerates {tolerances}"))


def files_table(plan: PrecisionPlan, folder: Path) -> RenderableType:
    """The networks written for `plan`, with sizes."""
    table = table_of("file", "size")
    for path in (folder / name for name in FLAVOUR_FILES):
        if path.exists():
            size = path.stat().st_size
            table.add_row(*cells((str(path), size_text(size, size))))
    return Group(table, Text(f"{counts_text(plan)}; plan {plan.digest}"))


def table_of(*headings: str, title: str | None = None, wrapped: tuple[str, ...] = ()) -> Table:
    """An empty table with our look; columns that are `wrapped` may break, all may if none is."""
    table = Table(
        box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True, title=title, title_justify="left"
    )
    for heading in headings:
        table.add_column(heading, overflow="fold", no_wrap=bool(wrapped) and heading not in wrapped)
    return table


def cells(row: Iterable[str]) -> Iterable[Text]:
    """A row's cells, as plain text."""
    # Names come from files nobody vetted: neither markup nor control characters in them may act.
    return (Text(printable(cell)) for cell in row)


def _in_order(precisions: Iterable[Precision]) -> list[Precision]:
    known = set(precisions)
    return [p for p in Precision if p in known]
