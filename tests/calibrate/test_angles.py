"""Sines and cosines of positions: networks in 16 bit against numpy in double precision, and what stays in FP32."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx.parser
import pytest

from tests.prepared import RUNTIME, Prepared, normal, prepare
from trt_mpq.calibrate.restrictions import restrict_to_ranges
from trt_mpq.emit import Network
from trt_mpq.types import Precision

FP32, FP16, BF16, *_ = Precision

FREQUENCIES = (10000 ** (-np.arange(8) / 8)).astype(np.float32)
ROTARY = "p = Cast <to: int = 1> (input) u = Unsqueeze(p, last)"
FORMS = {
    "a product": ("f = Mul(u, rates) t = Concat <axis: int = -1> (f, f) out = Cos(t)", {"p", "u", "f", "t", "out"}),
    "a matrix product": (
        "r = Unsqueeze(p, middle) q = MatMul(column, r) t = Transpose <perm: ints = [0, 2, 1]> (q) c = Sin(t) "
        "out = Concat <axis: int = -1> (c, c)",
        {"p", "r", "q", "t", "c"},
    ),
}
CONSTANTS = {
    "last": np.int64([2]), "middle": np.int64([1]), "rates": FREQUENCIES, "column": FREQUENCIES[:, None],
    "slow": FREQUENCIES / 1024, "w": normal(1, 16, seed=1),
}  # fmt: skip


def network(body: str) -> Prepared:
    """Positions [N, 64] to 16 numbers for each."""
    proto = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (int64[N, 64] input) => (float[N, 64, 16] out) '
        f"{{ {ROTARY} {body} }}"
    )
    for node in proto.graph.node:
        node.name = node.output[0]
    read = dict.fromkeys(name for node in proto.graph.node for name in node.input if name in CONSTANTS)
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(CONSTANTS[name], name) for name in read)
    return prepare(proto)


def positions() -> np.ndarray:
    return np.arange(8 * 64, dtype=np.int64).reshape(8, 64) * 5


def calibrated(prepared: Prepared, top: Precision) -> Network:
    ranges = prepared.calibrated(prepared.samples(positions()))
    grouping = replace(prepared.grouping, top=top)
    return Network(prepared.model, prepared.graph, restrict_to_ranges(grouping, ranges, prepared.graph.graph), ranges)


def kept_wide(found: Network, top: Precision) -> set[str]:
    grouping = found.grouping
    parts = (*((group.id, group) for group in grouping.groups), *((op.node, op) for op in grouping.loose))
    return {name for name, part in parts if not part.allows(top)}


def error(found: Network, top: Precision) -> float:
    """The largest of what the network in `top` writes, beside sines of angles in double precision."""
    plan = found.grouping.uniform(top)
    got = RUNTIME.load(found.emitter().reference(plan)).run({"input": positions()})["out"]
    angles = positions()[..., None] * FREQUENCIES.astype(np.float64)
    sine = np.sin if any(node.op_type == "Sin" for node in found.graph.graph) else np.cos
    return float(np.abs(got - np.concatenate([sine(angles)] * 2, axis=-1)).max())


@pytest.mark.parametrize("top", [FP16, BF16])
@pytest.mark.parametrize("form", FORMS)
def test_angles_of_positions_are_made_and_read_in_fp32(form: str, top: Precision) -> None:
    body, wide = FORMS[form]
    prepared = network(body)
    found = calibrated(prepared, top)
    assert wide <= kept_wide(found, top)
    assert error(found, top) < {FP16: 1e-3, BF16: 5e-3}[top]
    careless = replace(found, grouping=replace(prepared.grouping, top=top))
    assert error(careless, top) > 0.5


def test_the_reason_names_the_angle_and_the_error() -> None:
    found = calibrated(network(FORMS["a product"][0]), FP16)
    (reason,) = {op.excluded[FP16] for op in found.grouping.loose if op.node in FORMS["a product"][1]}
    assert reason == "angle t reaches 2555, which FP16 rounds by up to 1"


@pytest.mark.parametrize(
    "body",
    [
        "f = Mul(u, slow) t = Concat <axis: int = -1> (f, f) out = Cos(t)",
        "f = MatMul(u, w) out = Sin(f)",
    ],
    ids=["less than a turn", "a layer's angle"],
)
def test_other_angles_stay_in_16_bit(body: str) -> None:
    assert kept_wide(calibrated(network(body), FP16), FP16) == set()
