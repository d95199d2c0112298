"""The architectures of the world, with random weights, from torch to engines: `python -m bench.architectures`.

Each is exported by both of torch's exporters, at the opsets 13, 17 and 20, in a Python that has its libraries
(`--python`, with `bench/corpus/requirements.txt`; those of `bench.corpus.own` need torch alone), and tried in a
process of its own (`bench.corpus.trial`). Rows are kept in a cache as they are done, so the command can be stopped
and goes on where it was, or where the committed results are.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from shutil import rmtree

from bench.corpus.rows import Row, environment, from_json, last_words, read_rows, stamped, to_json, tried
from bench.corpus.table import table
from bench.peers.measure import measure

CACHE = Path(__file__).parent / "cache" / "architectures"
RESULTS = Path(__file__).parent / "results"
EXPORTERS, OPSETS = ("torchscript", "dynamo"), (13, 17, 20)
EXPORT_TIMEOUT_S = 600.0
TITLE = "Architectures with random weights"
HOW = (
    "Made by `python -m bench.architectures`. Small networks whose weights nobody trained: what is compiled does not "
    "depend on values. `torchscript` and `dynamo` are torch's two exporters. A whole run "
    "(`--rotate`) has one of the opsets 13, 17 and 20 for each export, in turns; without it, all three."
)


@dataclass(frozen=True)
class Job:
    """One export of one architecture; `instead` are the opsets to try in turn if the exporter has not got this one."""

    name: str
    kind: str
    exporter: str
    opset: int
    instead: tuple[int, ...] = ()

    @property
    def slug(self) -> str:
        return f"{self.name}-{self.exporter}-{self.opset}"

    @property
    def source(self) -> str:
        """As the row says it."""
        return f"{self.exporter}, opset {self.opset}"


def catalogue() -> dict[str, str]:
    """Name of every architecture to its kind; imports torch."""
    from bench.corpus.libraries import LIBRARIES
    from bench.corpus.own import OWN

    return {name: kind for name, (kind, _) in {**OWN, **LIBRARIES}.items()}


def jobs(kinds: dict[str, str], rotate: bool) -> Iterator[Job]:
    """Every export of every architecture, or with `rotate` at one opset each, in turns; one exporter first."""
    for turn, exporter in enumerate(EXPORTERS):
        for number, (name, kind) in enumerate(kinds.items()):
            if rotate:
                start = (number + turn) % len(OPSETS)
                opset, *instead = OPSETS[start:] + OPSETS[:start]
                yield Job(name, kind, exporter, opset, tuple(instead))
            else:
                yield from (Job(name, kind, exporter, opset) for opset in OPSETS)


def missing(wanted: Iterable[Job], rows: Iterable[Row], rotate: bool) -> Iterator[Job]:
    """Those of `wanted` that no row tells of; with `rotate`, a row at any opset does."""
    done = {_export_of(row, rotate) for row in rows}
    return (job for job in wanted if (job.name, job.exporter if rotate else job.source) not in done)


def _export_of(row: Row, rotate: bool) -> tuple[str, str]:
    return row.name, row.source.partition(",")[0] if rotate else row.source


def perform(job: Job, python: str, folder: Path) -> Row:
    """Export and try one; whatever happens is a row."""
    if folder.exists():  # a run folder in it resumes what an earlier commit made
        rmtree(folder)
    folder.mkdir(parents=True)
    command = [python, "-m", "bench.corpus.export", job.name, job.exporter, str(job.opset), str(folder)]
    exported = measure(command, CACHE, folder / "export.log", EXPORT_TIMEOUT_S, environment(), of_cpu=True)
    row = stamped(Row(job.name, job.kind, job.source))
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
    kept = CACHE / "rows"
    if not kept.exists():
        keep_committed(kept)
    planned = list(jobs(kinds, options.rotate))
    names = options.names.split(",") if options.names else list(kinds)
    wanted = [job for name in names for job in planned if job.name == name]
    chosen = sorted(wanted, key=lambda job: EXPORTERS.index(job.exporter))
    for job in () if options.print else missing(chosen, read_rows(kept), options.rotate):
        row = perform(job, options.python, CACHE / "files" / job.slug)
        while row.not_exported and job.instead:
            job = replace(job, opset=job.instead[0], instead=job.instead[1:])
            row = perform(job, options.python, CACHE / "files" / job.slug)
        (kept / f"{job.slug}.json").write_text(to_json(row), encoding="utf-8")
        print(job.slug, row.verdict, row.why, flush=True)
    write_results(read_rows(kept), len(planned), "architectures", TITLE, HOW)


def keep_committed(folder: Path) -> None:
    """The committed rows into `folder`, to go on from."""
    folder.mkdir(parents=True)
    for content in json.loads((RESULTS / "architectures.json").read_text(encoding="utf-8")):
        slug = f"{content['name']}-{content['source']}".replace(", opset ", "-")
        (folder / f"{slug}.json").write_text(to_json(from_json(content)), encoding="utf-8")


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
