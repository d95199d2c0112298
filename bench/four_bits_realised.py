"""Plans with 4 bit as NVIDIA's compiler realises them.

`python -m bench.four_bits_realised` (extra `rtx`): every plan of `four-bits.jsonl`, and the uniform ones, through
TensorRT for RTX, for the compute capabilities that have its formats. A cell is the groups that multiply in the planned
format, of all.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import onnx

from bench.decoders import WINDOW
from bench.four_bits import BENCH, LADDERS, MODELS
from bench.observed import Subject, compare
from bench.program import program
from bench.train_decoder import WINDOW as BYTES
from trt_mpq.artifacts.files import write_text
from trt_mpq.types import Precision, PrecisionPlan

TABLE = Path(__file__).parent / "results" / "four-bits-realised.md"
_CAPABILITIES = (86, 89, 120)
_TOKENS = {"minilm": 64, "paraphrase": 64, "mpnet": 64, "bytes": BYTES, "smollm2": WINDOW}


def realised(model: str, plans: dict[PrecisionPlan, None]) -> Iterator[str]:
    """What NVIDIA's compiler makes of every different plan and of the uniform ones, a line of Markdown each."""
    path = MODELS[model].path
    inputs = onnx.load(path, load_external_data=False).graph.input
    subject = Subject(model, path, {value.name: (1, _TOKENS[model]) for value in inputs})
    formats = dict.fromkeys(Precision(name) for ladder in LADDERS for name in ladder.split(","))
    return (line(subject, plan) for plan in dict.fromkeys(map(subject.grouping.uniform, formats)) | plans)


def line(subject: Subject, plan: PrecisionPlan) -> str:
    """A line of Markdown for a plan: in how many groups each of its engines multiplies as planned."""
    graph, cells = subject.emitted(plan), []
    for capability in (sm for sm in _CAPABILITIES if all(p.spec.first_sm <= sm for p in plan.counts())):
        outcome = subject.compiled({"plan": graph}, capability)["plan"]
        share = outcome.stage
        if outcome.engine is not None:
            share = str(compare(subject.grouping, plan, graph, program(outcome.engine)).precision)
        cells.append(f"{capability / 10:.1f}: {share}")
    mix = ", ".join(f"{count} {precision}" for precision, count in plan.counts().items())
    return f"| {subject.name} | {mix} | {', '.join(cells)} |"


def main() -> None:
    lines = ["# Plans with 4 bit as NVIDIA's compiler realises them", "", *(__doc__ or "").splitlines()[2:], ""]
    lines += ["| network | groups | as planned, by compute capability |", "|---|---|---|"]
    plans: dict[str, dict[PrecisionPlan, None]] = {}
    for row in (row for row in BENCH.measured() if row.plan):
        plan = PrecisionPlan.of({group: Precision(name) for group, name in row.plan.items()})
        plans.setdefault(row.job.model, {})[plan] = None
    for model, own in plans.items():
        lines += realised(model, own)
    write_text(TABLE, "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
