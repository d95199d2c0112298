"""The command line many times: `python -m tests.cli.forked CASES`, CASES being JSON of names and words.

Each is a fork of this process, which has imported everything once, and ends as an interpreter does. What it wrote lies
in `NAME.out` and `NAME.err`; its exit code is printed as JSON by name.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import jinja2  # noqa: F401 - all before the fork
import onnx.reference  # noqa: F401
import onnxscript.optimizer  # noqa: F401
import polygraphy.comparator  # noqa: F401, TID253

import trt_mpq.pipeline.run  # noqa: F401
from trt_mpq.cli import main
from trt_mpq.runtime.onnxruntime import OnnxRuntime


def started(name: str, words: list[str]) -> int:
    """The process id of a fork; returns in it too, with 0."""
    child = os.fork()
    if not child:
        for descriptor, kind in ((1, "out"), (2, "err")):
            os.dup2(os.open(f"{name}.{kind}", os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_APPEND), descriptor)
        sys.argv = ["trt-mpq", *words]
    return child


def ended(cases: dict[str, list[str]]) -> dict[str, int] | None:
    """The exit code of every case; None in the fork, which is to go on."""
    codes = {}
    for name, words in cases.items():
        child = started(name, words)
        if not child:
            return None
        codes[name] = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return codes


if __name__ == "__main__":
    OnnxRuntime()  # imported before the fork, and by ours: its reporting, which it would start, does not survive one
    codes = ended(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    if codes is None:
        main()
    print(json.dumps(codes))
