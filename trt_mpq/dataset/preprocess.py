"""How raw arrays and images become model inputs: the `[inputs.NAME]` table of a recipe."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from trt_mpq.dataset.images import Decoder
from trt_mpq.errors import DataError
from trt_mpq.runtime.base import Array


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else (value,)


Positive = Annotated[float, Field(gt=0)]
Size = Annotated[tuple[Annotated[int, Field(gt=0)], ...], BeforeValidator(_as_tuple), Field(min_length=1, max_length=2)]


class Strict(BaseModel):
    """Base of recipe tables: exact types, no unknown field, immutable."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class Input(Strict):
    """How one model input is computed: decode, resize, crop, normalize, change layout, cast.

    Arithmetic is float32: ``(x / divide - mean) / std``. `mean` and `std` are one number, or one per
    channel, for which `layout` says where the channels are.
    """

    array: str | None = None
    color: Literal["RGB", "BGR", "L"] = "RGB"
    resize: Size | None = None
    crop: Size | None = None
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    divide: Positive = 1.0
    mean: Annotated[tuple[float, ...], BeforeValidator(_as_tuple), Field(min_length=1)] = (0.0,)
    std: Annotated[tuple[Positive, ...], BeforeValidator(_as_tuple), Field(min_length=1)] = (1.0,)
    layout: Literal["NHWC", "NCHW", "NHWC->NCHW", "NCHW->NHWC"] | None = None
    dtype: Literal["float32", "float16", "int64", "int32", "int8", "uint8", "bool"] | None = None

    @model_validator(mode="after")
    def _channels_are_known(self) -> Input:
        if self.layout is None and max(len(self.mean), len(self.std)) > 1:
            raise ValueError('mean and std per channel need `layout`, for example "NHWC->NCHW"')
        return self

    @property
    def decoder(self) -> Decoder:
        """The part that only images have."""
        return Decoder(self.color, self.resize, self.crop, self.interpolation)

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


def _cast(values: Array, dtype: np.dtype[Any], where: str) -> Array:
    if values.dtype.kind == "f" and dtype.kind != "f":
        raise DataError(f"{where} cannot turn {values.dtype} into {dtype} without loss: change `dtype` in the recipe")
    with np.errstate(over="ignore"):  # an overflow is inf, which the check of the batch reports
        cast = values.astype(dtype)
    if dtype.kind in "iub" and not np.array_equal(cast, values):
        raise DataError(f"{where} has values that {dtype} cannot hold: change `dtype` in the recipe")
    return cast
