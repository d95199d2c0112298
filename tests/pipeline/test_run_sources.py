"""What follows from settings, data and model before any stage runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from trt_mpq.artifacts.files import to_stored_json
from trt_mpq.artifacts.folder import claim
from trt_mpq.artifacts.store import Store
from trt_mpq.errors import DataError
from trt_mpq.evaluate.outputs import CountedOutputs
from trt_mpq.pipeline.report import environment
from trt_mpq.pipeline.sources import BATCH, CALIBRATION, DATA_NOTES, EVALUATION, SAMPLE_SHAPES
from trt_mpq.pipeline.task import LOSS, METRIC
from trt_mpq.settings import Settings
from trt_mpq.types import Model, TensorSpec
from trt_mpq.types.observer import SilentObserver


def opened(folder: Path, model: Model, **settings: object) -> Store:
    """The values of a run whose prepared model is `model`."""
    claim(folder, known=True)
    (folder / "model.json").write_text(to_stored_json(model, Model))
    (folder / "outputs.json").write_text(to_stored_json(CountedOutputs(model.outputs, {}), CountedOutputs))
    given = {"model": "inspect", "outputs": "search"}
    return Store(folder, Settings(model=Path("m.onnx"), **settings), SilentObserver(), given=given)


def data(tmp_path: Path, shape: tuple[int | str, ...], values: np.ndarray | None = None, **settings: object) -> Store:
    model = Model(
        "model.onnx",
        "a",
        "b",
        (TensorSpec("x", "float32", shape),),
        (TensorSpec("y", "float32", ("batch", 10)),),
        17,
        1,
        1,
    )
    if values is not None:
        np.savez(tmp_path / "calib.npz", x=values.astype(np.float32))
        settings["calib"] = str(tmp_path / "calib.npz")
    return opened(tmp_path, model, **settings)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [(("batch", 3, 8), (1, 3, 8)), ((4, 3, 8), (4, 3, 8)), (("batch", "seq"), (1, 7)), ((4, "seq"), (4, 7))],
)
def test_the_shape_of_a_sample_comes_from_the_model_and_then_from_the_data(tmp_path, shape, expected):
    values = np.zeros((6, *expected[1:]))
    assert data(tmp_path, shape, values)[SAMPLE_SHAPES] == {"x": expected}


def test_a_static_model_needs_no_data_for_its_shapes(tmp_path):
    assert data(tmp_path, ("batch", 3))[SAMPLE_SHAPES] == {"x": (1, 3)}
    with pytest.raises(DataError, match="no calibration data"):
        data(tmp_path, ("batch", "seq"))[SAMPLE_SHAPES]


def test_a_fixed_batch_overrules_the_setting(tmp_path):
    assert data(tmp_path, ("batch", 3), batch=16)[BATCH] == 16
    assert data(tmp_path, (4, 3), batch=16)[BATCH] == 4


def test_samples_are_limited_as_asked(tmp_path):
    found = data(tmp_path, ("batch", 3), np.zeros((9, 3)), calib_samples=5, eval_samples=3)
    assert found[CALIBRATION].count == 5
    assert found[EVALUATION].count == 5, "without evaluation data, the calibration data as it is used"
    assert found[DATA_NOTES]


TOKENS = (TensorSpec("ids", "int64", ("batch", "seq")), TensorSpec("mask", "int64", ("batch", "seq")))
PAIRS = """
root = "."
trim = "mask"
[splits.pairs]
arrays = "pairs.npz"
rows_per_sample = 2
labels = "score"
[inputs.ids]
[inputs.mask]
"""


def pair_data(tmp_path: Path, positions: int | str = "seq", **settings: object) -> Store:
    inputs = tuple(replace(spec, shape=("batch", positions)) for spec in TOKENS)
    model = Model("model.onnx", "a", "b", inputs, (TensorSpec("y", "float32", ("batch", 10)),), 17, 1, 1)
    mask = (np.arange(6) < np.arange(1, 7)[:, None]).astype(np.uint8).reshape(3, 2, 6)
    np.savez(tmp_path / "pairs.npz", ids=mask, mask=mask, score=np.arange(3.0))
    (tmp_path / "pairs.toml").write_text(PAIRS, encoding="utf-8")
    return opened(tmp_path, model, calib=str(tmp_path / "pairs.toml"), **settings)


def test_pairs_calibrate_as_single_rows_and_evaluate_as_pairs(tmp_path):
    found = pair_data(tmp_path, calib_samples=2)
    assert (found[CALIBRATION].count, found[CALIBRATION].rows, found[CALIBRATION].has_labels) == (2, 1, False)
    assert (found[EVALUATION].count, found[EVALUATION].rows, found[EVALUATION].has_labels) == (2, 2, True)
    assert found[SAMPLE_SHAPES] == {"ids": (1, 6), "mask": (1, 6)}
    assert found[METRIC].name == "spearman"
    assert found[LOSS].name == "mse"


def test_a_batch_holds_at_least_one_sample(tmp_path):
    with pytest.raises(DataError, match="a sample is 2 rows and a batch 1: pass --batch 2 or more"):
        pair_data(tmp_path, batch=1)[EVALUATION]


def test_what_the_data_has_to_say_is_said_once(tmp_path):
    assert len(pair_data(tmp_path)[DATA_NOTES]) == 1
    ignored, flattering = pair_data(tmp_path, positions=6)[DATA_NOTES]
    assert "`trim` is ignored" in ignored
    assert "no --eval was given" in flattering


@pytest.mark.parametrize(
    ("metric", "labels", "expected"),
    [
        ("auto", True, "cross-entropy"),
        ("accuracy", True, "cross-entropy"),
        ("perplexity", True, "cross-entropy"),
        ("kl", False, "kl"),
        ("auto", False, "mse"),
        ("sqnr", True, "mse"),
        ("spearman", True, "mse"),
    ],
)
def test_the_metric_decides_what_sensitivity_measures(tmp_path, metric, labels, expected):
    arrays = {"x": np.zeros((4, 3), np.float32)} | ({"labels": np.arange(4)} if labels else {})
    np.savez(tmp_path / "data.npz", **arrays)
    found = data(tmp_path, ("batch", 3), calib=str(tmp_path / "data.npz"), metric=metric)
    assert found[LOSS].name == expected


def test_a_metric_of_ours_is_known_by_its_name(tmp_path):
    found = data(tmp_path, ("batch", 3), np.zeros((9, 3)), metric="cosine")
    assert found.digest(METRIC) == "cosine"


def test_a_users_metric_is_known_by_its_source(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "metric_under_test.py").write_text("def f(outputs, labels):\n    return 1.0\n", encoding="utf-8")
    found = data(tmp_path, ("batch", 3), np.zeros((9, 3)), metric="metric_under_test:f")
    before = found.digest(METRIC)
    assert before.startswith("metric_under_test:f ")
    (tmp_path / "metric_under_test.py").write_text("def f(outputs, labels):\n    return 2.0\n", encoding="utf-8")
    assert data(tmp_path, ("batch", 3), np.zeros((9, 3)), metric="metric_under_test:f").digest(METRIC) != before


def test_the_environment_names_the_versions_that_matter():
    assert set(environment()) >= {"trt-mpq", "python", "machine", "onnx", "onnxruntime", "numpy", "polygraphy"}
