from __future__ import annotations

import itertools
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from trt_mpq.errors import MetricError
from trt_mpq.evaluate.metrics import METRIC_NAMES, TaskMetric, correct_in_top_k, metric_from_name
from trt_mpq.evaluate.metrics.user import user_metric
from trt_mpq.types import Score, TensorSpec

LOGITS = (TensorSpec("logits", "float32", ("batch", 10)),)
MAPS = (TensorSpec("a", "float32", ("batch", 3, 4, 4)), TensorSpec("b", "float32", ("batch", 7)))
SPAN = (TensorSpec("start", "float32", ("batch", "seq")), TensorSpec("end", "float32", ("batch", "seq")))
FIDELITY = ("agreement", "cosine", "kl", "sqnr")

Outputs = dict[str, np.ndarray]


def logits(count: int = 20, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 10)).astype(np.float32)


def evaluate(
    metric: TaskMetric, outputs: Outputs, labels: np.ndarray | None = None, reference: Outputs | None = None
) -> Score:
    accumulator = metric.accumulator()
    accumulator.add(outputs, labels, reference)
    return accumulator.result()


def fidelity(name: str, output: np.ndarray, reference: np.ndarray) -> float:
    metric = metric_from_name(name, has_labels=False, outputs=(TensorSpec("y", "float32", ("n", *output.shape[1:])),))
    return evaluate(metric, {"y": output}, None, {"y": reference}).value


def top(name: str, output: np.ndarray, labels: np.ndarray) -> Score:
    return evaluate(metric_from_name(name, has_labels=True, outputs=LOGITS), {"logits": output}, labels)


@pytest.mark.parametrize(
    ("has_labels", "outputs", "expected"),
    [
        (True, LOGITS, "top1"),
        (False, LOGITS, "sqnr"),
        (True, MAPS, "sqnr"),
        (True, MAPS[:1], "sqnr"),
        (True, (TensorSpec("y", "float32", ("n", 1)),), "sqnr"),
    ],
)
def test_auto_depends_on_labels_and_outputs(has_labels: bool, outputs: tuple[TensorSpec, ...], expected: str) -> None:
    metric = metric_from_name("auto", has_labels=has_labels, outputs=outputs)
    assert metric.name == expected
    assert metric.needs_labels == (expected == "top1")
    assert metric.needs_reference == (expected == "sqnr")


def test_top1_and_its_standard_error() -> None:
    values = logits(50)
    labels = values.argmax(axis=1)
    labels[:10] = (labels[:10] + 1) % 10
    correct = np.r_[np.zeros(10), np.ones(40)]
    score = top("top1", values, labels)
    assert (score.value, score.samples) == (0.8, 50)
    assert score.stderr == pytest.approx(np.std(correct, ddof=1) / np.sqrt(50))


def test_one_sample_has_no_standard_error() -> None:
    assert top("top1", logits(1), np.array([0])).stderr is None


@given(
    scores=hnp.arrays(np.float32, st.tuples(st.integers(1, 6), st.integers(2, 9)), elements=st.integers(-2, 2)),
    k=st.integers(1, 6),
    data=st.data(),
)
def test_top_k_equals_a_stable_sort(scores: np.ndarray, k: int, data: st.DataObject) -> None:
    classes = scores.shape[1]
    labels = data.draw(hnp.arrays(np.int64, len(scores), elements=st.integers(0, classes - 1)))
    best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    np.testing.assert_array_equal(correct_in_top_k(scores, labels, k), (best == labels[:, None]).any(axis=1))
    if k == 1:
        np.testing.assert_array_equal(correct_in_top_k(scores, labels, k), scores.argmax(axis=1) == labels)


@pytest.mark.parametrize("name", ["top1", "top5"])
def test_logits_with_nan_are_wrong(name: str) -> None:
    values = np.zeros((2, 10), np.float32)
    values[0, 3] = np.nan
    values[1, 3] = np.inf
    assert top(name, values, np.array([3, 3])).value == 0.5
    assert top(name, np.full((2, 10), np.nan, np.float32), np.array([0, 0])).value == 0


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.arange(10) + 1, "labels run from 1 to 10 but the model has the classes 0 to 9"),
        (np.arange(10) - 1, "labels run from -1 to 8"),
        (np.zeros(10), "needs one integer class label per sample, found float64 of shape"),
        (np.zeros((10, 2), int), r"found int64 of shape \(10, 2\)"),
        (None, "found none"),
    ],
)
def test_labels_that_are_no_classes_are_refused(labels: np.ndarray, message: str) -> None:
    with pytest.raises(MetricError, match=message):
        top("top1", logits(10), labels)


@pytest.mark.parametrize(
    ("name", "has_labels", "outputs", "message"),
    [
        (
            "top-1",
            True,
            LOGITS,
            "unknown metric 'top-1': choose auto, top1, .*spearman, .*perplexity, .*agreement, .*sqnr or mod",
        ),
        ("top1", False, LOGITS, "metric top1 needs labels and the evaluation data has none"),
        ("top1", True, MAPS, r"scores one output and the model has 2 \(a, b\)"),
        ("top5", True, MAPS[:1], r"compares class scores \[N, C\] and output 'a' is \['batch', 3, 4, 4\]"),
        ("top5", True, (TensorSpec("y", "float32", ("n", 5)),), "top5 is always 1 with the 5 classes of 'y'"),
        ("kl", False, MAPS, "metric kl compares class scores"),
        ("agreement", False, MAPS, "metric agreement compares class scores"),
    ],
)
def test_metric_that_does_not_fit_is_refused(
    name: str, has_labels: bool, outputs: tuple[TensorSpec, ...], message: str
) -> None:
    with pytest.raises(MetricError, match=message):
        metric_from_name(name, has_labels=has_labels, outputs=outputs)


@pytest.mark.parametrize("name", FIDELITY)
@given(
    values=hnp.arrays(
        np.float32, st.tuples(st.integers(1, 5), st.integers(2, 6)), elements=st.floats(-(2.0**100), 2.0**100, width=32)
    )
)
def test_identical_outputs_score_exactly_one(name: str, values: np.ndarray) -> None:
    assert fidelity(name, values, values.copy()) == 1.0


@pytest.mark.parametrize("name", FIDELITY)
def test_fidelity_of_special_values(name: str) -> None:
    reference = np.array([[1.0, 2.0], [-np.inf, 2.0], [1.0, 2.0], [np.nan, 2.0], [1.0, 2.0]], np.float32)
    output = np.array([[np.nan, 2.0], [-np.inf, 2.0], [1.0, np.inf], [np.nan, 2.0], [1.0, 2.0]], np.float32)
    assert fidelity(name, output, reference) == pytest.approx(2 / 5)


def test_sqnr_is_one_minus_noise_over_signal() -> None:
    reference = np.array([[3.0, 4.0], [3.0, 4.0], [0.0, 0.0], [0.0, 0.0]])
    output = np.array([[3.0, 4.5], [30.0, 4.0], [0.0, 0.0], [0.0, 0.1]])
    assert fidelity("sqnr", output, reference) == pytest.approx(np.mean([1 - 0.25 / 25, 0, 1, 0]))


@pytest.mark.parametrize("decibel", [10, 20, 30])
def test_sqnr_in_decibel(decibel: float) -> None:
    reference = np.random.default_rng(0).normal(size=(1, 1000))
    noise = np.random.default_rng(1).normal(size=(1, 1000))
    noise *= np.linalg.norm(reference) / np.linalg.norm(noise) * 10 ** (-decibel / 20)
    assert fidelity("sqnr", reference + noise, reference) == pytest.approx(1 - 10 ** (-decibel / 10))


def test_cosine_of_known_angles() -> None:
    reference = np.array([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    output = np.array([[1.0, 1.0], [-2.0, 0.0], [0.0, 3.0], [0.0, 0.0]])
    assert fidelity("cosine", output, reference) == pytest.approx((np.sqrt(0.5) - 1 + 0 + 0) / 4)


def test_agreement_counts_equal_first_classes() -> None:
    reference = np.array([[1.0, 2.0], [1.0, 2.0], [2.0, 2.0]])
    output = np.array([[5.0, 9.0], [3.0, 2.0], [1.0, 0.0]])
    assert fidelity("agreement", output, reference) == pytest.approx(2 / 3)


def test_kl_equals_torch() -> None:
    torch = pytest.importorskip("torch")
    reference, output = logits(8, 1) * 5, logits(8, 2) * 5
    p, q = (torch.log_softmax(torch.tensor(v, dtype=torch.float64), dim=1) for v in (reference, output))
    divergence = torch.nn.functional.kl_div(q, p, log_target=True, reduction="none").sum(dim=1)
    assert fidelity("kl", output, reference) == pytest.approx(float(torch.exp(-divergence).mean()))
    assert fidelity("kl", np.array([[1e5, 0.0]]), np.array([[0.0, 1e5]])) == 0.0


@pytest.mark.parametrize("name", ["cosine", "sqnr"])
def test_several_outputs_are_averaged(name: str) -> None:
    rng = np.random.default_rng(0)
    reference = {spec.name: rng.normal(size=(6, *spec.shape[1:])) for spec in MAPS}
    output = {key: value + 0.3 * rng.normal(size=value.shape) for key, value in reference.items()}
    score = evaluate(metric_from_name(name, has_labels=False, outputs=MAPS), output, None, reference)
    assert score.value == pytest.approx(np.mean([fidelity(name, output[key], reference[key]) for key in reference]))
    assert score.samples == 6


def test_fidelity_needs_a_reference() -> None:
    metric = metric_from_name("sqnr", has_labels=False, outputs=LOGITS)
    assert metric.needs_reference
    with pytest.raises(MetricError, match="compares with FP32 outputs and was given none"):
        evaluate(metric, {"logits": logits()})


def test_an_output_of_another_size_than_that_of_fp32_is_no_match() -> None:
    metric = metric_from_name("sqnr", has_labels=False, outputs=LOGITS)
    assert evaluate(metric, {"logits": logits()[:, :5]}, None, {"logits": logits()}) == Score(0.0, 0.0, 20)


def test_a_users_metric_is_told_which_output_cannot_be_put_together() -> None:
    accumulator = user_metric("mine:count", lambda outputs, labels: 1.0).accumulator()
    for size in (2, 3):
        accumulator.add({"places": np.zeros((2, size)), "mean": np.float32(1)}, None, None)
    with pytest.raises(MetricError, match=r"size of 'places' depends on the data.*--outputs"):
        accumulator.result()


@pytest.mark.parametrize("name", ["top1", "top5", *FIDELITY])
@given(cuts=st.lists(st.integers(1, 19), max_size=6, unique=True))
def test_result_does_not_depend_on_the_batches(name: str, cuts: list[int]) -> None:
    outputs, reference, labels = logits(20, 1), logits(20, 2), np.arange(20) % 10
    metric = metric_from_name(name, has_labels=True, outputs=LOGITS)
    accumulator = metric.accumulator()
    bounds = [0, *sorted(cuts), 20]
    for start, end in itertools.pairwise(bounds):
        rows = slice(start, end)
        accumulator.add({"logits": outputs[rows]}, labels[rows], {"logits": reference[rows]})
    whole = evaluate(metric, {"logits": outputs}, labels, {"logits": reference})
    assert accumulator.result() == whole
    assert accumulator.numbers is not None
    assert accumulator.numbers.shape == (20,)


@pytest.mark.parametrize("name", METRIC_NAMES)
def test_no_samples_is_an_error(name: str, tmp_path: Path) -> None:
    pixels = (TensorSpec("y", "float32", ("N", 4, 6, 5)),)
    outputs = {"exact-match": SPAN, "f1": SPAN, "miou": pixels}.get(name, LOGITS)
    library = {"map50": "pycocotools", "map50-95": "pycocotools", "wer": "jiwer", "cer": "jiwer"}.get(name)
    decode = None
    if library:
        pytest.importorskip(library)
        (tmp_path / "tokens.txt").write_text("a")
        decode = "yolov8" if library == "pycocotools" else f"ctc:{tmp_path / 'tokens.txt'}"
    with pytest.raises(MetricError, match="has no sample to score"):
        metric_from_name(name, has_labels=True, outputs=outputs, decode=decode).accumulator().result()


@pytest.mark.parametrize("name", ["top1", "accuracy", "spearman", "pearson", "exact-match", "f1", "perplexity"])
def test_metrics_that_need_labels_say_so(name: str) -> None:
    with pytest.raises(MetricError, match=f"metric {name} needs labels and the evaluation data has none"):
        metric_from_name(name, has_labels=False, outputs=LOGITS)


@pytest.mark.parametrize("name", ["top1", "accuracy", "f1", "perplexity", "agreement", "kl"])
def test_metrics_of_single_rows_refuse_pairs(name: str) -> None:
    with pytest.raises(MetricError, match=f"metric {name} scores single rows and a sample of the evaluation data is 2"):
        metric_from_name(name, has_labels=True, outputs=LOGITS, rows_per_sample=2)


@pytest.mark.parametrize(
    ("has_labels", "outputs", "rows", "expected"),
    [(True, LOGITS, 2, "spearman"), (False, LOGITS, 2, "sqnr"), (True, MAPS, 2, "sqnr"), (True, LOGITS, 3, "sqnr")],
)
def test_auto_for_samples_of_several_rows(
    has_labels: bool, outputs: tuple[TensorSpec, ...], rows: int, expected: str
) -> None:
    assert metric_from_name("auto", has_labels=has_labels, outputs=outputs, rows_per_sample=rows).name == expected


@pytest.mark.parametrize(
    ("name", "outputs", "expected"),
    [
        ("top1", LOGITS, True),
        ("accuracy", LOGITS, True),
        ("perplexity", LOGITS, True),
        ("kl", LOGITS, True),
        ("agreement", LOGITS * 2, False),
        ("sqnr", LOGITS, False),
        ("spearman", LOGITS, False),
        ("f1", LOGITS * 2, False),
    ],
)
def test_which_metrics_describe_a_classification(name: str, outputs: tuple[TensorSpec, ...], expected: bool) -> None:
    assert metric_from_name(name, has_labels=True, outputs=outputs).of_classes is expected


def test_every_pass_has_its_own_accumulator() -> None:
    metric = metric_from_name("top1", has_labels=True, outputs=LOGITS)
    values = logits()
    assert evaluate(metric, {"logits": values}, values.argmax(axis=1)).value == 1.0
    assert evaluate(metric, {"logits": values}, values.argmin(axis=1)).value == 0.0


USER_MODULE = """
import numpy as np

number = 3

def per_sample(outputs, labels):
    from my_helper import right
    return right(outputs["logits"], labels)

def one_number(outputs, labels):
    assert labels is None
    return float(outputs["logits"].max())

def raises(outputs, labels):
    raise KeyError("score")

def returns_none(outputs, labels):
    return None

def returns_text(outputs, labels):
    return "good"

def returns_short(outputs, labels):
    return np.ones(3)

def returns_ragged(outputs, labels):
    return [[1], [1, 2]]

def returns_complex(outputs, labels):
    return 1j

def returns_nan(outputs, labels):
    return float("nan")

def returns_inf_in_one(outputs, labels):
    scores = np.ones(len(outputs["logits"]))
    scores[3] = np.inf
    return scores
"""


@pytest.fixture
def user_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"user_metric_of_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(USER_MODULE)
    (tmp_path / "my_helper.py").write_text("def right(logits, labels):\n    return logits.argmax(axis=1) == labels\n")
    monkeypatch.chdir(tmp_path)
    return name


def user_score(name: str, labels: np.ndarray | None = None) -> Score:
    accumulator = metric_from_name(name, has_labels=labels is not None, outputs=LOGITS).accumulator()
    values = logits()
    for rows in (slice(0, 7), slice(7, 20)):
        accumulator.add({"logits": values[rows]}, None if labels is None else labels[rows], None)
    assert accumulator.numbers is None
    return accumulator.result()


def test_user_metric_sees_all_samples_and_scores_each(user_module: str) -> None:
    path = list(sys.path)
    labels = logits().argmax(axis=1)
    labels[:5] += 1
    score = user_score(f"{user_module}:per_sample", labels)
    correct = np.r_[np.zeros(5), np.ones(15)]
    assert (score.value, score.samples) == (0.75, 20)
    assert score.stderr == pytest.approx(np.std(correct, ddof=1) / np.sqrt(20))
    assert sys.path == path


def test_user_metric_may_return_one_number(user_module: str) -> None:
    assert user_score(f"{user_module}:one_number") == Score(pytest.approx(logits().max()), None, 20)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("raises", "raised KeyError: 'score'"),
        ("returns_none", "returned None: it must return one number or 20, one per sample"),
        ("returns_text", "returned 'good': it must return one number or 20"),
        ("returns_short", r"returned an array of shape \(3,\): it must return one number or 20"),
        ("returns_ragged", "returned a list that is no array"),
        ("returns_complex", "returned 1j: it must return"),
        ("returns_nan", "returned NaN or inf"),
        ("returns_inf_in_one", "returned NaN or inf"),
    ],
)
def test_user_metric_that_returns_no_score_is_refused(user_module: str, function: str, message: str) -> None:
    with pytest.raises(MetricError, match=f"metric {user_module}:{function} {message}") as error:
        user_score(f"{user_module}:{function}")
    assert "\n" not in str(error.value)
    assert (error.value.__cause__ is None) == (function not in ("raises", "returns_ragged"))


@pytest.mark.parametrize(
    ("attribute", "message"),
    [("absent", "cannot be imported .it raised AttributeError"), ("number", "is of type int: it must be a f")],
)
def test_user_metric_that_is_no_function_is_refused(user_module: str, attribute: str, message: str) -> None:
    with pytest.raises(MetricError, match=message):
        metric_from_name(f"{user_module}:{attribute}", has_labels=False, outputs=LOGITS)


@pytest.mark.parametrize("source", ["import no_such_package", "def broken(:", "1 / 0", None])
def test_user_module_that_cannot_be_imported_is_refused(
    source: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    name = f"module_of_{tmp_path.name}"
    if source is not None:
        (tmp_path / f"{name}.py").write_text(source)
    with pytest.raises(MetricError, match=f"metric {name}:score cannot be imported") as error:
        metric_from_name(f"{name}:score", has_labels=False, outputs=LOGITS)
    assert error.value.__cause__ is not None
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", [":score", "module:", "a:b:c"])
def test_half_a_name_is_refused(name: str) -> None:
    with pytest.raises(MetricError, match="cannot be imported"):
        metric_from_name(name, has_labels=False, outputs=LOGITS)
