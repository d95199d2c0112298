"""`python -m tests.fuzz --cases 10000 --seed 0 --keep FOLDER`: many cases, and every fault that was found."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

from tests.fuzz.inputs import write_inputs
from tests.fuzz.many import many_cases

MOST_MIB = 1536


def main() -> int:
    """Run the cases; the number of faults is the exit code, at most 100."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0, help="of the first case; every case has its own")
    parser.add_argument("--target", type=int, help="index of the one command to run; all by default")
    parser.add_argument("--keep", type=Path, help="where the inputs of faulty cases are kept")
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="side by side; all cores by default")
    asked = parser.parse_args()
    started, done, faults, peak = time.monotonic(), 0, 0, 0.0
    interrupted = False
    keep = asked.keep and asked.keep.absolute()
    with tempfile.TemporaryDirectory() as name:
        os.chdir(name)
        sound = Path(name, "sound")
        sound.mkdir()
        os.chdir(sound)
        write_inputs(sound)
        os.chdir(name)
        seeds = range(asked.seed, asked.seed + asked.cases)
        try:
            for part in many_cases(seeds, sound, asked.target, keep, asked.processes):
                for line in part.faults:
                    print(line, flush=True)
                told, done = done // 1000, done + part.cases
                faults, peak = faults + len(part.faults), max(peak, part.peak_mib)
                if done // 1000 > told:
                    print(f"{done} cases, {faults} faults, {time.monotonic() - started:.0f} s", flush=True)
        except KeyboardInterrupt:
            interrupted = True
    print(f"{done} cases, {faults} faults, at most {peak:.0f} MiB{', interrupted' if interrupted else ''}")
    return 130 if interrupted else min(faults + (peak > MOST_MIB), 100)


if __name__ == "__main__":
    sys.exit(main())
