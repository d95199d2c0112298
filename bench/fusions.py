"""Fusions as groups and the latency model assume them, against those of NVIDIA's compiler: `python -m bench.fusions`.

Real networks, and small ones with random weights (`python -m bench.untrained bench/cache/untrained`), in FP16, INT8 and
FP8, nothing excluded, compiled with TensorRT for RTX.
"""

from __future__ import annotations

import argparse
from collections.abc import Collection, Iterator
from pathlib import Path

from bench.compiled import ADA, BATCH, MISSING
from bench.observed import Comparison, Subject, compare
from bench.program import program
from bench.real import MODELS
from bench.untrained import NETWORKS
from trt_mpq.types import Precision

ROOT = Path(__file__).resolve().parent
UNTRAINED = ROOT / "cache" / "untrained"
FORMATS = (Precision.FP16, Precision.INT8, Precision.FP8)
_COLUMNS = (
    "network", "format", "one product", "planned format", "epilogue", "attention", "norm + Q", "kernels", "conversions",
    "outside groups",
)  # fmt: skip
_SHOWN = 3
"""Differences of one plan that are written out."""
_TEXT = dict.fromkeys(("input_ids", "attention_mask", "token_type_ids"), (1, 64))
REAL = {
    "resnet20": {"input": (1, 3, 32, 32)}, "resnet56": {"input": (1, 3, 32, 32)},
    "mobilenet": {"input": (1, 3, 224, 224)}, "minilm": _TEXT,
}  # fmt: skip
"""Shapes of one sample of the real networks."""


def subjects(wanted: Collection[str] | None = None) -> Iterator[Subject]:
    """Every network that is at hand, or those `wanted`."""
    for name, shapes in REAL.items():
        if wanted is None or name in wanted:
            yield Subject(name, MODELS[name].path, shapes)
    for name in NETWORKS:
        samples = UNTRAINED / f"{name}.npz"
        if samples.exists() and (wanted is None or name in wanted):
            yield Subject.from_samples(samples.with_suffix(".onnx"), samples, name)


def observed(subject: Subject) -> Iterator[tuple[Precision, Comparison | str]]:
    """The comparison for every format, or why there is none."""
    plans = {precision: subject.grouping.uniform(precision) for precision in FORMATS}
    graphs = {precision.value: subject.emitted(plan) for precision, plan in plans.items()}
    outcomes = subject.compiled(graphs)
    for precision, plan in plans.items():
        outcome = outcomes[precision.value]
        if outcome.engine is None:
            yield precision, f"{outcome.stage}: {outcome.message}"
        else:
            kernels = program(outcome.engine)
            yield precision, compare(subject.grouping, plan, graphs[precision.value], kernels)


def table(rows: dict[str, dict[Precision, Comparison | str]], version: str) -> str:
    """Everything as Markdown."""
    lines = [*_head(version), "", "| " + " | ".join(_COLUMNS) + " |", "|---|---|" + "---:|" * (len(_COLUMNS) - 2)]
    for name, found in rows.items():
        for precision, one in found.items():
            if isinstance(one, str):
                lines.append(f"| {name} | {precision} | {one} |" + " |" * (len(_COLUMNS) - 3))
            else:
                shares = (one.anchors, one.precision, one.epilogues, one.attention, one.norms)
                counts = (one.kernels, one.conversions, one.loose)
                cells = [*map(str, shares), *(f"{share.count} for {share.total}" for share in counts)]
                lines.append(f"| {name} | {precision} | " + " | ".join(cells) + " |")
    lines += ["", "## Groups that are not as assumed", ""]
    for name, found in rows.items():
        for precision, one in found.items():
            if not isinstance(one, str) and one.differences:
                more = f"; and {len(one.differences) - _SHOWN} more" if len(one.differences) > _SHOWN else ""
                lines.append(f"- {name}, {precision}: " + "; ".join(one.differences[:_SHOWN]) + more)
    return "\n".join(lines) + "\n"


def _head(version: str) -> Iterator[str]:
    yield "# Fusions against NVIDIA's compiler"
    yield ""
    yield (
        f"TensorRT for RTX {version}, compute capability {ADA}, batch {BATCH}, `python -m bench.fusions`. Plans are "
        "uniform and nothing is excluded. Counted are groups, of all that could be: **one product**, its products "
        "are one kernel and no other group's; **planned format**, that multiplies what the plan says; **epilogue**, "
        "its bias, residual Add and activation are in that kernel or in one behind each product; **attention**, one "
        "kernel; **norm + Q**, a normalization and the quantizer behind it in one kernel. The last three columns are "
        "kernels of the program *for* those the latency model counts: all; those that only convert; those without any "
        "node of a group."
    )


def main() -> None:
    """Compile everything, then write the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.fusions", description=__doc__)
    parser.add_argument("--networks", help="some of them, with commas between")
    options = parser.parse_args()
    if MISSING:
        parser.error(MISSING)
    import tensorrt_rtx_bindings as trt

    wanted = options.networks.split(",") if options.networks else None
    rows: dict[str, dict[Precision, Comparison | str]] = {}
    for subject in subjects(wanted):
        rows[subject.name] = dict(observed(subject))
        print(
            subject.name,
            *(f"{precision}: {one}" for precision, one in rows[subject.name].items()),
            sep="\n  ",
            flush=True,
        )
    text = table(rows, trt.__version__)
    print(text)
    if wanted is None:
        (ROOT / "results" / "fusions.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
