"""Recipes: TOML files that say where data lies and how it becomes model inputs (calib/README.md)."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError, model_validator

from trt_mpq._data import data_folder, load_toml
from trt_mpq.dataset.arrays import digest_file, load_npy, load_npz
from trt_mpq.dataset.fitting import check_lengths, check_names
from trt_mpq.dataset.images import Images, image_paths, read_table, require_pillow
from trt_mpq.dataset.preprocess import Input, Strict
from trt_mpq.dataset.samples import Samples, checked_samples, rows_of
from trt_mpq.errors import DataError
from trt_mpq.runtime.base import Array
from trt_mpq.types import TensorSpec

DATA_VARIABLE = "TRT_MPQ_DATA"
"""Environment variable with the folder that recipes without a `root` read from."""


FileName = Annotated[str, Field(min_length=1)]
Labels = FileName | Annotated[list[FileName], Field(min_length=1)]
"""An array or column; or several arrays, which become the fields of one structured label per sample."""


class Split(Strict):
    """Where the samples of one split lie, and which of them are used.

    Either `arrays` (an `.npz` or `.npy`) or `images` (a folder), the latter with an optional CSV
    `table` whose column `files` lists files below that folder and whose rows are filtered by `where`.
    `count` keeps the first samples, or a random choice if there is a `seed`. With `rows_per_sample` r > 1
    the arrays are [samples, r, ...] and the model gets every sample as r rows. `labels` names the array or
    column with labels where it differs from the recipe's.
    """

    arrays: FileName | None = None
    images: FileName | None = None
    table: FileName | None = None
    files: str = "file"
    where: dict[str, str] = Field(default_factory=dict)
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None
    count: Annotated[int, Field(gt=0)] | None = None
    seed: Annotated[int, Field(ge=0)] | None = None
    rows_per_sample: Annotated[int, Field(gt=0)] = 1
    labels: Labels | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Split:
        if (self.arrays is None) == (self.images is None):
            raise ValueError("give either `arrays` (an .npz or .npy) or `images` (a folder)")
        if self.images is None and (self.table or self.where):
            raise ValueError("`table` and `where` belong to `images`")
        if self.images and not self.table and (self.where or self.sha256):
            raise ValueError("`where` and `sha256` of an image folder need `table`")
        if self.images and self.rows_per_sample > 1:
            raise ValueError("`rows_per_sample` belongs to `arrays`")
        return self

    def numbers(self, available: int, where: str) -> NDArray[np.intp]:
        """Numbers of the samples in use, out of `available`; raises DataError if `count` is more."""
        if self.count is not None and self.count > available:
            raise DataError(f"{where} asks for {self.count} samples and the data has {available}: lower `count`")
        order = np.arange(available) if self.seed is None else np.random.default_rng(self.seed).permutation(available)
        return order[: self.count]


class Recipe(Strict):
    """A recipe file.

    `root` is the data folder, `labels` names the array, arrays or table column with labels, `trim` the input that says
    by its zeros which positions are padding.
    """

    description: str = ""
    root: str | None = None
    labels: Labels | None = None
    trim: str | None = None
    splits: Annotated[dict[str, Split], Field(min_length=1)]
    inputs: Annotated[dict[str, Input], Field(min_length=1)]

    @model_validator(mode="after")
    def _images_feed_one_input(self) -> Recipe:
        for name, split in self.splits.items():
            if split.images and len(self.inputs) != 1:
                raise ValueError(f"split {name!r} holds images, which feed exactly one input")
            if split.images and self.labels_of(split) and not split.table:
                raise ValueError(f"split {name!r} needs `table`, the CSV file with the labels")
            if split.images and isinstance(self.labels_of(split), list):
                raise ValueError(f"split {name!r} holds images, whose labels are one column of the table")
        return self

    @model_validator(mode="after")
    def _trim_is_an_input(self) -> Recipe:
        if self.trim is not None and self.trim not in self.inputs:
            raise ValueError(f"`trim` names {self.trim!r}, which is none of the inputs {', '.join(self.inputs)}")
        return self

    def labels_of(self, split: Split) -> str | list[str] | None:
        """The array, arrays or table column with the labels of `split`, if it has any."""
        return split.labels or self.labels

    def split(self, asked: str | None, source: str) -> Split:
        """The split called `asked`, or the only one; raises DataError listing the splits."""
        listed = ", ".join(self.splits)
        if asked is None and len(self.splits) > 1:
            first = next(iter(self.splits))
            raise DataError(f"recipe {source} has the splits {listed}: choose one, as in {source}:{first}")
        if asked is not None and asked not in self.splits:
            raise DataError(f"recipe {source} has no split {asked!r}: it has {listed}")
        return self.splits[asked or next(iter(self.splits))]


class _Raw(Protocol):
    """Unprocessed values, indexed by row numbers: an array, a memory map or image files."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: NDArray[np.intp], /) -> Array: ...


@dataclass(frozen=True)
class _Source:
    """An opened split: unprocessed rows per model input, labels, numbers of the samples in use, a hash of it all."""

    raw: Mapping[str, _Raw]
    labels: Array | None
    numbers: NDArray[np.intp]
    digest: str


@dataclass(frozen=True)
class _Prepared:
    """A column that preprocesses what it reads."""

    raw: _Raw
    rows: NDArray[np.intp]
    recipe: Input
    where: str

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, rows: NDArray[np.intp]) -> Array:
        return self.recipe.prepare(self.raw[self.rows[rows]], self.where)


def open_recipe(source: str, inputs: tuple[TensorSpec, ...]) -> Samples:
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
    check_names(recipe.inputs, inputs, f"recipe {name}")
    opened = (_open_images if split.images else _open_arrays)(recipe, split, root)
    rows = rows_of(opened.numbers, split.rows_per_sample)
    columns = {
        key: _Prepared(opened.raw[key], rows, recipe.inputs[key], f"{source}: input {key!r}") for key in recipe.inputs
    }
    labels = None if opened.labels is None else opened.labels[opened.numbers]
    settings = recipe.model_dump_json(include={"inputs", "labels", "trim"}, exclude_defaults=True)
    content = hashlib.sha256(f"{settings}\n{split.model_dump_json()}\n{opened.digest}".encode()).hexdigest()
    return checked_samples(columns, inputs, labels, source, content, rows=split.rows_per_sample, trim=recipe.trim)


def find_recipe(name: str) -> Path:
    """The file of a recipe: a path ending in `.toml`, or the name of a committed one.

    Raises:
        DataError: There is no such file; the message lists the committed recipes.
    """
    if name.endswith(".toml"):
        if not Path(name).is_file():
            raise DataError(f"recipe {name} does not exist: check the path")
        return Path(name)
    known = {path.stem: path for path in sorted(data_folder("recipes").glob("*.toml"))}
    if name not in known:
        raise DataError(
            f"{name} is no .npz, .npy or .toml file and no known recipe: the recipes are {', '.join(known) or 'none'}"
        )
    return known[name]


def read_recipe(path: Path) -> Recipe:
    """The recipe in `path`; raises DataError naming the first bad field."""
    try:
        return Recipe.model_validate(load_toml(path, DataError))
    except ValidationError as error:
        raise DataError(f"recipe {path}: {_first_complaint(error)} (calib/README.md describes the fields)") from error


def _first_complaint(error: ValidationError) -> str:
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"]) or "the file"
    reworded = {"extra_forbidden": "is no known field", "missing": "is missing"}
    return f"{field}: {reworded.get(first['type'], first['msg'].removeprefix('Value error, '))}"


def _name_and_split(source: str) -> tuple[str, str | None]:
    # A split is a plain word, so that the colon of a Windows drive is none.
    match = re.fullmatch(r"(.+?)(?::([\w-]+))?", source)
    return (match[1], match[2]) if match else (source, None)


def _data_root(recipe: Recipe, path: Path) -> Path:
    if recipe.root is not None:
        root, advice = path.parent / Path(recipe.root).expanduser(), "check `root` in the recipe"
    elif DATA_VARIABLE in os.environ:
        root, advice = Path(os.environ[DATA_VARIABLE]), f"check the environment variable {DATA_VARIABLE}"
    else:
        raise DataError(f"recipe {path} has no `root`: set the environment variable {DATA_VARIABLE} to the data folder")
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
