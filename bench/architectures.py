"""The architectures of the world, with random weights, from torch to engines: `python -m bench.architectures`.

Each is exported by both of torch's exporters, at the opsets 13, 17 and 20, in a Python that has its libraries
(`--python`, with `bench/corpus/requirements.txt`; those of `bench.corpus.own` need torch alone), and tried in a
process of its own (`bench.corpus.trial`). Rows are kept in a cache as they are done, so the command can be stopped
and goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.corpus.rows import Row, environment, last_words, read_rows, stamped, to_json, tried
from bench.corpus.table import table
from bench.peers.measure import measure

CACHE = Path(__file__).parent / "cache" / "architectures"
RESULTS = Path(__file__).parent / "results"
EXPORTERS, OPSETS = ("torchscript", "dynamo"), (13, 17, 20)
EXPORT_TIMEOUT_S = 400.0
TITLE = "Architectures with random weights"
HOW = (
    "Made by `python -m bench.architectures`. Small networks whose weights nobody trained: what is compiled does not "
    "depend on values. `torchscript` and `dynamo` are torch's two exporters."
)


@dataclass(frozen=True)
class Job:
    """One export of one architecture."""

    name: str
    kind: str
    exporter: str
    opset: int

    @property
    def slug(self) -> str:
        return f"{self.name}-{self.exporter}-{self.opset}"


def catalogue() -> dict[str, str]:
    """Name of every architecture to its kind; imports torch."""
    from bench.corpus.libraries import LIBRARIES
    from bench.corpus.own import OWN

    return {name: kind for name, (kind, _) in {**OWN, **LIBRARIES}.items()}


def jobs(kinds: dict[str, str], rotate: bool) -> Iterator[Job]:
    """Every export of every architecture, or with `rotate` one of the opsets for each, in turns."""
    for number, (name, kind) in enumerate(kinds.items()):
        for turn, exporter in enumerate(EXPORTERS):
            for opset in (OPSETS[(number + turn) % len(OPSETS)],) if rotate else OPSETS:
                yield Job(name, kind, exporter, opset)


def perform(job: Job, python: str, folder: Path) -> Row:
    """Export and try one; whatever happens is a row."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [python, "-m", "bench.corpus.export", job.name, job.exporter, str(job.opset), str(folder)]
    exported = measure(command, CACHE, folder / "export.log", EXPORT_TIMEOUT_S, environment())
    row = stamped(Row(job.name, job.kind, f"{job.exporter}, opset {job.opset}"))
    if exported.code != 0:
        return Row(**{**asdict(row), "not_exported": last_words(exported, folder / "export.log", EXPORT_TIMEOUT_S)})
    versions = json.loads((folder / "versions.json").read_text(encoding="utf-8"))
    return tried(Row(**{**asdict(row), "versions": versions}), folder)


def write_results(rows: list[Row], planned: int, stem: str, title: str, how: str) -> None:
    """The rows as JSON and as a table."""
    RESULTS.mkdir(exist_ok=True)
    content = json.dumps([asdict(row) for row in rows], indent=1)
    (RESULTS / f"{stem}.json").write_text(content + "\n", encoding="utf-8")
    (RESULTS / f"{stem}.md").write_text(table(title, how, rows, planned), encoding="utf-8")


def main() -> None:
    """Try what is missing, then write architectures.json and architectures.md."""
    options = _options()
    kinds = catalogue()
    wanted = {name: kinds[name] for name in options.names.split(",")} if options.names else kinds
    (CACHE / "rows").mkdir(parents=True, exist_ok=True)
    for job in () if options.print else jobs(wanted, options.rotate):
        path = CACHE / "rows" / f"{job.slug}.json"
        if not path.exists():
            row = perform(job, options.python, CACHE / "files" / job.slug)
            path.write_text(to_json(row), encoding="utf-8")
            print(job.slug, row.verdict, row.why, flush=True)
    planned = sum(1 for _ in jobs(kinds, rotate=False))
    write_results(read_rows(CACHE / "rows"), planned, "architectures", TITLE, HOW)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.architectures", description=__doc__)
    parser.add_argument("--names", default="", help="only these, by comma")
    parser.add_argument("--rotate", action="store_true", help="one opset per export instead of all three")
    parser.add_argument(
        "--python", default=sys.executable, help="a Python with bench/corpus/requirements.txt, which exports"
    )
    parser.add_argument("--print", action="store_true", help="write the table of the rows tried so far, and end")
    return parser.parse_args()


if __name__ == "__main__":
    main()
