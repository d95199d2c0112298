"""Which axis counts rows, seen from names, sizes and recurrences, or said."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from onnx import numpy_helper, parser

from trt_mpq.errors import SettingsError
from trt_mpq.graph.batch import batch_axes

RECURRENT = """g (float[{x}] x, float[{h}] h) => (float[s, 1, n, 8] y, float[1, n, 8] z) {{
    first = Slice (h, zero, one)  y, z = GRU <hidden_size = 8> (x, w, r, , , first) }}"""

TURN = "v = Transpose <perm = [1, 0, 2]> (x)"


def axes(text: str, **asked: int | None) -> dict[str, int | None]:
    graph = parser.parse_model(f'<ir_version: 8, opset_import: ["":17]> {text}')
    for name, shape in {"w": (1, 24, 6), "r": (1, 24, 8), "p": (6, 6)}.items():
        graph.graph.initializer.append(numpy_helper.from_array(np.zeros(shape, np.float32), name))
    for name, value in {"zero": 0, "one": 1, "six": 6}.items():
        graph.graph.initializer.append(numpy_helper.from_array(np.int64([value]), name))
    graph.graph.initializer.append(numpy_helper.from_array(np.int64([-1, 6]), "flat"))
    return batch_axes(ir.from_proto(graph), asked)


@pytest.mark.parametrize(
    ("x", "state", "expected"),
    [
        ("batch, 6", "2, batch, 8", {"x": 0, "state": 1}),
        ("batch, 6", "batch, 2, 8", {"x": 0, "state": 0}),
        ("1, 6", "2, 1, 8", {"x": 0, "state": 1}),
        ("4, 6", "4, 8", {"x": 0, "state": 0}),
        ("batch, 6", "other, 8", {"x": 0, "state": 0}),
        ("batch, 6", "3, 8", {"x": 0, "state": None}),
        ("batch, 6", "", {"x": 0, "state": None}),
    ],
)
def test_names_and_sizes_of_axes_tell(x: str, state: str, expected: dict[str, int | None]) -> None:
    scalar = f"float[{state}]" if state else "float"
    found = axes(f"g (float[{x}] x, {scalar} state) => (float[a, 6] y) {{ y = Relu (x) }}")
    assert found == {**expected, "y": 0}


def test_what_a_recurrence_begins_with_has_its_rows_on_the_second_axis() -> None:
    text = RECURRENT.format(x="s, n, 6", h="2, 1, 8")
    assert axes(text) == {"x": 1, "h": 1, "y": 2, "z": 1}
    assert axes(text, x=1, h=None, y=0) == {"x": 1, "h": None, "y": 0, "z": 1}


SEQUENCE = "float[{x}] x, float[{h}] h) => (float[5, 1, n, 8] y) {{ {before} y = GRU <hidden_size = 8> (v, w, r, , , h)"


@pytest.mark.parametrize(
    ("x", "state"), [("5, n, 6", "1, n, 8"), ("5, n, 6", "1, m, 8"), ("s, n, 6", "1, n, 8"), ("s, n, 6", "1, 1, 8")]
)
def test_a_projection_before_a_recurrence_hides_no_rows(x: str, state: str) -> None:
    """Sequences come with their steps first, as torch's LSTM has them, whatever else is named."""
    text = SEQUENCE.format(x=x, h=state, before="a = MatMul (x, p) b = Add (a, a) v = Tanh (b)")
    assert axes(f"g ({text} }}") == {"x": 1, "h": 1, "y": 2}
    turned = SEQUENCE.format(x="n, 5, 6", h=state, before=TURN)
    assert axes(f"g ({turned} }}") == {"x": 0, "h": 1, "y": 2}


def test_an_embedding_before_a_recurrence_hides_no_rows() -> None:
    body = "e = Gather (p, ids) y = GRU <hidden_size = 8> (e, w, r)"
    assert axes(f"g (int64[5, n] ids) => (float[5, 1, n, 8] y) {{ {body} }}") == {"ids": 1, "y": 2}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("float[24, batch, 6] x", {"x": 1}),
        ("float[24, batch_size, 6] x, float[batch_size, 6] u", {"x": 1, "u": 0}),
        ("float[batch, seq, 6] x", {"x": 0}),
        ("float[t, 6] x, float[batch, 6] u", {"x": 0, "u": 0}),
        ("float[24, n, 6] x", {"x": 0}),
    ],
)
def test_a_name_that_says_batch_is_believed(text: str, expected: dict[str, int]) -> None:
    """Sequence-first transformers read no recurrence that could tell."""
    found = axes(f"g ({text}) => (float[a, b, 6] y) {{ y = Relu (x) }}")
    assert {name: found[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("body", "shape", "axis"),
    [
        ("y = Transpose <perm = [1, 0, 2]> (x)", "t, n, 6", 1),
        (f"{TURN} a, y = GRU <hidden_size = 8> (v, w, r)", "p, q, 8", 1),
        (f"{TURN} y, a = GRU <hidden_size = 8> (v, w, r)", "p, o, q, 8", 2),
        ("s = Shape (x) t = Gather (s, one) m = Gather (s, zero) c = Concat <axis = 0> (t, m, six)  y = Reshape (x, c)",
         "p, q, 6", 1),
        ("y = Relu (x)", "n, t, 6", 0),
        ("y = Relu (x)", "p, q, 6", 0),
        ("y = Reshape (x, flat)", "p, 6", 0),
        ("y = ReduceMax <axes = [0, 1]> (x)", "1, 1, 6", 0),
    ],
)  # fmt: skip
def test_the_axis_of_an_output_that_grows_with_the_batch_is_seen(body: str, shape: str, axis: int) -> None:
    """Where the file names its axes by what made them, as exporters do."""
    found = axes(f"g (float[n, 5, 6] x) => (float[{shape}] y) {{ {body} }}")
    assert found == {"x": 0, "y": axis}


def test_what_is_said_of_no_input_or_axis_is_refused() -> None:
    text = "g (float[n, 6] x) => (float[n, 6] y) { y = Relu (x) }"
    with pytest.raises(SettingsError, match="no input or output 'state', its inputs are x and its outputs y"):
        axes(text, state=1)
    with pytest.raises(SettingsError, match="output 'y' has 2 axes"):
        axes(text, y=2)
    with pytest.raises(SettingsError, match="output 'y' has rows, none is for inputs"):
        axes(text, y=None)
    with pytest.raises(SettingsError, match="input 'x' has 2 axes"):
        axes(text, x=2)
