"""The corpus as Markdown: how many went through, and every file a row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from bench.corpus.rows import FORMATS, NOT_EXPORTED, NVIDIA, THROUGH, Row
from bench.corpus.trial import CAPABILITIES, Lowered

_COLUMNS = (
    "network", "kind", "from", "result", "in 8 bit, INT8", "FP8", "dB, INT8", "FP8", "realised, INT8", "FP8",
    "engines", "s", "MiB",
)  # fmt: skip
_LONGEST, _MOST = 160, 0.9
_LEGEND = (
    "Every group that may is quantized, first to INT8, then to FP8. **result** is `through` if both files are "
    "valid ONNX, keep the original's inputs and outputs, agree with it in ONNX Runtime as far as the reference "
    "does that a search goes by, and are compiled by TensorRT for RTX for every compute capability (INT8: 8.0, "
    "8.6, 8.9, 12.0; FP8: 8.9, 12.0). **in 8 bit** is the share of all multiply-adds, **dB** the signal-to-noise "
    "ratio of typed.onnx (its worst output), **realised** the groups whose product has two 8-bit operands in the "
    "engine for 8.9, **s** and **MiB** are of the trial with all its compilations, on a machine that did other "
    "things too."
)


def table(title: str, how: str, rows: Sequence[Row], planned: int) -> str:
    """`rows` under a `title`, with `how` they were made; `planned` is how many there would be in a whole run."""
    return (
        "\n".join(
            [f"# {title}", "", how, "", _LEGEND, "", *_summary(rows, planned), "", *_files(rows), "", *_failures(rows)]
        )
        + "\n"
    )


def _summary(rows: Sequence[Row], planned: int) -> Iterator[str]:
    commits = ", ".join(sorted({f"{row.commit} ({row.date})" for row in rows}))
    packages = dict(pair for row in rows for pair in row.versions.items())
    yield f"{len(rows)} of {planned} files of a whole run were tried, at commit {commits}."
    yield ""
    yield ", ".join(f"{name} {version}" for name, version in sorted(packages.items())) or "-"
    yield ""
    counts = Counter(row.verdict for row in rows)
    for verdict, count in counts.most_common():
        yield f"- {verdict}: {count}"
    taken = [row for row in rows if row.verdict not in (NOT_EXPORTED, NVIDIA)]
    yield f"- of {len(taken)} files that NVIDIA's compiler takes, {counts[THROUGH]} went all the way in both formats"
    for name in FORMATS:
        shares = [share for row in taken if (share := share_of(row, name)) is not None]
        most = f"{sum(share >= _MOST for share in shares)} of {len(shares)}"
        yield f"- {name.upper()}: {_MOST * 100:.0f} % of the multiply-adds or more are in 8 bit in {most}"


def share_of(row: Row, name: str) -> float | None:
    """Share of the multiply-adds that run in the format `name`; None if there is no file."""
    lowered = row.outcome.formats.get(name) if row.outcome else None
    return None if lowered is None or lowered.failure else lowered.share


def _files(rows: Sequence[Row]) -> Iterator[str]:
    yield "| " + " | ".join(_COLUMNS) + " |"
    yield "|" + "---|" * 4 + "---:|" * (len(_COLUMNS) - 4)
    for row in sorted(rows, key=lambda row: (row.kind, row.name, row.source)):
        formats = [row.outcome.formats.get(name) if row.outcome else None for name in FORMATS]
        cells = (
            row.name, row.kind, row.source, row.verdict, *map(_share, formats), *map(_decibels, formats),
            *map(_realised, formats), _engines(row), f"{row.seconds:.0f}", f"{row.peak_mib:.0f}",
        )  # fmt: skip
        yield "| " + " | ".join(cells) + " |"


def _share(lowered: Lowered | None) -> str:
    return "" if lowered is None or lowered.failure else f"{lowered.share:.0%}"


def _decibels(lowered: Lowered | None) -> str:
    return "" if lowered is None or lowered.typed_db is None else f"{lowered.typed_db:.0f}"


def _realised(lowered: Lowered | None) -> str:
    return "" if lowered is None or lowered.realised is None else f"{lowered.realised} of {lowered.groups}"


def _engines(row: Row) -> str:
    if row.outcome is None or not row.outcome.formats:
        return ""
    said = [words for lowered in row.outcome.formats.values() for words in lowered.engines.values()]
    return f"{sum(words == 'ok' for words in said)} of {sum(map(len, CAPABILITIES.values()))}"


def _failures(rows: Sequence[Row]) -> Iterator[str]:
    yield "## What did not go through"
    yield ""
    for row in sorted(rows, key=lambda row: (row.verdict, row.name)):
        if row.why:
            words = row.why.replace("\n", " ").replace("|", "\\|")
            yield f"- {row.name}, {row.source}: {row.verdict}: {words[:_LONGEST]}"
