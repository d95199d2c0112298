"""Boxes, pixels' classes and texts, each against what can be reckoned by hand or otherwise."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trt_mpq.errors import MetricError, MissingDependencyError
from trt_mpq.evaluate.metrics import metric_from_name
from trt_mpq.evaluate.metrics.boxes import _overlaps, _suppressed, decoder_of
from trt_mpq.runtime.base import Arrays
from trt_mpq.types import Score, TensorSpec

HEADS = (TensorSpec("heads", "float32", ("N", 4 + 3, 5)),)
PAIR = (TensorSpec("boxes", "float32", ("N", 4, 4)), TensorSpec("scores", "float32", ("N", 4, 4)))


def scored(name: str, outputs: tuple[TensorSpec, ...], batches: list[tuple[Arrays, np.ndarray]], decode: str) -> Score:
    metric = metric_from_name(name, has_labels=True, outputs=outputs, decode=decode)
    accumulator = metric.accumulator()
    for values, labels in batches:
        accumulator.add(values, labels, None)
    return accumulator.result()


def heads(*anchors: tuple[float, ...]) -> np.ndarray:
    """One image of [7, 5]: centre, size and three scores of up to five anchors."""
    values = np.zeros((5, 7), np.float32)
    values[: len(anchors)] = np.reshape(anchors, (-1, 7))
    return values.T[None]


TRUTH = np.array([[[0, 0, 0, 10, 10], [0, 20, 20, 30, 30], [-1, 0, 0, 0, 0]]], np.float32)


def test_boxes_that_are_right_score_one() -> None:
    pytest.importorskip("pycocotools")
    found = heads((5, 5, 10, 10, 0.9, 0, 0), (25, 25, 10, 10, 0.8, 0, 0))
    for name in ("map50", "map50-95"):
        assert scored(name, HEADS, [({"heads": found}, TRUTH)] * 2, "yolov8") == Score(1.0, None, 2)


def test_half_of_the_boxes_score_half() -> None:
    """One of two found before a false one: precision 1 up to recall 0.5, at 51 of COCO's 101 recalls."""
    pytest.importorskip("pycocotools")
    found = heads((5, 5, 10, 10, 0.9, 0, 0), (60, 60, 10, 10, 0.8, 0, 0))
    assert scored("map50", HEADS, [({"heads": found}, TRUTH)], "yolov8").value == pytest.approx(51 / 101)


def test_a_box_that_is_off_counts_up_to_its_overlap() -> None:
    """Shifted by 2 of 10, it overlaps by 80 / 120: that is a match for 0.5, 0.55, 0.6 and 0.65."""
    pytest.importorskip("pycocotools")
    truth = TRUTH[:, :1]
    found = heads((7, 5, 10, 10, 0.9, 0, 0))
    assert scored("map50", HEADS, [({"heads": found}, truth)], "yolov8").value == pytest.approx(1.0)
    assert scored("map50-95", HEADS, [({"heads": found}, truth)], "yolov8").value == pytest.approx(0.4)


def test_another_class_is_no_match_and_no_boxes_are_zero() -> None:
    pytest.importorskip("pycocotools")
    other = heads((5, 5, 10, 10, 0, 0.9, 0))
    assert scored("map50", HEADS, [({"heads": other}, TRUTH)], "yolov8").value == 0
    assert scored("map50", HEADS, [({"heads": heads()}, TRUTH)], "yolov8").value == 0


@given(st.lists(st.tuples(*[st.floats(0, 20)] * 4, st.floats(0.01, 1)), min_size=1, max_size=12))
def test_suppression_keeps_the_best_of_what_overlaps(rows: list[tuple[float, ...]]) -> None:
    """Against the definition, box by box."""
    values = np.array(rows)
    boxes = np.concatenate([values[:, :2], values[:, :2] + values[:, 2:4] + 1], axis=1)
    kept = _suppressed(boxes, values[:, 4:], first=7)
    assert set(kept[:, 0]) == {7}
    naive: list[int] = []
    for number in np.argsort(-values[:, 4], kind="stable"):
        if all(_overlaps(boxes[other], boxes[number][None])[0] <= 0.7 for other in naive):
            naive.append(int(number))
    np.testing.assert_allclose(kept[:, 1:5], boxes[naive])


def test_detr_takes_the_best_class_but_nothing() -> None:
    logits = np.full((1, 4, 4), -9.0)
    logits[0, 0, 2] = logits[0, 1, 3] = 9.0
    boxes = np.tile([0.5, 0.5, 0.2, 0.4], (1, 4, 1))
    [found] = decoder_of("detr")({"scores": logits, "boxes": boxes})
    np.testing.assert_allclose(found[0], [2, 0.4, 0.3, 0.6, 0.7, 1.0], atol=1e-6)
    assert found[0, 5] > 0.99 > found[1:, 5].max()


def test_ssd_leaves_the_background_out() -> None:
    scores = np.zeros((1, 4, 4))
    scores[0, :, 0] = 0.9
    scores[0, 2, 3] = 0.8
    boxes = np.tile([0.1, 0.2, 0.3, 0.4], (1, 4, 1))
    [found] = decoder_of("ssd")({"boxes": boxes, "scores": scores})
    np.testing.assert_allclose(found, [[3, 0.1, 0.2, 0.3, 0.4, 0.8]])


def test_ones_own_decoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pycocotools")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "boxes_of_mine.py").write_text(
        "BOXES = [[0, 0, 0, 10, 10, 0.9], [0, 20, 20, 30, 30, 0.5]]\n"
        "def right(outputs):\n    return [BOXES for _ in outputs['heads']]\n"
        "def short(outputs):\n    return []\n"
        "def broken(outputs):\n    raise ValueError('no boxes')\n"
    )
    batch = [({"heads": heads()}, TRUTH)]
    assert scored("map50", HEADS, batch, "boxes_of_mine:right").value == pytest.approx(1.0)
    with pytest.raises(MetricError, match="returned boxes of 0 images and was given 1"):
        scored("map50", HEADS, batch, "boxes_of_mine:short")
    with pytest.raises(MetricError, match="raised ValueError: no boxes"):
        scored("map50", HEADS, batch, "boxes_of_mine:broken")


@pytest.mark.parametrize(
    ("decode", "said"),
    [(None, "nothing was named: pass --decode with one of yolov8, detr, ssd"), ("yolo", "'yolo' is none")],
)
def test_boxes_need_a_convention(decode: str | None, said: str) -> None:
    pytest.importorskip("pycocotools")
    with pytest.raises(MetricError, match=said):
        metric_from_name("map50", has_labels=True, outputs=HEADS, decode=decode)


def test_what_does_not_fit_is_said() -> None:
    pytest.importorskip("pycocotools")
    with pytest.raises(MetricError, match=r"reads \[N, 4 \+ classes, anchors\] and the output is \[1, 4\]"):
        scored("map50", HEADS, [({"heads": np.zeros((1, 4))}, TRUTH)], "yolov8")
    with pytest.raises(MetricError, match="reads 2 outputs and there are 1"):
        scored("map50", HEADS, [({"heads": heads()}, TRUTH)], "detr")
    with pytest.raises(MetricError, match=r"needs labels \[n, boxes, 5\]"):
        scored("map50", HEADS, [({"heads": heads()}, np.zeros(1, np.int64))], "yolov8")


def test_without_the_library_the_sentence_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pycocotools.coco", None)
    with pytest.raises(MissingDependencyError, match="map50 and map50-95 needs it: run `pip install"):
        metric_from_name("map50", has_labels=True, outputs=HEADS, decode="yolov8")


SCORES = (TensorSpec("y", "float32", ("N", 4, 6, 5)),)


@given(st.integers(0, 1000), st.sampled_from([1, 2]))
def test_miou_is_the_mean_of_each_classs(seed: int, factor: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.standard_normal((3, 4, 6, 5))
    labels = rng.integers(0, 3, (3, 6 * factor, 5 * factor))
    labels[rng.random(labels.shape) < 0.1] = 255
    metric = metric_from_name("miou", has_labels=True, outputs=SCORES)
    accumulator = metric.accumulator()
    for row in range(3):
        accumulator.add({"y": scores[row : row + 1]}, labels[row : row + 1], None)
    guesses = np.kron(scores.argmax(1), np.ones((1, factor, factor), int))
    known = labels != 255
    expected = []
    for number in range(4):
        truth, guess = (labels == number) & known, (guesses == number) & known
        if (truth | guess).any():
            expected.append((truth & guess).sum() / (truth | guess).sum())
    assert accumulator.result().value == pytest.approx(np.mean(expected))


def test_miou_refuses_what_does_not_fit() -> None:
    metric = metric_from_name("miou", has_labels=True, outputs=SCORES)
    scores = {"y": np.zeros((1, 4, 6, 5))}
    with pytest.raises(MetricError, match=r"an integer label per pixel, \[n, 6, 5\] or a multiple"):
        metric.accumulator().add(scores, np.zeros((1, 9, 5), np.int64), None)
    with pytest.raises(MetricError, match="labels run from 0 to 9 and the model has 0 to 3"):
        metric.accumulator().add(scores, np.full((1, 6, 5), 9) * (np.arange(5) > 2), None)


STEPS = (TensorSpec("logits", "float32", ("N", 8, 6)),)


def spoken(*classes: int) -> np.ndarray:
    """Scores [1, 8, 6] whose best classes are these, then blanks."""
    return np.eye(6)[[*classes, *[0] * (8 - len(classes))]][None]


@pytest.fixture
def vocabulary(tmp_path: Path) -> str:
    (tmp_path / "vocab.json").write_text(json.dumps({"<pad>": 0, "|": 1, "a": 2, "b": 3, "c": 4, "<unk>": 5}))
    return f"ctc:{tmp_path / 'vocab.json'}"


def test_texts_are_read_by_merging_steps(vocabulary: str, tmp_path: Path) -> None:
    pytest.importorskip("jiwer")
    (tmp_path / "chars.txt").write_text("\n".join(" abc"))
    for decode in (vocabulary, f"ctc:{tmp_path / 'chars.txt'}"):
        same = [({"logits": spoken(2, 2, 0, 2, 1, 3)}, np.array(["aa b"]))]
        assert scored("cer", STEPS, same, decode).value == 1.0


def test_error_rates_are_of_all_words(vocabulary: str) -> None:
    """One of three words wrong; one of seven characters."""
    pytest.importorskip("jiwer")
    batches = [({"logits": spoken(2, 1, 3, 1)}, np.array(["a b"])), ({"logits": spoken(2, 3, 4)}, np.array(["abca"]))]
    assert scored("wer", STEPS, batches, vocabulary).value == pytest.approx(1 - 1 / 3)
    assert scored("cer", STEPS, batches, vocabulary).value == pytest.approx(1 - 1 / 7)


def test_more_errors_than_words_are_zero(vocabulary: str) -> None:
    pytest.importorskip("jiwer")
    wrong = [({"logits": spoken(2, 1, 3, 1, 4)}, np.array(["c"]))]
    assert scored("wer", STEPS, wrong, vocabulary).value == 0.0


def test_texts_need_a_vocabulary(tmp_path: Path) -> None:
    pytest.importorskip("jiwer")
    with pytest.raises(MetricError, match="pass --decode ctc:VOCABULARY"):
        metric_from_name("wer", has_labels=True, outputs=STEPS)
    with pytest.raises(MetricError, match="cannot be read as JSON"):
        metric_from_name("wer", has_labels=True, outputs=STEPS, decode=f"ctc:{tmp_path / 'none.json'}")
    (tmp_path / "long.txt").write_text("\n".join("abcdefgh"))
    with pytest.raises(MetricError, match="has 9 classes, blank included"):
        scored("cer", STEPS, [({"logits": spoken(1)}, np.array(["a"]))], f"ctc:{tmp_path / 'long.txt'}")
    with pytest.raises(MetricError, match="needs one text per sample as label"):
        scored("cer", STEPS, [({"logits": spoken(1)}, np.array([1]))], f"ctc:{tmp_path / 'long.txt'}")
