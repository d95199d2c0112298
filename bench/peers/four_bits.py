"""4 bit beside Model Optimizer's ONNX path, on MiniLM: `python -m bench.peers.four_bits`.

Every delivered file is scored in our reference runtime, but ours in NVFP4, which only TensorRT loads: there it is
`reference.onnx`, which computes the same. Nothing is searched: every product that may is in 4 bit. Refined means AWQ's
scales, clipped scales, GPTQ and corrected biases, each where it does not lower the score on the pairs that are scored
here. Rows are kept as they are done.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.peers.__main__ import CACHE, ROOT, perform
from bench.peers.adapters.task import DELIVERED
from bench.peers.roster import PEERS
from bench.peers.rows import Job
from bench.peers.subjects import Subject
from trt_mpq.artifacts.files import write_text
from trt_mpq.emit import Refinements
from trt_mpq.model import save_graph
from trt_mpq.pipeline.run import Run
from trt_mpq.settings import settings_from
from trt_mpq.types import Precision
from trt_mpq.types.observer import SilentObserver

MODEL, CALIBRATION, EVALUATION = "minilm", 128, 300
THEIRS = {
    "INT4, to nearest": "int4:rtn_dq", "NVFP4": "nvfp4", "INT4, awq_lite (its default)": "int4:awq_lite",
    "INT4, awq_clip": "int4:awq_clip",
}  # fmt: skip
"""What its documentation calls them."""
OURS = {
    "INT4 (w4a16), to nearest": (Precision.W4A16, False), "INT4 (w4a16), refined": (Precision.W4A16, True),
    "NVFP4, to nearest": (Precision.NVFP4, False), "NVFP4, refined": (Precision.NVFP4, True),
}  # fmt: skip
RESULTS = ROOT / "results"
ROWS, TABLE = RESULTS / "peers-four-bits.jsonl", RESULTS / "peers-four-bits.md"


@dataclass(frozen=True)
class Row:
    """What came of it: share of FP32's score, size of the delivered file; `failure` in the tool's own words."""

    tool: str
    what: str
    accuracy: float | None = None
    size: int | None = None
    failure: str = ""


def theirs(what: str, subject: Subject) -> Row:
    """Model Optimizer's file, or what it says."""
    peer = PEERS["modelopt"]
    job = Job(peer.name, MODEL, None, THEIRS[what], CALIBRATION, EVALUATION)
    row = perform(job, peer, subject, CACHE / "environments", 3600.0)
    if row.failure or row.verdict is None or row.verdict.accuracy is None:
        return Row(peer.title, what, failure=row.failure or "; ".join(row.verdict.remarks if row.verdict else ()))
    return Row(peer.title, what, row.verdict.accuracy, (CACHE / "jobs" / job.slug / DELIVERED).stat().st_size)


def ours(what: str, subject: Subject) -> Row:
    """Our uniform plan, refined or not."""
    precision, refined = OURS[what]
    steps = dict.fromkeys(("awq", "clip_weights", "gptq", "bias_correction"), refined)
    settings = settings_from(
        {
            "model": str(subject.source), "calib": subject.real.calib, "eval": subject.real.eval, "metric": "spearman",
            "precisions": ["fp16", precision.value], "calibration": "mse", "calib_samples": CALIBRATION,
            "eval_samples": EVALUATION, "device": "rtx5090", "exclusions": "none", "threads": 1, **steps,
        },
        "peers",
    )  # fmt: skip
    folder = CACHE / f"four-bits-{precision}-{refined}"
    run = Run(settings, folder, SilentObserver(), "bench.peers")
    stages = run.calibration_stages()
    network, kept = run.store[stages.scored.network], run.store[stages.choose_refinements(run.store)].refinements
    emitter, plan = network.emitter(kept or Refinements()), network.grouping.uniform(precision)
    delivered = folder / DELIVERED
    save_graph(emitter.strong(plan), delivered)
    score = subject.score(delivered if precision.spec.portable else emitter.reference(plan)).value
    return Row("trt-mpq", what, score / subject.fp32.value, delivered.stat().st_size)


def table(rows: list[Row]) -> Iterator[str]:
    """The rows as Markdown."""
    yield "# 4 bit beside Model Optimizer's"
    yield from ("", *(__doc__ or "").splitlines()[2:], "")
    versions = ", ".join(PEERS["modelopt"].requirements)
    yield f"MiniLM on STS-B, {CALIBRATION} sentences to calibrate, {EVALUATION} pairs to evaluate; {versions}."
    yield from ("", "| tool | what | accuracy / FP32 | file |", "|---|---|---:|---:|")
    for row in sorted(rows, key=lambda row: row.tool):
        cells = f"{row.accuracy:.2%} | {row.size / 1e6:.1f} MB" if row.accuracy and row.size else f"{row.failure} | -"
        yield f"| {row.tool} | {row.what} | {cells} |"


def main() -> None:
    subject = Subject(MODEL, CACHE / "subjects", CALIBRATION, EVALUATION)
    rows = [Row(**json.loads(line)) for line in ROWS.read_text().splitlines()] if ROWS.exists() else []
    done = {(row.tool, row.what) for row in rows}
    asked = [(what, theirs, PEERS["modelopt"].title) for what in THEIRS] + [(w, ours, "trt-mpq") for w in OURS]
    for what, measured, tool in asked:
        if (tool, what) not in done:
            rows.append(measured(what, subject))
            with Path(ROWS).open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(rows[-1])) + "\n")
            print(rows[-1], flush=True)
    write_text(TABLE, "\n".join(table(rows)) + "\n")


if __name__ == "__main__":
    main()
