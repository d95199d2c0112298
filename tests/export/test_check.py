"""The comparison refuses what differs, and only that."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trt_mpq.errors import ModelError
from trt_mpq.export import DynamicAxis, ExportedModel, Tolerance
from trt_mpq.export.check import _differences, _require_close, check_file, require_finite

AXES = (DynamicAxis("image", 0, "batch"),)
TIGHT = Tolerance(0.0, 1e-4)


def module(change: float = 0.0) -> Any:
    torch = pytest.importorskip("torch", reason="exporting needs torch")
    networks = importlib.import_module("tests.export.networks")
    from trt_mpq.runtime.torch_export import TorchModule

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = networks.ConvNet()
    with torch.no_grad():
        net.head.bias[3] += change
    return TorchModule(net, "net")


def feeds() -> dict[str, np.ndarray]:
    return {"image": np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype(np.float32)}


def test_the_same_network_passes(conv_net: ExportedModel) -> None:
    checks = check_file(Path(conv_net.path), module(), feeds(), AXES, TIGHT)
    assert [check.shapes["image"][0] for check in checks] == [2, 1, 3]
    assert all(check.max_abs_error["output"] < 1e-4 for check in checks)


def test_another_network_does_not(conv_net: ExportedModel) -> None:
    with pytest.raises(ModelError, match=r"output 'output' .* differs from torch by 0\.25 for image float32\[2, 3, 8"):
        check_file(Path(conv_net.path), module(change=0.25), feeds(), AXES, TIGHT)


def test_unless_the_difference_is_allowed(conv_net: ExportedModel) -> None:
    checks = check_file(Path(conv_net.path), module(change=0.25), feeds(), AXES, Tolerance(0.0, 0.26))
    assert checks[0].max_abs_error["output"] == pytest.approx(0.25, abs=1e-4)


def test_a_size_that_the_file_cannot_run(encoder: ExportedModel) -> None:
    with pytest.raises(ModelError, match="the exported file does not run for image"):
        check_file(Path(encoder.path), module(), feeds(), AXES, TIGHT)


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True, width=32), min_size=1), st.floats(-10, 10, width=32))
def test_the_difference_is_numpys(values: list[float], shift: float) -> None:
    ours = np.array(values, np.float32)
    assert not _differences(ours, ours).any()
    finite = np.where(np.isfinite(ours), ours, 0).astype(np.float64)
    np.testing.assert_array_equal(_differences(finite, finite + shift), np.abs(finite - (finite + shift)))


@pytest.mark.parametrize(("ours", "theirs"), [([np.nan], [0.0]), ([np.inf], [0.0]), ([np.inf], [-np.inf])])
def test_what_cannot_be_subtracted_differs_without_bound(ours: list[float], theirs: list[float]) -> None:
    assert (_differences(np.array(ours), np.array(theirs)) == np.inf).all()


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1), st.floats(-1, 1, width=32))
def test_what_numpy_calls_close_is_allowed(values: list[float], shift: float) -> None:
    ours = np.array(values, np.float64)
    allowed = Tolerance(1e-3, 1e-2)
    close = bool((_differences(ours, ours + shift) <= allowed.bound(ours)).all())
    assert close or not np.allclose(ours + shift, ours, rtol=allowed.rtol, atol=allowed.atol)
    alike = np.full(3, 1e3)  # of one magnitude: nothing more is allowed
    assert np.isclose(alike, alike + 1.1, allowed.rtol, allowed.atol).tolist() == [False] * 3
    assert (_differences(alike, alike + 1.1) > allowed.bound(alike)).all()


def test_what_is_allowed_near_zero_grows_with_the_output() -> None:
    """A logit of 0 among logits of 30, as decoders have them, is rounded by as much as they are."""
    logits = np.append(np.full(99, 30.0), [0.0, np.inf])
    allowed = Tolerance(1e-4, 1e-4).bound(logits)
    rms = np.sqrt(99 * 30.0**2 / 101)
    np.testing.assert_allclose(allowed[-2:], 1e-4 + 1e-4 * rms)
    np.testing.assert_allclose(allowed[:99], 1e-4 + 1e-4 * 30)
    assert Tolerance().bound(np.zeros((0, 3))).shape == (0, 3)


def test_the_message_says_what_is_allowed_where() -> None:
    expected, computed = np.array([100.0, 1.0]), np.array([100.009, 1.02])
    allowed = r"0\.0001 \* max\(\|torch\|, its RMS\) \+ 0\.0001 = 0\.00717 is allowed"
    said = rf"by 0\.02 for image float32\[1\] where torch says 1, and {allowed}"
    with pytest.raises(ModelError, match=said):
        _require_close("output", expected, computed, {"image": np.zeros(1, np.float32)}, Tolerance())
    with pytest.raises(ModelError, match="a size is traced as a constant"):
        _require_close("output", expected, computed[:1], {"image": np.zeros(1, np.float32)}, Tolerance())


def test_infinity_is_no_nan() -> None:
    require_finite({"scores": np.array([-np.inf, 0.0]), "classes": np.array([1])}, "net")
    with pytest.raises(ModelError, match="output 'scores' of net holds NaN"):
        require_finite({"scores": np.array([np.nan])}, "net")
