"""Every strongly typed network that runs of the suite deliver goes through NVIDIA's compiler, once all tests are done.

Networks that differ in numbers alone are one. The workers of pytest-xdist keep them in one folder, and the process that
started the session compiles them, many in one process: for every compute capability that has their formats, and, of
those without FP8 or FP4, for one, which has to refuse them. What a test marked `refused("words")` delivers has to be
refused in these words.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import onnx
import pytest

from bench.compiled import ADA, MISSING, Compiled, compiled
from trt_mpq.emit import Emitter
from trt_mpq.emit.deliver import Delivery, deliver
from trt_mpq.latency.target import RTX_SM
from trt_mpq.pipeline import delivery
from trt_mpq.types import Precision, PrecisionPlan

_WORKER = "delivered"
_TURING = 75
_LACKING = {Precision.FP8: 86, Precision.NVFP4: ADA}
"""The newest compute capability that lacks a format which has to be refused there, in words that name its type."""
_TYPES = {Precision.FP8: "fp8", Precision.NVFP4: "fp4"}


@dataclass(frozen=True)
class Origin:
    """What a network is of.

    Attributes:
        test: The test.
        refusal: The words in which it is to be refused, empty if it is to be taken.
        formats: What it computes in.
    """

    test: str
    refusal: str = ""
    formats: tuple[Precision, ...] = (Precision.FP32,)

    @property
    def capabilities(self) -> tuple[int, ...]:
        """Those that TensorRT for RTX serves and that have the formats; on Turing it has no products in FP32."""
        able = [sm for sm in RTX_SM if all(one.spec.first_sm <= sm for one in self.formats)]
        return tuple(sm for sm in able if sm > _TURING or Precision.FP32 not in self.formats)

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
            formats = tuple(sorted({precision for _, precision in plan.assignments}))
            keep(run / "typed.onnx", folder, replace(request.config.stash[RUNNING], formats=formats))
        return done

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(delivery, "deliver", delivered)
        yield


def keep(typed: Path, folder: Path, origin: Origin) -> None:
    """Copy a network into the folder, in place of one of its structure, with the test that it is of."""
    proto = onnx.load(typed)
    content = proto.SerializeToString()
    if _holds_bf16(proto):
        origin = replace(origin, formats=(*origin.formats, Precision.BF16))
    del proto.metadata_props[:]
    for tensor in proto.graph.initializer:
        tensor.ClearField("raw_data")
    name = hashlib.sha256(proto.SerializeToString(deterministic=True)).hexdigest()
    (folder / f"{name}.onnx").write_bytes(content)
    (folder / f"{name}.json").write_text(json.dumps(asdict(origin)), encoding="utf-8")


def _holds_bf16(proto: onnx.ModelProto) -> bool:
    """Whether what no group holds is in BF16, which a plan does not tell."""
    types = [tensor.data_type for tensor in proto.graph.initializer]
    types += [own.i for node in proto.graph.node if node.op_type == "Cast" for own in node.attribute]
    return onnx.TensorProto.BFLOAT16 in types


def faults(folder: Path) -> Iterator[tuple[str, str]]:
    """Every network in the folder of which the compiler makes something else than expected: its test, and what.

    Built for 4 rows, or 1 where a network takes only one at a time.
    """
    kept = {path.name: path.read_bytes() for path in sorted(folder.glob("*.onnx"))}
    origins = {name: _origin(folder / name) for name in kept}
    for capabilities in sorted({origin.capabilities for origin in origins.values()}):
        chosen = {name: kept[name] for name, origin in origins.items() if origin.capabilities == capabilities}
        done = compiled(chosen, capabilities)
        for name, made in done.items():
            again = made if made.built else compiled({name: kept[name]}, capabilities, _one_row(kept[name]))[name]
            yield origins[name].test, origins[name].fault(again)
    for precision, lacking in _LACKING.items():
        chosen = {name: kept[name] for name, origin in origins.items() if precision in origin.formats}
        for name, made in compiled(chosen, (lacking,)).items() if chosen else ():
            refused = replace(origins[name], refusal=_TYPES[precision])
            yield origins[name].test, refused.fault(made)


def _origin(network: Path) -> Origin:
    stored = json.loads(network.with_suffix(".json").read_text(encoding="utf-8"))
    return Origin(stored["test"], stored["refusal"], tuple(map(Precision, stored["formats"])))


def _one_row(content: bytes) -> dict[str, list[int]]:
    inputs = onnx.ModelProto.FromString(content).graph.input
    return {value.name: [dim.dim_value or 1 for dim in value.type.tensor_type.shape.dim] for value in inputs}


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Compile what was kept; what is not expected fails the session."""
    config = session.config
    if hasattr(config, "workerinput") or MISSING:
        return
    folder, started = config.stash[FOLDER], time.monotonic()
    count = len(list(folder.glob("*.onnx")))
    if not count:
        return
    config.stash[FAULTS] = {test: fault for test, fault in faults(folder) if fault}
    config.stash[SAID] = f"NVIDIA's compiler: {count} networks of runs, {time.monotonic() - started:.0f} s"
    if config.stash[FAULTS]:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Say how many networks were compiled, and which against what is expected."""
    if SAID in config.stash:
        terminalreporter.write_line(config.stash[SAID])
    for test, fault in config.stash.get(FAULTS, {}).items():
        terminalreporter.write_line(f"NVIDIA's compiler, of what {test} delivers: {fault}", red=True)
