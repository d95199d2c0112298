"""`trt-mpq demo`: a build on real data with nothing to fetch."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trt_mpq.api.opening import open_run
from trt_mpq.cli.options import Details, NewRunDir
from trt_mpq.cli.output import Output


def demo(*, output: NewRunDir = Path("demo-run"), sink: Output, details: Details = False) -> None:
    """Build a network for the handwritten digits of scikit-learn: real data, nothing to fetch."""
    from trt_mpq.demo import PREMISE, prepare_demo

    fields = prepare_demo(output)
    command = _build_command(fields, output)
    sink.note(PREMISE)
    sink.note(f"this demo is the same as: {command}")
    sink.report(open_run(fields, "demo", output, sink, command).report(), output, details)


def _build_command(fields: Mapping[str, Any], output: Path) -> str:
    """The `trt-mpq build` that does the same as `fields`."""
    spelled = {name: ",".join(value) if isinstance(value, tuple) else str(value) for name, value in fields.items()}
    model = spelled.pop("model")
    flags = [word for name, value in spelled.items() for word in (f"--{name.replace('_', '-')}", value)]
    return shlex.join(["trt-mpq", "build", model, *flags, "-o", str(output)])
