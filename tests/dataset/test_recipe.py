from __future__ import annotations

import hashlib
import re
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from trt_mpq.dataset import Samples, open_samples
from trt_mpq.dataset.recipe import find_recipe, read_recipe
from trt_mpq.errors import DataError
from trt_mpq.evaluate.metrics import metric_from_name
from trt_mpq.runtime.onnxruntime import OnnxRuntime
from trt_mpq.types import Score, TensorSpec

IMAGE = (TensorSpec("input", "float32", ("batch", 3, 4, 6)),)
ARRAYS_RECIPE = """
root = "."
labels = "classes"
[splits.all]
arrays = "raw.npz"
[splits.few]
arrays = "raw.npz"
count = 5
seed = 3
[inputs.input]
array = "pixels"
divide = 255
mean = [0.1, 0.2, 0.3]
std = [0.5, 0.6, 0.7]
layout = "NHWC->NCHW"
"""


def pixels(count: int = 12, height: int = 4, width: int = 6) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def write_recipe(folder: Path, text: str) -> str:
    (folder / "my.toml").write_text(text)
    return str(folder / "my.toml")


@pytest.fixture
def arrays_recipe(tmp_path: Path) -> str:
    np.savez(tmp_path / "raw.npz", pixels=pixels(), classes=np.arange(12))
    return write_recipe(tmp_path, ARRAYS_RECIPE)


def first_batch(samples: Samples) -> np.ndarray:
    return next(samples.batches(samples.count)).feeds["input"]


def test_arrays_are_normalized_and_transposed(arrays_recipe: str) -> None:
    samples = open_samples(f"{arrays_recipe}:all", IMAGE)
    mean, std = np.array([0.1, 0.2, 0.3]), np.array([0.5, 0.6, 0.7])
    expected = np.moveaxis((pixels() / 255.0 - mean) / std, -1, 1)
    np.testing.assert_allclose(first_batch(samples), expected, rtol=1e-5, atol=1e-6)
    assert first_batch(samples).dtype == np.float32
    assert samples.has_labels


def test_batch_size_changes_nothing(arrays_recipe: str) -> None:
    samples = open_samples(f"{arrays_recipe}:all", IMAGE)
    parts = np.concatenate([batch.feeds["input"] for batch in samples.batches(5)])
    np.testing.assert_array_equal(parts, first_batch(samples))
    assert samples.fingerprint == open_samples(f"{arrays_recipe}:all", IMAGE).fingerprint


def test_several_arrays_make_one_structured_label(tmp_path: Path) -> None:
    offsets = np.arange(12 * 4 * 2).reshape(12, 4, 2)
    texts = np.array([f"text {number}" for number in range(12)])
    np.savez(tmp_path / "raw.npz", pixels=pixels(), context=texts, offsets=offsets)
    recipe = write_recipe(tmp_path, ARRAYS_RECIPE.replace('"classes"', '["context", "offsets"]'))
    samples = open_samples(f"{recipe}:few", IMAGE)
    batch = next(samples.batches(5))
    assert batch.labels is not None
    assert batch.labels.dtype.names == ("context", "offsets")
    chosen = [int(str(text).removeprefix("text ")) for text in batch.labels["context"]]
    assert len(set(chosen)) == 5
    np.testing.assert_array_equal(batch.labels["offsets"], offsets[chosen])


def test_count_and_seed_choose_the_same_rows_for_inputs_and_labels(arrays_recipe: str) -> None:
    everything = first_batch(open_samples(f"{arrays_recipe}:all", IMAGE))
    batch = next(open_samples(f"{arrays_recipe}:few", IMAGE).batches(5))
    assert batch.labels is not None
    assert len(set(batch.labels.tolist())) == 5
    assert batch.labels.tolist() != [0, 1, 2, 3, 4]
    np.testing.assert_array_equal(batch.feeds["input"], everything[batch.labels])


def test_count_without_seed_keeps_the_first(arrays_recipe: str) -> None:
    path = Path(arrays_recipe)
    path.write_text(ARRAYS_RECIPE.replace("seed = 3\n", ""))
    batch = next(open_samples(f"{arrays_recipe}:few", IMAGE).batches(9))
    np.testing.assert_array_equal(batch.labels, np.arange(5))


def test_fingerprint_changes_with_split_recipe_and_data(arrays_recipe: str, tmp_path: Path) -> None:
    prints = [open_samples(f"{arrays_recipe}:{split}", IMAGE).take(5).fingerprint for split in ("all", "few")]
    Path(arrays_recipe).write_text(ARRAYS_RECIPE.replace("divide = 255", "divide = 256"))
    prints.append(open_samples(f"{arrays_recipe}:all", IMAGE).take(5).fingerprint)
    np.savez(tmp_path / "raw.npz", pixels=pixels() + np.uint8(1), classes=np.arange(12))
    prints.append(open_samples(f"{arrays_recipe}:all", IMAGE).take(5).fingerprint)
    assert len(set(prints)) == 4


@pytest.mark.parametrize(
    ("layout", "shape"),
    [("NCHW", (2, 3, 4, 6)), ("NHWC", (2, 4, 6, 3)), ("NCHW->NHWC", (2, 3, 4, 6)), ("NHWC->NCHW", (2, 4, 6, 3))],
)
def test_layouts_find_their_channels(tmp_path: Path, layout: str, shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    np.save(tmp_path / "raw.npy", values)
    text = f"""root = "."
    splits.all.arrays = "raw.npy"
    [inputs.input]
    mean = [1, 2, 3]
    layout = "{layout}" """
    source, target = layout.split("->") if "->" in layout else (layout, layout)
    channels_last = np.moveaxis(values, source.index("C"), -1) - np.array([1, 2, 3], np.float32)
    expected = np.moveaxis(channels_last, -1, target.index("C"))
    spec = TensorSpec("input", "float32", ("n", *expected.shape[1:]))
    np.testing.assert_allclose(first_batch(open_samples(write_recipe(tmp_path, text), (spec,))), expected, rtol=1e-6)


def test_cast_that_loses_integers_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "raw.npy", np.array([[1], [300]]))
    text = 'root = "."\nsplits.all.arrays = "raw.npy"\ninputs.input.dtype = "uint8"'
    samples = open_samples(write_recipe(tmp_path, text), (TensorSpec("input", "int64", ("n", 1)),))
    with pytest.raises(DataError, match="values that uint8 cannot hold"):
        list(samples.batches(2))


def test_cast_of_floats_to_integers_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "raw.npy", np.ones((2, 1)))
    text = 'root = "."\nsplits.all.arrays = "raw.npy"\ninputs.input.dtype = "int64"'
    with pytest.raises(DataError, match="cannot turn float64 into int64 without loss"):
        open_samples(write_recipe(tmp_path, text), (TensorSpec("input", "int64", ("n", 1)),))


def test_npy_holds_one_input_and_nothing_else(tmp_path: Path) -> None:
    np.save(tmp_path / "raw.npy", np.ones((2, 1), np.float32))
    spec = TensorSpec("input", "float32", ("n", 1))
    text = 'root = "."\nsplits.all.arrays = "raw.npy"\n[inputs.input]\narray = "x"'
    assert open_samples(write_recipe(tmp_path, text), (spec,)).count == 2
    with pytest.raises(DataError, match=r"raw\.npy has no array 'y': it has x"):
        open_samples(write_recipe(tmp_path, f'labels = "y"\n{text}'), (spec,))
    with pytest.raises(DataError, match=r"raw\.npy has no array 'other': it has x"):
        open_samples(
            write_recipe(tmp_path, f"{text}\n[inputs.other]"), (spec, TensorSpec("other", "float32", ("n", 1)))
        )


def test_overflow_in_a_cast_is_reported(tmp_path: Path) -> None:
    np.save(tmp_path / "raw.npy", np.array([[1.0], [70000.0]]))
    text = 'root = "."\nsplits.all.arrays = "raw.npy"\ninputs.input.dtype = "float16"'
    samples = open_samples(write_recipe(tmp_path, text), (TensorSpec("input", "float16", ("n", 1)),))
    with pytest.raises(DataError, match="NaN or inf, first in sample 1"):
        list(samples.batches(1))


def test_unscaled_integers_for_a_float_model_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "raw.npy", np.ones((2, 1), np.uint8))
    text = 'root = "."\nsplits.all.arrays = "raw.npy"\n[inputs.input]'
    with pytest.raises(DataError, match="is uint8 but the model wants float32"):
        open_samples(write_recipe(tmp_path, text), (TensorSpec("input", "float32", ("n", 1)),))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("divide = 255", "divide = 0", "inputs.input.divide: Input should be greater than 0"),
        ("divide = 255", 'divide = "255"', "inputs.input.divide: Input should be a valid number"),
        ("divide = 255", "divide = nan", "inputs.input.divide: "),
        ("divide = 255", "divisor = 255", "inputs.input.divisor: is no known field"),
        ("std = [0.5, 0.6, 0.7]", "std = [0.5, 0.6, 0.0]", "inputs.input.std.2: Input should be greater than 0"),
        ("NHWC->NCHW", "HWC", "inputs.input.layout: Input should be 'NHWC'"),
        ('layout = "NHWC->NCHW"', "", "inputs.input: mean and std per channel need `layout`"),
        ("count = 5", "count = 0", "splits.few.count: Input should be greater than 0"),
        ("count = 5", "count = true", "splits.few.count: "),
        ('arrays = "raw.npz"', "", "splits.all: give either `arrays`"),
        ('arrays = "raw.npz"', 'images = ""', "splits.all.images: String should have at least 1 character"),
        ('arrays = "raw.npz"', 'arrays = "raw.npz"\nimages = "x"', "splits.all: give either `arrays`"),
        ('arrays = "raw.npz"', 'arrays = "raw.npz"\ntable = "x.csv"', "splits.all: `table` and `where` belong"),
        ('arrays = "raw.npz"', 'images = "x"\nwhere = {a = "b"}', "splits.all: `where` and `sha256` of an image"),
        ('arrays = "raw.npz"', 'images = "x"', "split 'all' needs `table`"),
        ("[inputs.input]", '[inputs.other]\narray = "pixels"\n[inputs.input]\ncrop = [1, 2, 3]', "inputs.input.crop: "),
        ("root =", "roots =", "roots: is no known field"),
        ("root =", "root", "is not valid TOML"),
    ],
)
def test_bad_recipe_names_path_and_field(arrays_recipe: str, old: str, new: str, message: str) -> None:
    Path(arrays_recipe).write_text(ARRAYS_RECIPE.replace(old, new, 1))
    with pytest.raises(DataError, match=re.escape(message)) as error:
        open_samples(f"{arrays_recipe}:all", IMAGE)
    assert arrays_recipe in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("lacking", ["splits", "inputs"])
def test_missing_table_is_named(arrays_recipe: str, lacking: str) -> None:
    text = re.sub(rf"(?ms)^\[{lacking}\..*?(?=^\[(?!{lacking})|\Z)", "", ARRAYS_RECIPE)
    Path(arrays_recipe).write_text(text)
    with pytest.raises(DataError, match=f"{lacking}: is missing"):
        open_samples(f"{arrays_recipe}:all", IMAGE)


def test_split_is_chosen_or_refused(arrays_recipe: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has the splits all, few: choose one"):
        open_samples(arrays_recipe, IMAGE)
    with pytest.raises(DataError, match="has no split 'train': it has all, few"):
        open_samples(f"{arrays_recipe}:train", IMAGE)
    with pytest.raises(DataError, match=r"absent\.toml does not exist"):
        open_samples(tmp_path / "absent.toml", IMAGE)


def test_data_that_does_not_fit_the_recipe_is_refused(arrays_recipe: str, tmp_path: Path) -> None:
    source = f"{arrays_recipe}:few"
    with pytest.raises(DataError, match="lacks 'x' and has the surplus 'input'"):
        open_samples(source, (TensorSpec("x", "float32", ("n", 3, 4, 6)),))
    with pytest.raises(DataError, match=r"has shape \[3, 4, 6\] but the model wants \[3, 8, 8\]"):
        open_samples(source, (TensorSpec("input", "float32", ("n", 3, 8, 8)),))
    np.savez(tmp_path / "raw.npz", pixels=pixels(4), classes=np.arange(4))
    with pytest.raises(DataError, match="asks for 5 samples and the data has 4"):
        open_samples(source, IMAGE)
    np.savez(tmp_path / "raw.npz", pixels=pixels(7), classes=np.arange(6))
    with pytest.raises(DataError, match="row counts differ: 'input' 7, 'labels' 6"):
        open_samples(source, IMAGE)
    np.savez(tmp_path / "raw.npz", pixels=pixels(7))
    with pytest.raises(DataError, match="has no array 'classes': it has pixels"):
        open_samples(source, IMAGE)
    np.savez(tmp_path / "raw.npz", pixels=pixels(7)[..., :2], classes=np.arange(7))
    with pytest.raises(DataError, match="has 2 channels but `mean` has 3 values"):
        open_samples(source, IMAGE)
    np.savez(tmp_path / "raw.npz", pixels=pixels(7)[:, 0], classes=np.arange(7))
    with pytest.raises(DataError, match=r"has shape \(1, 6, 3\) and layout NHWC->NCHW needs 4 dimensions"):
        open_samples(source, IMAGE)
    np.savez(tmp_path / "raw.npz", pixels=np.array(["a"] * 7), classes=np.arange(7))
    with pytest.raises(DataError, match="is read from <U1 values: it needs numbers"):
        open_samples(source, IMAGE)
    (tmp_path / "raw.npz").unlink()
    with pytest.raises(DataError, match=r"raw\.npz does not exist"):
        open_samples(source, IMAGE)


def test_sha256_is_verified(arrays_recipe: str, tmp_path: Path) -> None:
    actual = hashlib.sha256((tmp_path / "raw.npz").read_bytes()).hexdigest()
    recipe = Path(arrays_recipe)
    recipe.write_text(ARRAYS_RECIPE.replace("[splits.few]", f'sha256 = "{actual}"\n[splits.few]'))
    assert open_samples(f"{arrays_recipe}:all", IMAGE).count == 12
    recipe.write_text(ARRAYS_RECIPE.replace("[splits.few]", f'sha256 = "{actual[::-1]}"\n[splits.few]'))
    with pytest.raises(DataError, match=rf"raw\.npz has SHA-256 {actual} and the recipe wants {actual[::-1]}"):
        open_samples(f"{arrays_recipe}:all", IMAGE)


def test_data_folder_comes_from_the_environment(
    arrays_recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path(arrays_recipe).write_text(ARRAYS_RECIPE.replace('root = "."', ""))
    monkeypatch.delenv("TRT_MPQ_DATA", raising=False)
    with pytest.raises(DataError, match="has no `root`: set the environment variable TRT_MPQ_DATA"):
        open_samples(f"{arrays_recipe}:all", IMAGE)
    monkeypatch.setenv("TRT_MPQ_DATA", str(tmp_path / "absent"))
    with pytest.raises(DataError, match="absent does not exist, check the environment variable TRT_MPQ_DATA"):
        open_samples(f"{arrays_recipe}:all", IMAGE)
    monkeypatch.setenv("TRT_MPQ_DATA", str(tmp_path))
    assert open_samples(f"{arrays_recipe}:all", IMAGE).count == 12


@pytest.mark.parametrize("name", ["cifar10-resnet", "imagenet-mobilenet", "minilm-sts"])
def test_committed_recipes_are_found_and_valid(name: str) -> None:
    recipe = read_recipe(find_recipe(name))
    assert "calib" in recipe.splits


def test_unknown_recipe_lists_the_known_ones() -> None:
    with pytest.raises(DataError, match="the recipes are cifar10-resnet, imagenet-mobilenet, minilm-sts"):
        find_recipe("cifar")


def test_readme_example_is_valid(tmp_path: Path) -> None:
    readme = find_recipe("minilm-sts").parents[1] / "README.md"
    if not readme.is_file():
        pytest.skip("calib/README.md is part of a checkout, not of an installed wheel")
    [example] = re.findall(r"```toml\n(.*?)```", readme.read_text(), flags=re.DOTALL)
    recipe = read_recipe(Path(write_recipe(tmp_path, example)))
    assert list(recipe.splits) == ["calib", "test"]


def specs(values: list[ir.Value]) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(v.name, v.dtype.numpy().name, tuple(d if isinstance(d, int) else str(d.value) for d in v.shape))
        for v in values
    )


def score(model: Path, source: str, metric_name: str, limit: int, batch: int) -> Score:
    graph = ir.load(model).graph
    samples, session = open_samples(source, specs(graph.inputs)), OnnxRuntime(threads=2).load(model)
    metric = metric_from_name(metric_name, has_labels=samples.has_labels, outputs=specs(graph.outputs))
    accumulator = metric.accumulator()
    for part in samples.batches(batch, limit):
        accumulator.add(session.run(part.feeds), part.labels, None)
    return accumulator.result()


@pytest.fixture
def real_data(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TRT_MPQ_DATA", str(data_dir))
    return data_dir


@pytest.mark.data
def test_resnet20_scores_on_cifar10(real_data: Path) -> None:
    result = score(real_data / "cifar10" / "resnet20.onnx", "cifar10-resnet:test", "auto", 1000, 100)
    assert result.samples == 1000
    assert abs(result.value * 1000 - 920) <= 2


@pytest.mark.data
def test_mobilenet_scores_on_imagenet(real_data: Path) -> None:
    model = real_data / "imagenet" / "mobilenet_v1_075_224.onnx"
    assert abs(score(model, "imagenet-mobilenet:test", "top1", 400, 20).value * 400 - 349) <= 2


@pytest.mark.data
def test_minilm_calibration_tokens(real_data: Path) -> None:
    inputs = specs(ir.load(real_data / "minilm" / "minilm_l6_v2.onnx").graph.inputs)
    samples = open_samples("minilm-sts:calib", inputs)
    batch = next(samples.batches(32))
    assert (samples.count, samples.has_labels) == (1024, False)
    assert {(array.dtype.name, array.shape) for array in batch.feeds.values()} == {("int64", (32, 64))}


@pytest.mark.data
def test_minilm_evaluation_pairs(real_data: Path) -> None:
    inputs = specs(ir.load(real_data / "minilm" / "minilm_l6_v2.onnx").graph.inputs)
    samples = open_samples("minilm-sts:dev", inputs)
    assert (samples.count, samples.rows, samples.labels.dtype.name) == (1500, 2, "float32")
    longest = next(samples.by_length(32))
    assert {(array.dtype.name, array.shape) for array in longest.feeds.values()} == {("int64", (2, 53))}
    assert all(batch.feeds["attention_mask"].any(axis=0).all() for batch in samples.by_length(32))
