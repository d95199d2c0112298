"""`python -m tests.fuzz --cases 10000 --seed 0 --keep FOLDER`: many cases, and every fault that was found."""

from __future__ import annotations

import argparse
import os
import resource
import sys
import tempfile
import time
from pathlib import Path

from tests.fuzz.case import run_case
from tests.fuzz.inputs import write_inputs

MOST_MIB = 1536


def main() -> int:
    """Run the cases; the number of faults is the exit code, at most 100."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--target", type=int)
    parser.add_argument("--keep", type=Path)
    asked = parser.parse_args()
    started, faults = time.monotonic(), 0
    with tempfile.TemporaryDirectory() as name:
        sound = Path(name)
        os.chdir(sound)
        write_inputs(sound)
        for number in range(asked.cases):
            outcome = run_case(asked.seed + number, sound, asked.target, asked.keep)
            if outcome.fault:
                faults += 1
                print(f"{outcome.seed} {outcome.command} ({outcome.file}): {outcome.fault}", flush=True)
            if number % 1000 == 999:
                print(f"{number + 1} cases, {faults} faults, {time.monotonic() - started:.0f} s", flush=True)
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) / 1024
    print(f"{asked.cases} cases, {faults} faults, at most {peak:.0f} MiB")
    return min(faults + (peak > MOST_MIB), 100)


sys.exit(main())
