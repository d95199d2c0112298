"""Folders of images without a recipe."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trt_mpq.dataset import open_samples
from trt_mpq.dataset.pixels import PRESETS, Pixels, pixels_from
from trt_mpq.errors import DataError
from trt_mpq.types import TensorSpec

Image = pytest.importorskip("PIL.Image", reason="reading images needs Pillow")
SPEC = TensorSpec("pixels", "float32", ("N", 3, 8, 8))
INPUTS = (SPEC,)
MODEL = Path("nowhere/model.onnx")


def write_image(path: Path, value: int, size: tuple[int, int] = (8, 8)) -> np.ndarray:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(value).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return pixels


@pytest.fixture
def classes(tmp_path: Path) -> Path:
    for number, name in enumerate(("bee", "ant", "cat")):
        for shot in range(4):
            write_image(tmp_path / "train" / name / f"{shot}.png", 10 * number + shot)
    return tmp_path / "train"


def test_a_subfolder_is_a_class_numbered_by_name(classes: Path) -> None:
    samples = open_samples(classes, INPUTS, PRESETS["0-1"])
    batch = next(samples.batches(12))
    assert sorted(batch.labels) == [0] * 4 + [1] * 4 + [2] * 4
    for feed, label in zip(batch.feeds["pixels"], batch.labels, strict=True):
        name = ("ant", "bee", "cat")[label]
        known = [np.asarray(Image.open(file)).transpose(2, 0, 1) / 255 for file in (classes / name).iterdir()]
        assert any(np.allclose(feed, image, atol=1e-7) for image in known)
    assert any("3 classes by folder, ant is 0 and cat is 2" in note for note in samples.notes)


def test_the_first_few_are_of_several_classes_and_always_the_same(classes: Path) -> None:
    first, again = (open_samples(classes, INPUTS, PRESETS["0-1"]) for _ in range(2))
    assert len(set(next(first.batches(6)).labels)) > 1
    assert first.fingerprint == again.fingerprint
    np.testing.assert_array_equal(next(first.batches(6)).labels, next(again.batches(6)).labels)
    assert first.fingerprint != open_samples(classes, INPUTS, PRESETS["-1-1"]).fingerprint
    write_image(classes / "ant" / "0.png", 99)
    assert first.fingerprint != open_samples(classes, INPUTS, PRESETS["0-1"]).fingerprint


@pytest.mark.parametrize("where", ["train/classes.txt", "classes.txt"])
def test_a_list_of_classes_numbers_them(classes: Path, where: str) -> None:
    (classes.parent / where).write_text("dog\ncat\nbee\nant\n")
    assert set(next(open_samples(classes, INPUTS, PRESETS["0-1"]).batches(12)).labels) == {1, 2, 3}
    (classes.parent / where).write_text("dog\ncat\n")
    with pytest.raises(DataError, match="does not name the folder ant"):
        open_samples(classes, INPUTS, PRESETS["0-1"])


def test_images_alone_have_no_labels(tmp_path: Path) -> None:
    write_image(tmp_path / "flat" / "a.png", 1)
    write_image(tmp_path / "flat" / "b.png", 2)
    samples = open_samples(tmp_path / "flat", INPUTS, PRESETS["imagenet"])
    assert (samples.count, samples.has_labels) == (2, False)


def test_a_folder_of_splits_is_not_taken_for_classes(classes: Path) -> None:
    with pytest.raises(DataError, match=r"holds the folders train of folders: name one, as in .*train"):
        open_samples(classes.parent, INPUTS, PRESETS["0-1"])


def test_without_preprocessing_the_sentence_names_a_recipe_that_would_do(classes: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="pass --preprocess with one of imagenet, clip, 0-1") as caught:
        open_samples(classes, INPUTS)
    parts = str(caught.value).partition("(calib/README.md) with ")[2].split(", [")
    text = "\n[".join(part.replace(", std", "\nstd") for part in parts).replace("] ", "]\n").replace(", crop", "\ncrop")
    text = text.replace(", divide", "\ndivide").replace(", mean", "\nmean").replace(", layout", "\nlayout")
    (tmp_path / "my.toml").write_text(text)
    assert open_samples(tmp_path / "my.toml", INPUTS).count == 12


def test_other_models_and_other_folders_are_refused(tmp_path: Path, classes: Path) -> None:
    with pytest.raises(DataError, match="feed a model with one input, and this one has pixels, mask"):
        open_samples(classes, (SPEC, replace(SPEC, name="mask")), PRESETS["0-1"])
    with pytest.raises(DataError, match="takes no images of one or three channels"):
        open_samples(classes, (replace(SPEC, shape=("N", 128)),), PRESETS["0-1"])
    (tmp_path / "arrays").mkdir()
    with pytest.raises(DataError, match="is empty"):
        open_samples(tmp_path / "arrays", INPUTS, PRESETS["0-1"])
    np.save(tmp_path / "arrays" / "x.npy", np.zeros(3))
    with pytest.raises(DataError, match=r"holds no image but x.npy: name the file, as in .*x.npy"):
        open_samples(tmp_path / "arrays", INPUTS, PRESETS["0-1"])
    (tmp_path / "table").mkdir()
    (tmp_path / "table" / "a.parquet").write_text("x")
    with pytest.raises(DataError, match=r"holds no image but a.parquet, which is a Parquet table: write np.savez"):
        open_samples(tmp_path / "table", INPUTS, PRESETS["0-1"])


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("x.pt", "is torch data"), ("x.pkl", "could run code"), ("x.tfrecord", "TFRecord"), ("x.jpg", "is one image"),
        ("a/x.tar.gz", "unpack it"), ("x.csv", "recipe"), ("x.py:make", "is Python"), ("m.onnx", "is a model"),
    ],
)  # fmt: skip
def test_data_in_other_formats_gets_the_sentence_that_helps(source: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        open_samples(source, INPUTS)


def test_a_function_as_data_gets_one_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").touch()
    with pytest.raises(DataError, match=r"is a function: call it once and write np\.savez"):
        open_samples("mine:samples", INPUTS)


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_presets_compute_what_their_name_says(tmp_path: Path, name: str, layout: str) -> None:
    pixels = write_image(tmp_path / "a.png", 5)
    shape = ("N", 3, 8, 8) if layout == "NCHW" else ("N", 8, 8, 3)
    feed = next(open_samples(tmp_path, (replace(SPEC, shape=shape),), PRESETS[name]).batches(1)).feeds["pixels"][0]
    unit = pixels.astype(np.float64) / 255
    expected = {
        "imagenet": (unit - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225],
        "clip": (unit - [0.48145466, 0.4578275, 0.40821073]) / [0.26862954, 0.26130258, 0.27577711],
        "0-1": unit, "-1-1": 2 * unit - 1, "0-255": 255 * unit, "yolo": unit,
    }[name]  # fmt: skip
    np.testing.assert_allclose(feed if layout == "NHWC" else feed.transpose(1, 2, 0), expected, atol=2e-6)


def test_images_of_another_size_are_resized_and_cropped_as_classifiers_do(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", 5, (40, 60))
    samples = open_samples(tmp_path, INPUTS, PRESETS["0-255"])
    image = Image.open(tmp_path / "a.png").resize(
        (13, 9), Image.Resampling.BILINEAR
    )  # 8 / 0.875 = 9 on the shorter side
    left, top = round((13 - 8) / 2), round((9 - 8) / 2)
    expected = np.asarray(image.crop((left, top, left + 8, top + 8))).transpose(2, 0, 1)
    np.testing.assert_array_equal(next(samples.batches(1)).feeds["pixels"][0], expected)
    assert any(
        "resized to 9 on the shorter side, cropped to 8x8, normalised as 0-255" in note for note in samples.notes
    )


@pytest.mark.parametrize("size", [(40, 60), (60, 40), (5, 60), (33, 31), (4, 4)])
def test_detectors_get_the_whole_image_in_a_grey_border(tmp_path: Path, size: tuple[int, int]) -> None:
    """Against the arithmetic of Ultralytics' LetterBox: the ratio, the rounded size and where the rest goes."""
    Image.new("RGB", (size[1], size[0]), (200, 100, 0)).save(tmp_path / "a.png")
    spec = replace(SPEC, shape=("N", 3, 32, 48))
    samples = open_samples(tmp_path, (spec,), PRESETS["yolo"])
    found = next(samples.batches(1)).feeds["pixels"][0]
    ratio = min(32 / size[0], 48 / size[1])
    height, width = round(size[0] * ratio), round(size[1] * ratio)
    top, left = round((32 - height) / 2 - 0.1), round((48 - width) / 2 - 0.1)
    expected = np.full((3, 32, 48), 114 / 255, np.float32)
    expected[:, top : top + height, left : left + width] = np.float32([200, 100, 0])[:, None, None] / 255
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert any("fitted into 32x48 with a grey border, normalised as yolo" in note for note in samples.notes)


CONFIGS = {
    "vit": (
        {"do_resize": True, "size": {"height": 8, "width": 8}, "resample": 2, "do_normalize": True,
         "image_mean": [0.5] * 3, "image_std": [0.5] * 3, "rescale_factor": 0.00392156862745098},
        Pixels("", 255.0, (0.5,) * 3, (0.5,) * 3, (8, 8), None, "bilinear"),
    ),
    "convnext": (
        {"size": {"shortest_edge": 8}, "crop_pct": 0.875, "resample": 3, "image_mean": [0.1, 0.2, 0.3],
         "image_std": [1.0, 1.0, 1.0]},
        Pixels("", 255.0, (0.1, 0.2, 0.3), (1.0,) * 3, (9,), (8, 8), "bicubic"),
    ),
    "clip": (
        {"size": {"shortest_edge": 9}, "do_center_crop": True, "crop_size": {"height": 8, "width": 8}, "resample": 3,
         "image_mean": [0.5] * 3, "image_std": [0.25] * 3},
        Pixels("", 255.0, (0.5,) * 3, (0.25,) * 3, (9,), (8, 8), "bicubic"),
    ),
    "unscaled": ({"do_rescale": False, "do_normalize": False, "do_resize": False}, Pixels("", 1.0)),
    "timm": (
        {"architecture": "x", "pretrained_cfg": {"input_size": [3, 8, 8], "crop_pct": 0.9, "mean": [0.5] * 3,
         "std": [0.5] * 3, "interpolation": "bicubic"}},
        Pixels("", 255.0, (0.5,) * 3, (0.5,) * 3, (8,), (8, 8), "bicubic"),
    ),
    "torchvision": (
        {"crop_size": [8], "resize_size": [9], "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225],
         "interpolation": "InterpolationMode.BILINEAR"},
        Pixels("", 255.0, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), (9,), (8, 8), "bilinear"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", CONFIGS)
def test_processor_files_are_read(tmp_path: Path, kind: str) -> None:
    fields, expected = CONFIGS[kind]
    (tmp_path / "p.json").write_text(json.dumps(fields))
    found = pixels_from(str(tmp_path / "p.json"), MODEL)
    assert replace(found, name="") == expected


def test_one_beside_the_model_is_found(tmp_path: Path) -> None:
    assert pixels_from(None, tmp_path / "model.onnx") is None
    (tmp_path / "config.json").write_text('{"hidden_size": 8}')
    assert pixels_from(None, tmp_path / "model.onnx") is None
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(CONFIGS["vit"][0]))
    found = pixels_from(None, tmp_path / "model.onnx")
    assert (found.name, found.mean) == ("preprocessor_config.json", (0.5,) * 3)


def test_it_agrees_with_the_processor_of_transformers(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="compared with transformers")
    fields = CONFIGS["clip"][0]
    try:
        processor = transformers.CLIPImageProcessor(**{**fields, "resample": 3})
        write_image(tmp_path / "images" / "a.png", 5, (40, 60))
        expected = processor(Image.open(tmp_path / "images" / "a.png"), return_tensors="np")["pixel_values"][0]
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"transformers has no image processor here: {str(error)[:80]}")
    (tmp_path / "p.json").write_text(json.dumps(fields))
    samples = open_samples(tmp_path / "images", INPUTS, pixels_from(str(tmp_path / "p.json"), MODEL))
    np.testing.assert_allclose(next(samples.batches(1)).feeds["pixels"][0], expected, atol=0.02)


@pytest.mark.parametrize("text", ["[]", "no json", '{"hidden_size": 8}', '{"image_mean": "x", "crop_size": {"a": 1}}'])
def test_files_that_do_not_say_it_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "p.json").write_text(text)
    with pytest.raises(DataError, match=r"p\.json"):
        pixels_from(str(tmp_path / "p.json"), MODEL)
    with pytest.raises(DataError, match="is no file and none of imagenet, clip"):
        pixels_from("imagenette", MODEL)


def test_a_size_that_is_not_the_models_is_refused() -> None:
    with pytest.raises(DataError, match="makes images 9x9 and input 'pixels' of the model takes 8x8"):
        replace(PRESETS["0-1"], crop=(9, 9)).input(SPEC, fits=False)
    with pytest.raises(DataError, match="no fixed height and width"):
        PRESETS["0-1"].input(replace(SPEC, shape=("N", 3, "h", "w")), fits=False)


@given(st.sampled_from(sorted(PRESETS)), st.sampled_from([1, 3]))
def test_every_preset_describes_every_image_input(name: str, channels: int) -> None:
    described = PRESETS[name].input(replace(SPEC, shape=("N", channels, 8, 8)), fits=True)
    assert described.color == ("L" if channels == 1 else "RGB")
    assert len(described.mean) in (1, channels)
