"""The GPU benchmark: real engines of ResNet-20, ResNet-56 and a network of ResNet-50's shape, in every precision.

    python -m bench.gpu prepare FOLDER     any machine with the data: searches the plans, no GPU needed
    python -m bench.gpu platform           says whether this machine can measure
    python -m bench.gpu measure FOLDER     a GPU host: builds, times in turns, checks, inspects; needs no data

Per network and batch size, the engines are FP32, FP16, uniform INT8, uniform FP8 where it exists, and plans of the
search: the fastest as modelled, and the one with most groups in 8 bit. Those of the network with random weights keep
its outputs, not an accuracy. The results file is whole after every network and batch: stop it at any moment, and the
same command goes on where it was.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.gpu_measure import Subject
from bench.gpu_prepare import CACHE, SUBJECTS, prepare
from bench.gpu_results import Row, read_results, results_file, write_results
from bench.real import DATA, MODELS
from trt_mpq.engine.handover import SEARCHED
from trt_mpq.errors import DataError, TrtMpqError
from trt_mpq.runtime.tensorrt.api import capabilities
from trt_mpq.runtime.tensorrt.platform import this_platform
from trt_mpq.settings import EngineOptions
from trt_mpq.types import Evaluation, Precision
from trt_mpq.types.engine import Platform
from trt_mpq.types.observer import Progress

BATCHES = (1, 8, 32, 128)


class Lines:
    """An observer that prints a line per stage, evaluation and note."""

    @contextmanager
    def stage(self, title: str) -> Iterator[Progress]:
        started = time.monotonic()
        yield lambda done, total: None
        print(f"  {title}: {time.monotonic() - started:.1f} s", flush=True)

    def evaluated(self, evaluation: Evaluation) -> None:
        counts = ", ".join(f"{count} {precision}" for precision, count in evaluation.plan.counts().items())
        verdict = "kept" if evaluation.feasible else "missed"
        print(f"  {evaluation.note}: {counts}: {evaluation.score.value:.4f}, target {verdict}", flush=True)

    def note(self, text: str) -> None:
        print(f"  {text}", flush=True)


def prepare_all(folder: Path, names: list[str] | None, threads: int) -> None:
    """One run folder per network in `folder`; None takes those whose data is here."""
    if names is None:
        names = [name for name in SUBJECTS if DATA.is_dir() or name not in MODELS]
        if len(names) < len(SUBJECTS):
            print(f"real models and data are absent from {DATA} (TRT_MPQ_DATA): {', '.join(names)} only", flush=True)
    for name in names:
        print(name, flush=True)
        prepare(SUBJECTS[name], folder / name, Lines(), threads)


def measure_all(
    folder: Path, names: list[str] | None, batches: list[int], results: Path, options: EngineOptions, limit_s: float
) -> None:
    """Measure what `results` lacks; no row is begun later than `limit_s` seconds from now.

    Raises:
        TrtMpqError: This machine cannot build engines, or a network is not prepared.
    """
    begun = time.monotonic()
    platform = this_platform()
    describe(platform)
    results.mkdir(parents=True, exist_ok=True)
    path = results_file(results, platform)
    measured = read_results(path, platform, options)
    for folder_of_one in _prepared(folder, names):
        subject = Subject(folder_of_one, platform, options, formats_of(platform), Lines())
        for batch in batches:
            if measured.has(subject.name, batch, subject.key):
                continue
            if time.monotonic() - begun > limit_s:
                print(f"time is up; {path} has what was measured, the same command goes on", flush=True)
                return
            print(f"{subject.name}, batch {batch}", flush=True)
            row = subject.measure(batch)
            measured = measured.with_row(row)
            write_results(path, measured)
            print("\n".join(lines(row)), flush=True)
    print(path)


def describe(platform: Platform) -> None:
    """Print one line about this machine."""
    print(f"{platform.gpu}, TensorRT {platform.tensorrt}, driver {platform.driver} (CUDA {platform.cuda})", flush=True)


def lines(row: Row) -> Iterator[str]:
    """One line per plan of `row`, and one if the engines could not be run."""
    if row.failure:
        yield f"  failed: {row.failure}"
    for name, found in row.engines.items():
        if found.profile is None:
            yield f"  {name:<14}{found.status}: {found.reason}"
            continue
        ratio = (
            "" if found.ratio is None else f"{found.ratio.value:.3f} [{found.ratio.low:.3f}, {found.ratio.high:.3f}]"
        )
        sqnr = "bit-equal" if found.sqnr_fp32_db is None else f"{found.sqnr_fp32_db:.1f} dB"
        yield (
            f"  {name:<14}{found.profile.gpu_compute.median:9.4f} ms  {ratio:<22}{found.size_bytes / 1e6:8.1f} MB "
            f"{sqnr:>10}  {found.agreeing}/{found.groups} groups as asked, {found.unknown} unknown"
        )
    for name, equal in row.same.items():
        yield f"  {name:<14}is the {equal} plan"


def formats_of(platform: Platform) -> tuple[Precision, ...]:
    """The 8-bit formats that TensorRT and the GPU have."""
    fp8 = capabilities().fp8 and platform.sm >= Precision.FP8.spec.first_sm
    return (Precision.INT8, Precision.FP8) if fp8 else (Precision.INT8,)


def _prepared(folder: Path, names: list[str] | None) -> list[Path]:
    """The run folders of `names`, of all that are prepared if None."""
    found = [name for name in names or SUBJECTS if (folder / name / SEARCHED.written[0]).is_file()]
    missing = [name for name in names or () if name not in found]
    if missing or not found:
        lacking = ", ".join(missing) or "every network"
        raise DataError(f"{folder} lacks {lacking}: run `python -m bench.gpu prepare {folder}` first")
    return [folder / name for name in found]


def _names(text: str) -> list[str]:
    names = text.split(",")
    unknown = [name for name in names if name not in SUBJECTS]
    if unknown:
        raise argparse.ArgumentTypeError(f"unknown {', '.join(unknown)}: choose from {', '.join(SUBJECTS)}")
    return names


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("platform")
    for command in ("prepare", "measure"):
        sub = commands.add_parser(command)
        sub.add_argument("folder", type=Path, nargs="?", default=CACHE / "prepared")
        sub.add_argument("--models", type=_names, default=None)
        if command == "prepare":
            sub.add_argument("--threads", type=int, default=0, help="threads of ONNX Runtime; 0 takes every core")
            continue
        sub.add_argument("--batches", type=lambda text: [int(size) for size in text.split(",")], default=list(BATCHES))
        sub.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
        sub.add_argument("--limit-s", type=float, default=float("inf"), help="begin no row after that many seconds")
        sub.add_argument("--rounds", type=int, default=EngineOptions().rounds)
        sub.add_argument("--optimization-level", type=int, default=None)
    return parser.parse_args()


def main() -> None:
    """Prepare or measure; an error that the user can act on is one sentence and exit code 2."""
    given = _arguments()
    try:
        if given.command == "platform":
            describe(this_platform())
        elif given.command == "prepare":
            prepare_all(given.folder, given.models, given.threads)
        else:
            options = EngineOptions(rounds=given.rounds, optimization_level=given.optimization_level)
            measure_all(given.folder, given.models, given.batches, given.results, options, given.limit_s)
    except TrtMpqError as error:
        print(f"bench.gpu: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
