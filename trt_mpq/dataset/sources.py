"""Where samples come from: files of arrays, and what recipes name (calib/README.md)."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trt_mpq.dataset.arrays import digest_arrays, digest_file, load_npy, load_npz
from trt_mpq.dataset.fitting import SEGMENTS, absent_segments, check_lengths, check_names, names_of, segments_note
from trt_mpq.dataset.folders import open_folder
from trt_mpq.dataset.images import Images, image_paths, read_table, require_pillow
from trt_mpq.dataset.other_formats import advice_for
from trt_mpq.dataset.padding import Column
from trt_mpq.dataset.pixels import Pixels
from trt_mpq.dataset.prepared import Prepared, Zeros
from trt_mpq.dataset.recipe import Recipe, Split, find_recipe, read_recipe
from trt_mpq.dataset.samples import LABELS, Samples, checked_samples, rows_of, samples_from_arrays
from trt_mpq.errors import DataError
from trt_mpq.runtime.base import Array
from trt_mpq.types import TensorSpec

_DATA_VARIABLE = "TRT_MPQ_DATA"
"""Environment variable with the folder that recipes without a `root` read from."""


def open_samples(source: str | Path, inputs: tuple[TensorSpec, ...], pixels: Pixels | None = None) -> Samples:
    """Open calibration or evaluation data and check it against the model's inputs.

    Args:
        source: An `.npz` whose arrays are named after the inputs (plus optional `labels`), an `.npy`
            for a model with one input, a folder of images, a recipe file `.toml`, or the name of a committed recipe;
            recipes take a split after a colon, as in `cifar10-resnet:test`.
        inputs: The model's inputs; dimension 0 of each is the batch.
        pixels: How the images of a folder become its input.

    Raises:
        DataError: The data is missing, damaged or does not fit the inputs.
        MissingDependencyError: A recipe reads images and Pillow is not installed.
    """
    path = Path(source)
    if path.is_dir():
        return open_folder(path, inputs, pixels)
    if advice := advice_for(str(source)):
        raise DataError(f"{source} {advice}")
    if path.suffix not in (".npz", ".npy"):
        return _open_recipe(str(source), inputs)
    if path.suffix == ".npz":
        arrays = load_npz(path)
        labels = None if any(spec.name == LABELS for spec in inputs) else arrays.pop(LABELS, None)
        return samples_from_arrays(arrays, inputs, labels, str(source))
    if len(inputs) != 1:
        raise DataError(f"{path}: an .npy file holds one input but the model wants {names_of(inputs)}, use an .npz")
    array = load_npy(path)
    return checked_samples({inputs[0].name: array}, inputs, None, str(source), digest_arrays([("", array)]))


@dataclass(frozen=True)
class _Source:
    """An opened split: unprocessed rows per model input, labels, numbers of the samples in use, a hash of it all."""

    raw: Mapping[str, Column]
    labels: Array | None
    numbers: NDArray[np.intp]
    digest: str


def _open_recipe(source: str, inputs: tuple[TensorSpec, ...]) -> Samples:
    """Samples of a recipe split, preprocessed while they stream.

    Args:
        source: Path of a `.toml` or name of a committed recipe, with an optional `:split`.
        inputs: The model's inputs.

    Raises:
        DataError: The recipe is unknown or invalid, or its data is missing or does not fit.
        MissingDependencyError: The split holds images and Pillow is not installed.
    """
    name, asked = _name_and_split(source)
    path = find_recipe(name)
    recipe = read_recipe(path)
    split, root = recipe.split(asked, name), _data_root(recipe, path)
    like = absent_segments(recipe.inputs, inputs)
    check_names([*recipe.inputs, SEGMENTS] if like else recipe.inputs, inputs, f"recipe {name}")
    opened = (_open_images if split.images else _open_arrays)(recipe, split, root)
    rows = rows_of(opened.numbers, split.rows_per_sample)
    columns: dict[str, Column] = {
        key: Prepared(opened.raw[key], rows, recipe.inputs[key], f"{source}: input {key!r}") for key in recipe.inputs
    }
    if like:
        columns[SEGMENTS] = Zeros(columns[like])
    labels = None if opened.labels is None else opened.labels[opened.numbers]
    settings = recipe.model_dump_json(include={"inputs", "labels", "trim"}, exclude_defaults=True)
    content = hashlib.sha256(f"{settings}\n{split.model_dump_json()}\n{opened.digest}".encode()).hexdigest()
    found = checked_samples(columns, inputs, labels, source, content, rows=split.rows_per_sample, trim=recipe.trim)
    return found.noted(segments_note(source)) if like else found


def _name_and_split(source: str) -> tuple[str, str | None]:
    # A split is a plain word, so that the colon of a Windows drive is none.
    match = re.fullmatch(r"(.+?)(?::([\w-]+))?", source)
    return (match[1], match[2]) if match else (source, None)


def _data_root(recipe: Recipe, path: Path) -> Path:
    if recipe.root is not None:
        root, advice = path.parent / os.path.expanduser(recipe.root), "check `root` in the recipe"  # noqa: PTH111
    elif _DATA_VARIABLE in os.environ:
        root, advice = Path(os.environ[_DATA_VARIABLE]), f"check the environment variable {_DATA_VARIABLE}"
    else:
        raise DataError(
            f"recipe {path} has no `root`: set the environment variable {_DATA_VARIABLE} to the data folder"
        )
    if not root.is_dir():
        raise DataError(f"recipe {path}: the data folder {root} does not exist, {advice}")
    return root


def _open_arrays(recipe: Recipe, split: Split, root: Path) -> _Source:
    path = root / str(split.arrays)
    digest = _verified_digest(path, split.sha256)
    arrays = load_npz(path) if path.suffix == ".npz" else {_only_array(recipe): load_npy(path)}
    raw = {name: _pick(arrays, settings.array or name, path) for name, settings in recipe.inputs.items()}
    wanted = recipe.labels_of(split)
    labels = None if wanted is None else _labels(arrays, wanted, path)
    count = check_lengths(raw | ({} if labels is None else {"labels": labels}), str(path))
    flat = {name: _flattened(array, split.rows_per_sample, f"{path}: input {name!r}") for name, array in raw.items()}
    return _Source(flat, labels, split.numbers(count, str(path)), digest)


def _flattened(array: Array, rows: int, where: str) -> Array:
    """Rows [samples * rows, ...] of samples [samples, rows, ...]."""
    if rows == 1:
        return array
    if array.ndim < 2 or array.shape[1] != rows:
        raise DataError(
            f"{where} has shape {array.shape} and `rows_per_sample` = {rows} wants [samples, {rows}, ...]: correct the "
            "recipe or the array"
        )
    return array.reshape(-1, *array.shape[2:])


def _only_array(recipe: Recipe) -> str:
    """The name by which the first input asks for its array: an `.npy` holds one, without a name."""
    name, settings = next(iter(recipe.inputs.items()))
    return settings.array or name


def _pick(arrays: Mapping[str, Array], name: str, path: Path) -> Array:
    if name not in arrays:
        raise DataError(
            f"{path} has no array {name!r}: it has {', '.join(arrays)}, set `array` or `labels` in the recipe"
        )
    return arrays[name]


def _labels(arrays: Mapping[str, Array], wanted: str | list[str], path: Path) -> Array:
    """One array of labels [samples, ...], structured if it is made of several arrays."""
    if isinstance(wanted, str):
        return _pick(arrays, wanted, path)
    fields = {name: _pick(arrays, name, path) for name in wanted}
    count = check_lengths(fields, str(path))
    labels = np.zeros(count, [(name, array.dtype, array.shape[1:]) for name, array in fields.items()])
    for name, array in fields.items():
        labels[name] = array
    return labels


def _open_images(recipe: Recipe, split: Split, root: Path) -> _Source:
    require_pillow()
    folder = root / str(split.images)
    if split.table is None:
        paths, labels, table_digest = image_paths(folder), None, ""
    else:
        table_digest = _verified_digest(root / split.table, split.sha256)
        column = recipe.labels_of(split)
        assert not isinstance(column, list)  # refused with the recipe
        listed, labels = read_table(root / split.table, split.where, split.files, column)
        paths = tuple(folder / file for file in listed)
    numbers = split.numbers(len(paths), str(folder))
    digest = "\n".join([table_digest, *(f"{paths[number].name} {digest_file(paths[number])}" for number in numbers)])
    [(name, settings)] = recipe.inputs.items()
    return _Source({name: Images(paths, settings.decoder)}, labels, numbers, digest)


def _verified_digest(path: Path, expected: str | None) -> str:
    actual = digest_file(path)
    if expected not in (None, actual):
        raise DataError(f"{path} has SHA-256 {actual} and the recipe wants {expected}: fetch the right file")
    return actual
