from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest

from trt_mpq.dataset import Samples, images, open_samples
from trt_mpq.errors import DataError, MissingDependencyError
from trt_mpq.types import TensorSpec

IMAGE = (TensorSpec("input", "float32", ("batch", 3, 4, 6)),)
IMAGES_RECIPE = """
root = "."
[splits.all]
images = "photos"
[inputs.input]
layout = "NHWC->NCHW"
dtype = "float32"
"""


def write_recipe(folder: Path, text: str) -> str:
    (folder / "my.toml").write_text(text)
    return str(folder / "my.toml")


def write_photos(folder: Path, *shapes: tuple[int, int]) -> list[np.ndarray]:
    from PIL import Image

    (folder / "photos").mkdir()
    arrays = [np.random.default_rng(i).integers(0, 256, (*shape, 3), dtype=np.uint8) for i, shape in enumerate(shapes)]
    for i, array in enumerate(arrays):
        Image.fromarray(array).save(folder / "photos" / f"{i}.png")
    return arrays


def first_batch(samples: Samples) -> np.ndarray:
    return next(samples.batches(samples.count)).feeds["input"]


def test_bare_image_folder_is_sorted_and_unlabelled(tmp_path: Path) -> None:
    arrays = write_photos(tmp_path, (4, 6), (4, 6))
    samples = open_samples(write_recipe(tmp_path, IMAGES_RECIPE), IMAGE)
    assert (samples.count, samples.has_labels) == (2, False)
    np.testing.assert_array_equal(first_batch(samples), np.stack(arrays).transpose(0, 3, 1, 2))


def test_image_table_filters_orders_and_labels(tmp_path: Path) -> None:
    arrays = write_photos(tmp_path, (4, 6), (4, 6), (4, 6))
    (tmp_path / "t.csv").write_text("name,y,use\n2.png,7,test\n1.png,8,calib\n0.png,9,test\n")
    text = IMAGES_RECIPE.replace('root = "."', 'root = "."\nlabels = "y"').replace(
        'images = "photos"', 'images = "photos"\ntable = "t.csv"\nfiles = "name"\nwhere = {use = "test"}'
    )
    batch = next(open_samples(write_recipe(tmp_path, text), IMAGE).batches(5))
    np.testing.assert_array_equal(batch.labels, [7, 9])
    np.testing.assert_array_equal(batch.feeds["input"], np.stack([arrays[2], arrays[0]]).transpose(0, 3, 1, 2))

    source = write_recipe(tmp_path, text)
    for table, message in (
        ("name,y,use\n2.png,7,train\n", "has no row with"),
        ("name,y\n2.png,7\n", "lacks the column use: it has name, y"),
        ("name,y,use\n2.png,cat,test\n", "column 'y' must hold integer labels"),
        ("name,y,use\n9.png,1,test\n", r"9\.png does not exist"),
        ('name,y,use\n2.png,7,"test', "cannot be read as a CSV table"),
        ("", "lacks the column name, use, y: it has none"),
    ):
        (tmp_path / "t.csv").write_text(table)
        with pytest.raises(DataError, match=message):
            open_samples(source, IMAGE)
    (tmp_path / "t.csv").unlink()
    with pytest.raises(DataError, match=r"t\.csv does not exist"):
        open_samples(source, IMAGE)


@pytest.mark.parametrize(
    ("fields", "shape"),
    [
        ("resize = 4", (3, 4, 6)),
        ("resize = [5, 7]", (3, 5, 7)),
        ("crop = 4", (3, 4, 4)),
        ('crop = [2, 6]\ninterpolation = "bicubic"', (3, 2, 6)),
        ("resize = 6\ncrop = 4", (3, 4, 4)),
        ("letterbox = 16", (3, 16, 16)),
        ('letterbox = [16, 9]\ncolor = "L"', (1, 16, 9)),
        ('color = "L"', (1, 8, 12)),
    ],
)
def test_resize_and_crop_sizes(tmp_path: Path, fields: str, shape: tuple[int, ...]) -> None:
    write_photos(tmp_path, (8, 12))
    source = write_recipe(tmp_path, f"{IMAGES_RECIPE}\n{fields}")
    assert first_batch(open_samples(source, (TensorSpec("input", "float32", ("n", *shape)),)))[0].shape == shape


def test_crop_is_centred_and_bgr_is_reversed(tmp_path: Path) -> None:
    [array] = write_photos(tmp_path, (8, 12))
    source = write_recipe(tmp_path, f'{IMAGES_RECIPE}\ncrop = [4, 6]\ncolor = "BGR"')
    expected = array[2:6, 3:9, ::-1].transpose(2, 0, 1)
    np.testing.assert_array_equal(first_batch(open_samples(source, IMAGE))[0], expected)


def test_images_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    write_photos(tmp_path, (4, 6), (5, 6))
    samples = open_samples(write_recipe(tmp_path, IMAGES_RECIPE), IMAGE)
    with pytest.raises(DataError, match=r"1\.png is 5x6 pixels and .*0\.png is 4x6: add `resize` and `crop`"):
        first_batch(samples)
    with pytest.raises(DataError, match="is 4x6 pixels, smaller than the crop 5x5"):
        open_samples(write_recipe(tmp_path, f"{IMAGES_RECIPE}\ncrop = 5"), IMAGE)
    (tmp_path / "photos" / "0.png").write_bytes((tmp_path / "photos" / "0.png").read_bytes()[:60])
    with pytest.raises(DataError, match=r"0\.png cannot be decoded as an image"):
        open_samples(write_recipe(tmp_path, IMAGES_RECIPE), IMAGE)
    for name in ("0.png", "1.png"):
        (tmp_path / "photos" / name).unlink()
    with pytest.raises(DataError, match="photos holds no image"):
        open_samples(write_recipe(tmp_path, IMAGES_RECIPE), IMAGE)
    (tmp_path / "photos").rmdir()
    with pytest.raises(DataError, match="photos is no folder"):
        open_samples(write_recipe(tmp_path, IMAGES_RECIPE), IMAGE)


def test_decoded_images_are_kept_within_the_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_photos(tmp_path, (4, 6), (4, 6), (4, 6))
    decoded: list[str] = []
    decode = images.Decoder.decode
    monkeypatch.setattr(images.Decoder, "decode", lambda self, path: decoded.append(path.name) or decode(self, path))
    monkeypatch.setattr(images, "_CACHE_BYTES", 2 * 4 * 6 * 3)
    samples = open_samples(write_recipe(tmp_path, IMAGES_RECIPE), IMAGE)
    np.testing.assert_array_equal(first_batch(samples), first_batch(samples))
    assert decoded == ["0.png", "1.png", "2.png", "2.png"]


def test_images_without_pillow_say_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_photos(tmp_path, (4, 6))
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(MissingDependencyError, match=re.escape("pip install 'pillow>=10.4'")):
        open_samples(write_recipe(tmp_path, IMAGES_RECIPE), IMAGE)


def test_images_feed_one_input(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="images, which feed exactly one input"):
        open_samples(write_recipe(tmp_path, f"{IMAGES_RECIPE}\n[inputs.other]"), IMAGE)
