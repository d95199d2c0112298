"""Many cases in several processes, in parts; what is found does not depend on how many processes there are."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz.case import run_case

PART = 20
"""Cases of a part: an interruption waits for those that run."""


@dataclass(frozen=True)
class Part:
    """What came of some cases: a line for each fault, and the most memory that the process has taken so far."""

    cases: int
    faults: tuple[str, ...]
    peak_mib: float


def many_cases(seeds: range, sound: Path, target: int | None, keep: Path | None, processes: int) -> Iterator[Part]:
    """Run the case of every seed, on damaged copies of the folder `sound`; the parts come in the order of the seeds.

    A process that dies is a fault, and ends the others.
    """
    # ONNX Runtime's threads, which made the sound inputs, do not survive a fork.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(processes, mp_context=context, initializer=_begin, initargs=(str(sound.parent),))
    try:
        parts = [seeds[start : start + PART] for start in range(0, len(seeds), PART)]
        for future in [pool.submit(_run, part, sound, target, keep) for part in parts]:
            yield future.result()
    except BrokenProcessPool:
        running = sorted(int(note.read_text(encoding="utf-8")) for note in sound.parent.glob("running-*"))
        yield Part(0, (f"a process died at one of the cases {running}",), 0.0)
    finally:
        pool.shutdown(cancel_futures=True)


def _begin(folder: str) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that leads, and no ending of a case
    tempfile.tempdir = folder


def _run(seeds: range, sound: Path, target: int | None, keep: Path | None) -> Part:
    faults = []
    for seed in seeds:
        (sound.parent / f"running-{os.getpid()}").write_text(str(seed), encoding="utf-8")
        outcome = run_case(seed, sound, target, keep)
        os.chdir(sound)
        if outcome.fault:
            faults.append(f"{outcome.seed} {outcome.command} ({outcome.file}): {outcome.fault}")
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return Part(len(seeds), tuple(faults), peak / 1024)
