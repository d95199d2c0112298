"""`trt-mpq doctor`: what this machine has and what it lacks.

Beyond Typer and Rich it imports nothing that could be missing itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trt_mpq.cli.options import Json
from trt_mpq.cli.output import Output

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

    from trt_mpq.doctor import Diagnosis
    from trt_mpq.types.route import Route


_Run = typer.Argument(metavar="RUN_DIR", show_default=False, help="Run folder to judge this machine for.")


def doctor(run_dir: Annotated[Path | None, _Run] = None, json: Json = False) -> None:
    """Show what this machine has: runtimes, versions, GPU, what is missing and how to install it.

    With a run folder also which of its files the TensorRT of this machine builds on its GPU, by which command, and what
    stands in the way. Ends with exit code 1 if a required package is missing.
    """
    from trt_mpq.doctor import diagnose

    diagnosis = diagnose()
    found = {**asdict(diagnosis), "abilities": {ability.name: ability.lacking for ability in diagnosis.abilities}}
    routes = _routes(run_dir, diagnosis)
    if routes is not None:
        found["run"] = [asdict(route) for route in routes]
    table = _diagnosis_table if routes is None else partial(_run_table, routes, str(run_dir))
    Output(json=json).show(lambda: table(diagnosis), lambda: dumps(found, indent=2) + "\n")
    if not diagnosis.usable:
        raise typer.Exit(1)


def _routes(run_dir: Path | None, diagnosis: Diagnosis) -> tuple[Route, ...] | None:
    if run_dir is None or not diagnosis.usable:
        return None
    from trt_mpq.api.machine import routes_here

    return routes_here(run_dir, diagnosis)


def _run_table(routes: tuple[Route, ...], run_dir: str, diagnosis: Diagnosis) -> RenderableType:
    """What this machine makes of a run folder, in sentences, commands on lines of their own."""
    from rich.console import Group

    return Group(_diagnosis_table(diagnosis), "", *map(_whole, _judgement(routes, run_dir, diagnosis)))


def _whole(line: str) -> Text:
    """A line that may hold a command, to be copied whole: only the terminal breaks it."""
    from rich.text import Text

    return Text(line, no_wrap=True, overflow="ignore")


def _judgement(routes: tuple[Route, ...], run_dir: str, diagnosis: Diagnosis) -> Iterator[str]:
    where = f"this {diagnosis.machine}"
    version = ".".join(map(str, diagnosis.tensorrt or ()))
    able = " and ".join(route.network for route in routes if not route.refusal)
    if not version:
        yield f"{where} has no TensorRT and builds no engine of {run_dir}; on the device of the run:"
    elif able and not (diagnosis.gpus or diagnosis.jetson):
        yield f"{where} has TensorRT {version}, which needs a GPU to build {able}"
    elif able:
        yield f"{where} with TensorRT {version} can build {able}: `trt-mpq engine {run_dir}`, or in that folder"
    for route in routes:
        what = route.network if version else f"{route.runtime}, {route.network}"
        if route.refusal:
            yield f"{what}: not possible, {route.refusal}"
        else:
            yield f"{what}:"
            yield route.command
        if route.note:
            yield route.note


def _diagnosis_table(diagnosis: Diagnosis) -> RenderableType:
    """What there is, what can be done with it, and below that what is missing."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    for row in _facts(diagnosis):
        table.add_row(*map(Text, row))
    able = Table.grid(padding=(0, 2))
    for name, answer in _abilities(diagnosis):
        able.add_row(name, Text(answer, style="" if answer == "yes" else "bold"))
    return Group(table, "", able, "", *map(_whole, [*_advice(diagnosis)] or ["nothing is missing"]))


def _facts(diagnosis: Diagnosis) -> Iterator[tuple[str, str]]:
    """What there is, as names and values."""
    yield "trt-mpq", diagnosis.product
    yield "Python", diagnosis.python
    yield "system", diagnosis.system
    if diagnosis.jetson:
        yield "Jetson Linux", diagnosis.jetson
    for gpu in diagnosis.gpus:
        memory = "" if gpu.memory_mib is None else f", {gpu.memory_mib / 1024:.0f} GiB"
        yield "GPU", f"{gpu.name}{memory}, driver {gpu.driver}"
    if not diagnosis.gpus:
        yield "GPU", "part of the Jetson, not listed by nvidia-smi" if diagnosis.jetson else "none"
    for package in diagnosis.packages:
        if package.version:
            yield package.name, package.version


def _abilities(diagnosis: Diagnosis) -> Iterator[tuple[str, str]]:
    """What this machine can do: yes, or no with what it takes."""
    for ability in diagnosis.abilities:
        yield ability.name, "yes" if ability.there else f"no: {'; '.join(ability.lacking)}"


def _advice(diagnosis: Diagnosis) -> Iterator[str]:
    """What there is not: one line each with what that prevents and what to do."""
    for package in diagnosis.missing:
        word = "REQUIRED, missing" if package.required else "missing"
        yield f"{word}: {package.name}, for {package.needed_for}: {package.install}"
    if diagnosis.gpu_problem and not diagnosis.jetson:
        yield f"no GPU ({diagnosis.gpu_problem}): latency is modelled, engines are built elsewhere"
