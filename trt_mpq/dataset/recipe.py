"""What a recipe says: the TOML file that names data and how it becomes model inputs (calib/README.md)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from trt_mpq._data import data_folder, load_toml
from trt_mpq.dataset.images import Decoder
from trt_mpq.errors import DataError
from trt_mpq.runtime.base import Array


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, (list, tuple)) else (value,)


_Positive = Annotated[float, Field(gt=0)]
_Side = Annotated[int, Field(gt=0, le=8192)]
_Size = Annotated[tuple[_Side, ...], BeforeValidator(_as_tuple), Field(min_length=1, max_length=2)]


class _Strict(BaseModel):
    """Base of recipe tables: exact types, no unknown field, immutable."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class Input(_Strict):
    """How one model input is computed, the `[inputs.NAME]` table.

    Decode, resize, crop or letterbox, normalize, change layout, cast.

    Arithmetic is float32: ``(x / divide - mean) / std``. `mean` and `std` are one number, or one per
    channel, for which `layout` says where the channels are.
    """

    array: str | None = None
    color: Literal["RGB", "BGR", "L"] = "RGB"
    resize: _Size | None = None
    crop: _Size | None = None
    letterbox: _Size | None = None
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    divide: _Positive = 1.0
    mean: Annotated[tuple[float, ...], BeforeValidator(_as_tuple), Field(min_length=1)] = (0.0,)
    std: Annotated[tuple[_Positive, ...], BeforeValidator(_as_tuple), Field(min_length=1)] = (1.0,)
    layout: Literal["NHWC", "NCHW", "NHWC->NCHW", "NCHW->NHWC"] | None = None
    dtype: Literal["float32", "float16", "int64", "int32", "int8", "uint8", "bool"] | None = None

    @model_validator(mode="after")
    def _channels_are_known(self) -> Input:
        if self.layout is None and max(len(self.mean), len(self.std)) > 1:
            raise ValueError('mean and std per channel need `layout`, for example "NHWC->NCHW"')
        return self

    @model_validator(mode="after")
    def _one_way_to_a_size(self) -> Input:
        if self.letterbox and (self.resize or self.crop):
            raise ValueError("`letterbox` gives images their size: leave `resize` and `crop` out")
        return self

    @property
    def decoder(self) -> Decoder:
        """The part that only images have."""
        return Decoder(self.color, self.resize, self.crop, self.interpolation, self.letterbox)

    def prepare(self, values: Array, where: str) -> Array:
        """Compute the model input [n, ...] from raw `values` [n, ...].

        Raises:
            DataError: The values do not fit this description; the message begins with `where`.
        """
        if values.dtype.kind not in "fiub":
            raise DataError(f"{where} is read from {values.dtype} values: it needs numbers")
        if self.layout and values.ndim != 4:
            raise DataError(f"{where} has shape {values.shape} and layout {self.layout} needs 4 dimensions")
        if self.divide != 1.0 or self.mean != (0.0,) or self.std != (1.0,):
            values = self._normalize(values, where)
        if self.layout and "->" in self.layout:
            source, target = self.layout.split("->")
            values = values.transpose([source.index(axis) for axis in target])
        return values if self.dtype is None else _cast(values, np.dtype(self.dtype), where)

    def _normalize(self, values: Array, where: str) -> Array:
        axis = self.layout.index("C") if self.layout else -1
        mean, std = (np.asarray(v, dtype=np.float32) for v in (self.mean, self.std))
        for name, constants in (("mean", mean), ("std", std)):
            if len(constants) not in (1, values.shape[axis]):
                raise DataError(f"{where} has {values.shape[axis]} channels but `{name}` has {len(constants)} values")
        if axis == 1:
            mean, std = mean.reshape(-1, 1, 1), std.reshape(-1, 1, 1)
        return (values.astype(np.float32) / np.float32(self.divide) - mean) / std


_FileName = Annotated[str, Field(min_length=1)]
_Labels = _FileName | Annotated[list[_FileName], Field(min_length=1)]
"""An array or column; or several arrays, which become the fields of one structured label per sample."""


class Split(_Strict):
    """Where the samples of one split lie, and which of them are used.

    Either `arrays` (an `.npz` or `.npy`) or `images` (a folder), the latter with an optional CSV
    `table` whose column `files` lists files below that folder and whose rows are filtered by `where`.
    `count` keeps the first samples, or a random choice if there is a `seed`. With `rows_per_sample` r > 1
    the arrays are [samples, r, ...] and the model gets every sample as r rows. `labels` names the array or
    column with labels where it differs from the recipe's.
    """

    arrays: _FileName | None = None
    images: _FileName | None = None
    table: _FileName | None = None
    files: str = "file"
    where: dict[str, str] = Field(default_factory=dict)
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None
    count: Annotated[int, Field(gt=0)] | None = None
    seed: Annotated[int, Field(ge=0)] | None = None
    rows_per_sample: Annotated[int, Field(gt=0)] = 1
    labels: _Labels | None = None

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


class Recipe(_Strict):
    """A recipe file.

    `root` is the data folder, `labels` names the array, arrays or table column with labels, `trim` the input that says
    by its zeros which positions are padding.
    """

    description: str = ""
    root: str | None = None
    labels: _Labels | None = None
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
            f"{name} is no folder, no .npz, .npy or .toml file and no known recipe: the recipes are "
            f"{', '.join(known) or 'none'}"
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


def _cast(values: Array, dtype: np.dtype[Any], where: str) -> Array:
    if values.dtype.kind == "f" and dtype.kind != "f":
        raise DataError(f"{where} cannot turn {values.dtype} into {dtype} without loss: change `dtype` in the recipe")
    with np.errstate(over="ignore"):  # an overflow is inf, which the check of the batch reports
        cast = values.astype(dtype)
    if dtype.kind in "iub" and not np.array_equal(cast, values):
        raise DataError(f"{where} has values that {dtype} cannot hold: change `dtype` in the recipe")
    return cast
