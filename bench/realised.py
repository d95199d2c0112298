"""Plans of the real networks on every GPU that TensorRT for RTX compiles for: `python -m bench.realised`.

Of each plan and compute capability the table says how many groups multiply in the planned format, or who refuses it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle
from pathlib import Path

import onnx_ir as ir

from bench.compiled import BATCH, MISSING, Compiled
from bench.fusions import subjects
from bench.observed import Share, Subject, compare
from bench.program import program
from bench.real import MODELS
from trt_mpq.types import Precision, PrecisionPlan

RESULTS = Path(__file__).resolve().parent / "results" / "realised.md"
CAPABILITIES = (75, 80, 86, 89, 120, 121)
AMPERE = 80
"""Before it TensorRT for RTX has no 8-bit convolutions."""
FP16, BF16, FP8, INT8 = Precision.FP16, Precision.BF16, Precision.FP8, Precision.INT8
W8A16, W4A16, NVFP4 = Precision.W8A16, Precision.W4A16, Precision.NVFP4
PLANS: Mapping[str, Sequence[Precision]] = {
    "FP16": (FP16,), "INT8": (INT8,), "FP8": (FP8,), "BF16": (BF16,), "FP16, INT8": (FP16, INT8),
    "FP16, FP8": (FP16, FP8), "BF16, INT8": (BF16, INT8), "BF16, FP8": (BF16, FP8), "INT8, FP8": (INT8, FP8),
    "W8A16": (W8A16,), "W4A16": (W4A16,), "NVFP4": (NVFP4,), "FP8, NVFP4": (FP8, NVFP4), "INT8, W4A16": (INT8, W4A16),
}  # fmt: skip
"""Formats that groups take in turns."""


def plan_of(subject: Subject, formats: Sequence[Precision]) -> PrecisionPlan:
    """Groups in `formats` by turns, in their high precision where they may not run in that."""
    grouping = subject.with_top(top_of(formats))
    turns = zip(grouping.groups, cycle(formats))
    return PrecisionPlan.of({g.id: own if g.allows(own) else grouping.widest(g) for g, own in turns})


def top_of(formats: Sequence[Precision]) -> Precision:
    """The high precision around them."""
    return BF16 if BF16 in formats else FP16


def lacking(formats: Sequence[Precision], capability: int) -> bool:
    """Whether a GPU of a compute capability lacks one of the formats."""
    return any(capability < precision.spec.first_sm for precision in formats)


def realised(subject: Subject) -> Iterator[tuple[str, dict[int, Share | str]]]:
    """Every plan with its share of groups as planned by capability, or why there is no engine."""
    plans = {name: plan_of(subject, formats) for name, formats in PLANS.items()}
    graphs = {name: subject.emitted(plan, top_of(PLANS[name])) for name, plan in plans.items()}
    outcomes = {capability: subject.compiled(graphs, capability) for capability in CAPABILITIES}
    for name, plan in plans.items():
        yield name, {at: _share(subject, plan, graphs[name], done[name]) for at, done in outcomes.items()}


def _share(subject: Subject, plan: PrecisionPlan, graph: ir.Model, outcome: Compiled) -> Share | str:
    if outcome.engine is None:
        return "crash" if outcome.stage == "crash" else f"refused by the {outcome.stage}"
    return compare(subject.grouping, plan, graph, program(outcome.engine)).precision


def table(rows: Mapping[str, Mapping[str, Mapping[int, Share | str]]], version: str) -> str:
    """Everything as Markdown."""
    lines = ["# Plans as NVIDIA's compiler realises them", "", *_head(rows, version), ""]
    lines += ["| network | plan | " + " | ".join(f"{at / 10:.1f}" for at in CAPABILITIES) + " |"]
    lines += ["|---|---|" + "---:|" * len(CAPABILITIES)]
    for network, plans in rows.items():
        for name, cells in plans.items():
            told = (_cell(PLANS[name], at, cell) for at, cell in cells.items())
            lines.append(f"| {network} | {name} | " + " | ".join(told) + " |")
    return "\n".join(lines) + "\n"


def _head(rows: Mapping[str, Mapping[str, Mapping[int, Share | str]]], version: str) -> Iterator[str]:
    cells = [(at, cell) for plans in rows.values() for one in plans.values() for at, cell in one.items()]
    known = [(at, cell) for at, cell in cells if isinstance(cell, Share)]
    yield (
        f"TensorRT for RTX {version}, batch {BATCH}, `python -m bench.realised`. Groups take the formats of a plan in "
        "turns, nothing is excluded. A cell is the groups that multiply in the planned format, by compute capability; "
        "a GPU that lacks a format is told so by a refusal, as it should be."
    )
    yield ""
    ampere = [cell for at, cell in known if at >= AMPERE]
    yield f"**{_sum(ampere)} run as planned from {AMPERE / 10:.1f} on**, {_sum([cell for _, cell in known])} in all."


def _sum(shares: Sequence[Share]) -> str:
    agreeing, groups = sum(one.count for one in shares), sum(one.total for one in shares)
    return f"{agreeing} of {groups} groups ({agreeing / groups:.2%}) in {len(shares)} engines"


def _cell(formats: Sequence[Precision], capability: int, cell: Share | str) -> str:
    if isinstance(cell, Share):
        return str(cell)
    return "lacks it" if lacking(formats, capability) else cell


def main() -> None:
    """Compile everything, then write the table."""
    if MISSING:
        raise SystemExit(MISSING)
    import tensorrt_rtx_bindings as trt

    rows = {subject.name: dict(realised(subject)) for subject in subjects(MODELS)}
    text = table(rows, trt.__version__)
    print(text)
    RESULTS.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
