"""What is delivered: complete files that plain ONNX Runtime reads."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.emit.examples import ALL_NETWORKS, LEVELS, emitter, feeds, run_plainly, uniform
from tests.prepared import RUNTIME
from trt_mpq.emit.deliver import FLAVOUR_FILES, deliver
from trt_mpq.types import Precision


def test_a_delivery_is_every_flavour_the_plan_and_its_placement(tmp_path: Path) -> None:
    plan = uniform("mlp", Precision.INT8)
    delivery = deliver(emitter("mlp"), plan, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {name for name in FLAVOUR_FILES if not name.endswith(".data")}
    assert json.loads((tmp_path / "plan.json").read_text()) == {"fc1": "int8", "fc2": "int8", "fc3": "int8"}
    assert delivery.plan == plan.digest
    assert delivery.deployable
    assert delivery.typed_bytes == (tmp_path / "typed.onnx").stat().st_size
    assert delivery.weak_missing is None
    for name in ("reference", "typed", "weak"):
        onnx.checker.check_model(tmp_path / f"{name}.onnx", full_check=True)


def test_constraints_lie_beside_the_weak_file(tmp_path: Path) -> None:
    plan = uniform("mlp", Precision.INT8).replace({"fc1": Precision.FP32, "fc3": Precision.FP16})
    deliver(emitter("mlp"), plan, tmp_path)
    pinned = json.loads((tmp_path / "constraints.json").read_text())
    assert pinned == {"fc1": "fp32", "fc1.relu": "fp32", "fc3": "fp16"}
    assert pinned.keys() <= {node.name for node in onnx.load(tmp_path / "weak.onnx").graph.node}


@pytest.mark.parametrize(("precision", "deployable"), [(Precision.FP8, True), (Precision.INT4, False)])
def test_a_weak_file_of_an_earlier_plan_does_not_stay(precision: Precision, deployable: bool, tmp_path: Path) -> None:
    deliver(emitter("mlp"), uniform("mlp", Precision.INT8), tmp_path)
    delivery = deliver(emitter("mlp"), uniform("mlp", precision), tmp_path)
    assert not (tmp_path / "weak.onnx").exists()
    assert not (tmp_path / "constraints.json").exists()
    assert delivery.weak_missing is not None
    assert f"cannot hold {precision}" in delivery.weak_missing
    assert delivery.deployable is deployable


@pytest.mark.parametrize("name", ALL_NETWORKS)
@pytest.mark.parametrize("precision", [Precision.FP16, Precision.INT8, Precision.FP8, Precision.INT4])
def test_the_reference_file_gives_the_same_bits_at_every_level(name: str, precision: Precision, tmp_path: Path) -> None:
    """Users load it with default options; the search measured its score at another level, in memory."""
    plan = uniform(name, precision)
    measured = RUNTIME.load(emitter(name).reference(plan)).run(feeds(name))
    deliver(emitter(name), plan, tmp_path)
    data = (tmp_path / "reference.onnx").read_bytes()
    for level in LEVELS:
        for output, values in run_plainly(data, feeds(name), level).items():
            np.testing.assert_array_equal(values, measured[output])


@pytest.mark.parametrize("name", ALL_NETWORKS)
@pytest.mark.parametrize("precision", [Precision.INT8, Precision.FP8, Precision.INT4])
def test_files_mean_what_the_graphs_in_memory_mean(name: str, precision: Precision, tmp_path: Path) -> None:
    plan = uniform(name, precision)
    deliver(emitter(name), plan, tmp_path)
    expected = RUNTIME.load(emitter(name).strong(plan)).run(feeds(name))
    for output, values in RUNTIME.load(tmp_path / "typed.onnx").run(feeds(name)).items():
        np.testing.assert_array_equal(values, expected[output])
