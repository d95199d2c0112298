"""Every strongly typed network that runs of the suite deliver goes through NVIDIA's compiler, once all tests are done.

Networks that differ in numbers alone are one. The workers of pytest-xdist keep them in one folder, and the process that
started the session compiles them, many in one process. What a test marked `refused("words")` delivers has to be refused
in these words.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import onnx
import pytest

from bench.compiled import ADA, MISSING, Compiled, compiled
from trt_mpq.emit import Emitter
from trt_mpq.emit.deliver import Delivery, deliver
from trt_mpq.pipeline import delivery
from trt_mpq.types import PrecisionPlan

_WORKER = "delivered"
_BLACKWELL = 120


@dataclass(frozen=True)
class Origin:
    """The test that a network is of, and the words in which it is to be refused, empty if it is to be taken."""

    test: str
    refusal: str = ""

    def fault(self, made: Compiled) -> str:
        """What is wrong about what the compiler made of it, empty if nothing is."""
        if made.built:
            return f"it is taken, and should be refused: {self.refusal}" if self.refusal else ""
        expected = bool(self.refusal) and self.refusal in made.message
        return "" if expected else f"it is refused by the {made.stage}: {made.message}"


FOLDER = pytest.StashKey[Path]()
RUNNING = pytest.StashKey[Origin]()
FAULTS = pytest.StashKey[dict[str, str]]()
SAID = pytest.StashKey[str]()


def pytest_configure(config: pytest.Config) -> None:
    """Choose the folder, one for all workers."""
    config.addinivalue_line(
        "markers", "refused(words): NVIDIA's compiler has to refuse in these words what is delivered"
    )
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


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Remember which test delivers what comes now."""
    marker = item.get_closest_marker("refused")
    item.config.stash[RUNNING] = Origin(item.nodeid, marker.args[0] if marker else "")


@pytest.fixture(scope="session", autouse=True)
def _kept_deliveries(request: pytest.FixtureRequest) -> Iterator[None]:
    folder = request.config.stash[FOLDER]

    def delivered(emitter: Emitter, plan: PrecisionPlan, run: Path) -> Delivery:
        done = deliver(emitter, plan, run)
        if done.deployable:
            keep(run / "typed.onnx", folder, request.config.stash[RUNNING])
        return done

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(delivery, "deliver", delivered)
        yield


def keep(typed: Path, folder: Path, origin: Origin) -> None:
    """Copy a network into the folder, in place of one of its structure, with the test that it is of."""
    proto = onnx.load(typed)
    content = proto.SerializeToString()
    del proto.metadata_props[:]
    for tensor in proto.graph.initializer:
        tensor.ClearField("raw_data")
    name = hashlib.sha256(proto.SerializeToString(deterministic=True)).hexdigest()
    (folder / f"{name}.onnx").write_bytes(content)
    (folder / f"{name}.json").write_text(json.dumps(asdict(origin)), encoding="utf-8")


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
    """Compile what was kept; what is not expected fails the session."""
    config = session.config
    if hasattr(config, "workerinput") or MISSING:
        return
    folder, started = config.stash[FOLDER], time.monotonic()
    done = outcomes(folder)
    if not done:
        return
    origins = {
        name: Origin(**json.loads((folder / name).with_suffix(".json").read_text(encoding="utf-8"))) for name in done
    }
    faults = {origin.test: origin.fault(done[name]) for name, origin in origins.items()}
    config.stash[FAULTS] = {test: fault for test, fault in faults.items() if fault}
    config.stash[SAID] = f"NVIDIA's compiler: {len(done)} networks of runs, {time.monotonic() - started:.0f} s"
    if config.stash[FAULTS]:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Say how many networks were compiled, and which against what is expected."""
    if SAID in config.stash:
        terminalreporter.write_line(config.stash[SAID])
    for test, fault in config.stash.get(FAULTS, {}).items():
        terminalreporter.write_line(f"NVIDIA's compiler, of what {test} delivers: {fault}", red=True)
