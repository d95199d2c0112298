"""Measure what is missing of the comparison with peers, then write it: `python -m bench.peers`.

Rows are kept in a cache folder as they are done, so the command can be stopped and goes on where it was. Peers run one
after the other, for their times to mean something: keep the machine quiet.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from bench.peers.adapters.task import DELIVERED, OUTCOME
from bench.peers.environments import Environment, InstallationError
from bench.peers.judge import DEVICE, judge
from bench.peers.measure import measure
from bench.peers.roster import PEERS, Peer
from bench.peers.rows import Job, Row, read_rows, row_to_json
from bench.peers.subjects import BATCH, CALIBRATION_SAMPLES, Subject
from bench.peers.table import table
from bench.real import MODELS
from trt_mpq.errors import TrtMpqError

ROOT = Path(__file__).resolve().parents[1]
CACHE = ROOT / "cache" / "peers"
ADAPTERS = Path(__file__).parent / "adapters"
TARGETS = (0.99, 0.999)


def jobs(peers: Sequence[Peer], targets: Sequence[float], subject: Subject) -> Iterator[Job]:
    """Everything asked about one model."""
    for peer in peers:
        for precision in peer.formats:
            for target in targets if peer.targeted else [None]:
                yield Job(
                    peer.name, subject.name, target, precision, subject.calibration_samples, subject.evaluation_samples
                )


def perform(job: Job, peer: Peer, subject: Subject, environments: Path, timeout_s: float) -> Row:
    """Let the peer do a job, and judge what it delivers; a failure is a row too."""
    try:
        python = Environment(environments / peer.name, peer.requirements).python() if peer.requirements else None
    except InstallationError as error:
        return Row(job, failure=f"does not install: {error}")
    folder = CACHE / "jobs" / job.slug
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "task.json").write_text(json.dumps(task_of(job, subject, folder)), encoding="utf-8")
    log = folder / "log.txt"
    command = [str(python or sys.executable), str(ADAPTERS / peer.script), "task.json"]
    measured = measure(command, folder, log, timeout_s, _environment(own=python is None))
    row = Row(job, seconds=measured.seconds, peak_mib=measured.peak_mib)
    if measured.code is None:
        return replace(row, failure=f"not done after {timeout_s:.0f} s")
    if measured.code != 0 or not (folder / OUTCOME).exists():
        return replace(row, failure=f"exit code {measured.code}: {last_words(log.read_text(errors='replace'))}")
    outcome = json.loads((folder / OUTCOME).read_text(encoding="utf-8"))
    row = replace(row, evaluations=outcome["evaluations"], versions=outcome["versions"], notes=tuple(outcome["notes"]))
    try:
        return replace(row, verdict=judge(folder / DELIVERED, subject))
    except TrtMpqError as error:
        return replace(row, failure=f"delivered a file that cannot be judged: {error}")


def task_of(job: Job, subject: Subject, folder: Path) -> dict[str, object]:
    """What an adapter is told; ours reads recipes where a sample is several rows, which plain arrays cannot say.

    Every peer gets a copy of the model: Model Optimizer writes the file that it is given anew.
    """
    arrays, real = subject.arrays, subject.real
    model = Path(shutil.copy(subject.source, folder / subject.source.name))
    plain = subject.evaluation.rows == 1
    return {
        "model": str(model), "metric": subject.metric, "target": job.target, "precision": job.precision,
        "batch": BATCH, "folder": str(folder),
        "calibration": str(arrays.calibration), "evaluation": str(arrays.evaluation),
        "trt_mpq": {
            "calib": str(arrays.calibration) if plain else real.calib,
            "eval": str(arrays.evaluation) if plain else real.eval,
            "calib_samples": job.calibration_samples, "eval_samples": job.evaluation_samples, "device": DEVICE,
        },
    }  # fmt: skip


def _environment(*, own: bool) -> dict[str, str]:
    """Variables for a process: a peer must not see our packages."""
    return {name: value for name, value in os.environ.items() if own or name != "PYTHONPATH"}


def last_words(log: str) -> str:
    """The last line of a log that says something, which after a traceback is the error."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "it printed nothing"


def main() -> None:
    """Measure what is missing, then write peers.md and peers.json."""
    options = _options()
    peers = [PEERS[name] for name in options.peers.split(",")]
    targets = [float(target) for target in options.targets.split(",")]
    rows = CACHE / "rows"
    rows.mkdir(parents=True, exist_ok=True)
    for name in () if options.print else options.models.split(","):
        subject = Subject(name, CACHE / "subjects", options.calib_samples, options.eval_samples)
        for job in jobs(peers, targets, subject):
            path = rows / f"{job.slug}.json"
            if not path.exists():
                row = perform(job, PEERS[job.peer], subject, options.environments, options.timeout_s)
                path.write_text(row_to_json(row), encoding="utf-8")
                print(job.slug, row.failure or row.verdict, flush=True)
    found = read_rows(rows)
    text = table(found)
    print(text)
    if not options.print:
        options.results.mkdir(parents=True, exist_ok=True)
        (options.results / "peers.md").write_text(text, encoding="utf-8")
        content = [json.loads(row_to_json(row)) for row in found]
        (options.results / "peers.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.peers", description=__doc__)
    parser.add_argument("--peers", default=",".join(PEERS))
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--targets", default=",".join(map(str, TARGETS)))
    parser.add_argument("--calib-samples", type=int, default=CALIBRATION_SAMPLES)
    parser.add_argument("--eval-samples", type=int, default=None, help="default: what bench.real can afford per model")
    parser.add_argument("--timeout-s", type=float, default=3600.0, help="longest a peer may take for one job")
    parser.add_argument("--environments", type=Path, default=CACHE / "environments", help="peers' virtual environments")
    parser.add_argument("--results", type=Path, default=ROOT / "results", help="where peers.md and peers.json go")
    parser.add_argument("--print", action="store_true", help="print the table of the rows measured so far, and end")
    return parser.parse_args()


if __name__ == "__main__":
    main()
