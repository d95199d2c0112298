"""Every strongly typed network that runs of the suite deliver goes through NVIDIA's compiler, once all tests are done.

Networks that differ in numbers alone are one. The workers of pytest-xdist keep them in one folder, and the process that
started the session compiles them, many in one process.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import pytest

from bench.compiled import ADA, MISSING, Compiled, compiled
from trt_mpq.emit import Emitter
from trt_mpq.emit.deliver import Delivery, deliver
from trt_mpq.pipeline import delivery
from trt_mpq.types import PrecisionPlan

FOLDER = pytest.StashKey[Path]()
REFUSED = pytest.StashKey[dict[str, str]]()
SAID = pytest.StashKey[str]()
_WORKER = "delivered"
_BLACKWELL = 120


def pytest_configure(config: pytest.Config) -> None:
    """Choose the folder, one for all workers."""
    given = getattr(config, "workerinput", {}).get(_WORKER)
    if given is None:
        folder = tempfile.TemporaryDirectory()
        config.add_cleanup(folder.cleanup)
        given = folder.name
    config.stash[FOLDER] = Path(given)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a worker the folder."""
    node.workerinput[_WORKER] = str(node.config.stash[FOLDER])


@pytest.fixture(scope="session", autouse=True)
def _kept_deliveries(request: pytest.FixtureRequest) -> Iterator[None]:
    folder = request.config.stash[FOLDER]

    def delivered(emitter: Emitter, plan: PrecisionPlan, run: Path) -> Delivery:
        done = deliver(emitter, plan, run)
        if done.deployable:
            keep(run / "typed.onnx", folder)
        return done

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(delivery, "deliver", delivered)
        yield


def keep(typed: Path, folder: Path) -> None:
    """Copy a network into the folder unless one of its structure lies there, with the test that it is of."""
    proto = onnx.load(typed)
    content = proto.SerializeToString()
    del proto.metadata_props[:]
    for tensor in proto.graph.initializer:
        tensor.ClearField("raw_data")
    name = hashlib.sha256(proto.SerializeToString(deterministic=True)).hexdigest()
    (folder / f"{name}.onnx").write_bytes(content)
    (folder / f"{name}.txt").write_text(os.environ.get("PYTEST_CURRENT_TEST", ""), encoding="utf-8")


def outcomes(folder: Path) -> dict[str, Compiled]:
    """What the compiler makes of the networks in the folder, by file name.

    For Ada, or Blackwell for FP4; for 4 rows, or 1 where a network takes only one at a time.
    """
    files = {path.name: path.read_bytes() for path in sorted(folder.glob("*.onnx"))}
    done: dict[str, Compiled] = {}
    for capability in (ADA, _BLACKWELL):
        chosen = {name: one for name, one in files.items() if ("trt" in _domains(one)) == (capability == _BLACKWELL)}
        done |= compiled(chosen, capability)
        for name in [name for name in chosen if not done[name].built]:
            done |= compiled({name: files[name]}, capability, _one_row(files[name]))
    return done


def _one_row(content: bytes) -> dict[str, list[int]]:
    inputs = onnx.ModelProto.FromString(content).graph.input
    return {value.name: [dim.dim_value or 1 for dim in value.type.tensor_type.shape.dim] for value in inputs}


def _domains(content: bytes) -> set[str]:
    return {entry.domain for entry in onnx.ModelProto.FromString(content).opset_import}


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Compile what was kept; a refusal fails the session."""
    config = session.config
    if hasattr(config, "workerinput") or MISSING:
        return
    folder, started = config.stash[FOLDER], time.monotonic()
    done = outcomes(folder)
    if not done:
        return
    config.stash[REFUSED] = {
        (folder / name).with_suffix(".txt").read_text(encoding="utf-8"): f"{one.stage}: {one.message}"
        for name, one in done.items()
        if not one.built
    }
    config.stash[SAID] = f"NVIDIA's compiler: {len(done)} networks of runs, {time.monotonic() - started:.0f} s"
    if config.stash[REFUSED]:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Say how many networks were compiled, and which are refused."""
    if SAID in config.stash:
        terminalreporter.write_line(config.stash[SAID])
    for test, message in config.stash.get(REFUSED, {}).items():
        terminalreporter.write_line(f"NVIDIA's compiler refuses what {test} delivers: {message}", red=True)
