"""What each command found, as Rich tables for people; scripts take the JSON."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from trt_mpq.emit.deliver import FLAVOUR_FILES
from trt_mpq.engine.bisection import Bisection
from trt_mpq.evaluate.score_scale import ScoreScale, score_scale
from trt_mpq.groups.accounting import account_for, exclusions_text, rules_of
from trt_mpq.model import stored_bytes
from trt_mpq.numerics import LARGEST
from trt_mpq.report.wording import (
    count_text,
    duration_text,
    latency_text,
    methods_text,
    microseconds_text,
    printable,
    size_text,
    tau_text,
)
from trt_mpq.sensitivity.agreement import Agreement, Sensitivities
from trt_mpq.types import (
    Comparison,
    Evaluation,
    Grouping,
    Precision,
    PrecisionPlan,
    Ranges,
    Ranking,
    SearchResult,
    TensorRange,
)

if TYPE_CHECKING:
    from trt_mpq.api.outlook import Outlook
    from trt_mpq.api.rebuild import Rebuilt
    from trt_mpq.engine.run import OutputArray
    from trt_mpq.export import ExportedModel, Tolerance
    from trt_mpq.latency.device_table import DeviceTable
    from trt_mpq.lint import Finding

_BAR_WIDTH = 24


def groups_table(grouping: Grouping) -> RenderableType:
    """Every group in network order with the precisions it stays out of, then where all multiply-adds are."""
    table = _table_of("#", "group", "op", "weight", "FLOPs", "stays out of")
    for group in grouping.groups:
        weight = " + ".join("x".join(map(str, weight.shape)) for weight in group.weights) or "none"
        row = (str(group.index + 1), group.id, group.op_type, weight, count_text(group.flops), exclusions_text(group))
        table.add_row(*_cells(row))
    flops = count_text(sum(group.flops for group in grouping.groups))
    count, loose = len(grouping.groups), len(grouping.loose)
    groups, ops = (f"{number} {what}{'' if number == 1 else 's'}" for number, what in ((count, "group"), (loose, "op")))
    summary = f"{groups} with {flops} FLOPs for one sample, {ops} outside {'it' if count == 1 else 'them'}"
    left_out = [f"{op.node} ({op.op_type}) stays out: {op.reason}" for op in grouping.loose if op.reason]
    rules = [f"a rule of {source}" for source in rules_of(grouping)]
    if rules:
        rules.append("--exclusions none tries what rules leave out, and a device table measured with it overrules them")
    return Group(table, *_cells([summary, *left_out]), Text(""), _work_table(grouping), *_cells(rules))


def _work_table(grouping: Grouping) -> RenderableType:
    table = _table_of("multiply-adds", "share", "where", "why not in 8 bit")
    for part in account_for(grouping):
        where = "groups" if part.grouped else "outside groups"
        table.add_row(*_cells((count_text(part.multiply_adds), f"{part.share:.1%}", where, part.reason)))
    table.add_row(*_cells((count_text(grouping.flops // 2), "100%", "all, for one sample", "")), style="bold")
    return table


def ranges_table(ranges: Ranges) -> RenderableType:
    """Tensors that a plan may quantize or that FP16 cannot hold, with their chosen clipping magnitudes."""
    formats = _in_order(p for tensor in ranges.tensors.values() for p in tensor.amax)
    table = _table_of("tensor", "min", "max", *(f"amax {p.name}" for p in formats))
    for name, tensor in ranges.tensors.items():
        if tensor.amax or _overflows(tensor):
            amax = (
                f"{tensor.amax[p]:.4g} {tensor.methods.get(p, '')}".strip() if p in tensor.amax else "" for p in formats
            )
            table.add_row(*_cells((name, f"{tensor.minimum:.4g}", f"{tensor.maximum:.4g}", *amax)))
    overflows = sum(map(_overflows, ranges.tensors.values()))
    observed = f"{len(ranges.tensors)} tensors observed on {ranges.samples:,} samples"
    summary = f"{observed}, ranges by {methods_text(ranges.methods)}"
    return Group(table, Text(f"{summary}, {overflows} beyond FP16" if overflows else summary))


def _overflows(tensor: TensorRange) -> bool:
    return tensor.magnitude > LARGEST[Precision.FP16]


def _ranking_table(ranking: Ranking) -> RenderableType:
    """One table per precision, the most sensitive group on top."""
    parts: list[RenderableType] = []
    for precision in _in_order(ranking.scores):
        scores = ranking.scores[precision]
        table = _table_of("#", "group", "score", "", title=f"{ranking.metric} sensitivity to {precision.name}")
        top = max((s for s in scores.values() if math.isfinite(s)), default=0.0)
        for place, group in enumerate(reversed(ranking.order(precision)), start=1):
            table.add_row(*_cells((str(place), group, f"{scores[group]:.3g}", _bar(scores[group], top))))
        parts += [table, Text("")]
    summary = f"the search lowers the bottom rows first; seed {ranking.seed}"
    return Group(*parts, Text(f"{summary}, {ranking.forward_passes:,.0f} samples run forward"))


def sensitivities_table(found: Sensitivities) -> RenderableType:
    """The ranking that the search uses, then how well the metrics agree if there are several."""
    ranking = _ranking_table(found.rankings[0])
    return Group(ranking, Text(""), *_agreement_tables(found.agreement)) if found.agreement else ranking


def _agreement_tables(agreement: Agreement) -> Iterator[RenderableType]:
    """Kendall's tau of every metric with every other, one table per precision, and what it cost."""
    for precision in _in_order(agreement.tau):
        table = _table_of("", *agreement.metrics, title=f"Kendall tau between metrics at {precision.name}")
        for metric, row in zip(agreement.metrics, agreement.tau[precision], strict=True):
            table.add_row(*_cells((metric, *map(tau_text, row))))
        yield from (table, Text(""))
    yield Text("task-loss is the loss with each group really quantized: trust a metric that agrees with it")


def _bar(value: float, top: float) -> str:
    if top <= 0 or math.isnan(value):
        return ""
    return "█" * max(0, round(_BAR_WIDTH * min(value / top, 1.0)))


def search_table(result: SearchResult, metric: str, required: float, latencies: str) -> RenderableType:
    """Every plan tried, in order; the chosen one in bold. `latencies` says what they are, error included."""
    scale = score_scale(metric, [value for step in result.path for value in _values(step)], required)
    slowest = max(step.latency_ms for step in result.path)
    heading = f"latency, {latencies}"
    table = _table_of("plan", "runs in", metric, heading, "", "step", wrapped=("step", heading))
    for number, step in enumerate(result.path, start=1):
        style = "bold" if step.plan == result.chosen.plan else None
        verdict = "✓" if step.feasible else "✗"
        table.add_row(*_cells((str(number), *_figures(step, scale, slowest), verdict, step.note)), style=style)
    chosen = ", ".join(_figures(result.chosen, scale, slowest)[1:])
    return Group(table, Text(f"{result.algorithm} search chose {_counts_text(result.chosen.plan)}: {metric} {chosen}"))


def _values(step: Evaluation) -> tuple[float, ...]:
    return (step.score.value,) if step.delivered is None else (step.score.value, step.delivered.value)


def _figures(step: Evaluation, scale: ScoreScale, slowest_ms: float) -> tuple[str, str, str]:
    value, stderr = step.score.value, step.score.stderr
    error = "" if stderr is None else f" ± {scale.spread(value, stderr)}"
    return _counts_text(step.plan), _judged_text(step, scale, error), latency_text(step.latency_ms, slowest_ms)


def _counts_text(plan: PrecisionPlan) -> str:
    """How many groups run in what, narrowest first: 14 int8, 6 fp16."""
    return ", ".join(f"{count} {precision}" for precision, count in reversed(plan.counts().items()))


def evaluation_text(evaluation: Evaluation, metric: str, required: float | None) -> str:
    """One line about an evaluated plan: 14 int8, 6 fp16 → 91.42 % ✓ 0.0310 ms."""
    verdict = "✓" if evaluation.feasible else "✗"
    judged = _judged_text(evaluation, score_scale(metric, _values(evaluation), required))
    return f"{_counts_text(evaluation.plan)} → {judged} {verdict} {latency_text(evaluation.latency_ms)}"


def _judged_text(evaluation: Evaluation, scale: ScoreScale, error: str = "") -> str:
    """The score of a plan, of how few samples it is, and that of its file if this is what misses the target.

    `error` follows the score: its standard error in words, if that is to be told.
    """
    score = f"{scale.text(evaluation.score.value)}{error}"
    if not evaluation.complete:
        score = f"~{score} (after {evaluation.score.samples:,} samples)"
    if evaluation.delivered and not evaluation.feasible:
        score = f"{score}, typed.onnx {scale.text(evaluation.delivered.value)}"
    return score


def comparison_table(comparison: Comparison) -> RenderableType:
    """Every output of the typed network against FP32."""
    table = _table_of("output", "SQNR", "required", "cosine", "max error", "Polygraphy")
    for output in comparison.outputs:
        sqnr = "bit-equal" if output.sqnr_db is None else f"{output.sqnr_db:.1f} dB"
        verdict = "passed" if output.passed else "failed"
        figures = (f"{output.required_db:g} dB", f"{output.cosine:.6f}", f"{output.max_abs_error:.3g}")
        table.add_row(*_cells((output.output, sqnr, *figures, verdict)))
    return Group(table, Text(f"{comparison.samples:,} samples against FP32"))


def bisection_table(bisection: Bisection) -> RenderableType:
    """The engine against its reference, before and after, and the groups at fault."""
    shown: list[RenderableType] = [comparison_table(bisection.before)]
    if bisection.at_fault:
        table = _table_of("group", "in")
        for group, precision in bisection.at_fault.items():
            table.add_row(*_cells((group, precision.name)))
        shown.append(table)
    if bisection.after is not None:
        shown.append(comparison_table(bisection.after))
    return Group(*shown, Text(f"{bisection.engines} engines: {bisection.finding}"))


def files_table(plan: PrecisionPlan, folder: Path) -> RenderableType:
    """The networks written for `plan`, with sizes."""
    table = _table_of("file", "size")
    for path in (folder / name for name in FLAVOUR_FILES):
        if path.exists():
            size = stored_bytes(path)
            table.add_row(*_cells((str(path), size_text(size, size))))
    return Group(table, Text(f"{_counts_text(plan)}; plan {plan.digest}"))


def latencies_table(table: DeviceTable) -> RenderableType:
    """Microseconds per group and precision, what a conversion costs, and how far the table can be trusted."""
    precisions = [p for p in Precision if p in table.group_ms]
    conversion = table.scale * table.conversion.realised
    shown = _table_of("group", *(f"{p.name}, µs" for p in precisions))
    for group in dict.fromkeys(g for p in precisions for g in table.group_ms[p]):
        times = (table.group_ms[p].get(group) for p in precisions)
        scaled = (None if ms is None else table.scale * ms for ms in times)
        shown.add_row(*_cells((group, *map(microseconds_text, scaled))))
    of = table.provenance.platform
    lines = [
        f"{of.gpu}, TensorRT {of.tensorrt}, batch {table.provenance.batch}, from {table.builds} engines",
        f"a conversion takes {latency_text(conversion * table.conversion.launch_ms)} and "
        f"{latency_text(conversion * table.conversion.ms_per_byte * 1e6)} per MB read and written",
    ]
    if table.error is not None:
        lines.append(
            f"{table.error.engines} mixed engines left out of the fit were predicted within {table.error.mean:.1%} on "
            f"average, {table.error.largest:.1%} at most"
        )
    lines += [
        f"estimated in {precision.name}, no engine tells: {', '.join(groups)}"
        for precision, groups in table.estimated.items()
        if groups
    ]
    return Group(shown, *_cells(lines))


def outlook_text(outlook: Outlook) -> RenderableType:
    """What a build would do, in sentences."""
    formats = ", ".join(f"{count} may run in {precision.name}" for precision, count in outlook.lowerable.items())
    least, most = (duration_text(outlook.pass_s * passes) for passes in outlook.passes)
    lines = [
        f"{outlook.model} for {outlook.device}, batch {outlook.batch}: {outlook.groups} groups, {formats}",
        f"{outlook.share:.0%} of the multiply-adds may run in 8 bit or less",
        f"{outlook.calibration_samples:,} samples calibrate, {outlook.evaluation_samples:,} evaluate; FP32 takes "
        f"{duration_text(outlook.pass_s)} for these (estimated from one batch)",
        f"about {outlook.passes[0]:g} to {outlook.passes[1]:g} such passes follow: {least} to {most} on this machine",
        *([f"then for {', '.join(outlook.others)} their own search and files alone"] if outlook.others else []),
        *outlook.idle,
        "nothing was calibrated, scored or searched: leave --dry-run out to do it",
    ]
    return Group(*_cells(lines))


def outputs_table(outputs: tuple[OutputArray, ...]) -> RenderableType:
    """Name, type and shape of every output."""
    shown = _table_of("output", "type", "shape")
    for output in outputs:
        shown.add_row(*_cells((output.name, output.dtype, "x".join(map(str, output.shape)))))
    return shown


def exported_table(exported: ExportedModel, allowed: Tolerance) -> RenderableType:
    """Inputs and outputs of the file, and how far it is from torch at each size that was compared."""
    tensors = _table_of("", "name", "type", "shape")
    for kind, specs in (("input", exported.inputs), ("output", exported.outputs)):
        for spec in specs:
            tensors.add_row(*_cells((kind, spec.name, spec.dtype, "x".join(map(str, spec.shape)))))
    checks = _table_of("compared with torch for", *(f"{spec.name}, max abs error" for spec in exported.outputs))
    for check in exported.checks:
        shapes = ", ".join(f"{name} {'x'.join(map(str, shape))}" for name, shape in check.shapes.items())
        errors = (f"{check.max_abs_error[spec.name]:.2g}" for spec in exported.outputs)
        checks.add_row(*_cells((shapes, *errors)))
    facts = f"{exported.path}: opset {exported.opset}, {exported.parameters:,} parameters"
    return Group(Text(facts), tensors, checks, Text(f"allowed: {allowed}"))


def findings_list(findings: tuple[Finding, ...]) -> RenderableType:
    """Every finding, errors first, and how many there are of each level."""
    lines: list[RenderableType] = []
    for finding in findings:
        where = next(iter((*finding.nodes, *finding.tensors)), "the file")
        verdict = "" if finding.severity.level == "note" else f" ({finding.severity})"
        lines.append(Text(f"{finding.severity.level} {finding.rule}{verdict}: {printable(where)}", overflow="fold"))
        lines.append(Padding(Text(printable(finding.message), overflow="fold"), (0, 0, 0, 4), expand=False))
    counts = Counter(finding.severity.level for finding in findings)
    summary = ", ".join(f"{count} {name}{'s' if count > 1 else ''}" for name, count in counts.items())
    return Group(*lines, Text(summary or "nothing found"))


def _table_of(*headings: str, title: str | None = None, wrapped: tuple[str, ...] = ()) -> Table:
    """An empty table with our look; columns that are `wrapped` may break, all may if none is."""
    table = Table(
        box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True, title=title, title_justify="left"
    )
    for heading in headings:
        table.add_column(heading, overflow="fold", no_wrap=bool(wrapped) and heading not in wrapped)
    return table


def _cells(row: Iterable[str]) -> Iterable[Text]:
    """A row's cells, as plain text."""
    # Names come from files nobody vetted: neither markup nor control characters in them may act.
    return (Text(printable(cell)) for cell in row)


def _in_order(precisions: Iterable[Precision]) -> list[Precision]:
    known = set(precisions)
    return [p for p in Precision if p in known]


def rebuilt_table(found: Rebuilt) -> RenderableType:
    """Which files are the same."""
    return Text(f"{found.folder}: the same bytes in {len(found.files)} files: {', '.join(found.files)}")
