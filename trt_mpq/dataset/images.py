"""Image folders: which files, their labels, and decoding with resize, crop and letterbox. Needs Pillow."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trt_mpq.errors import DataError, missing
from trt_mpq.runtime.base import Array

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".pgm", ".tif", ".tiff"}
_CACHE_BYTES = 256 << 20
"""Decoded pixels kept in memory: a search reads a small set hundreds of times, a large one must not fill memory."""
_LETTERBOX_GREY = 114
"""The border that YOLO detectors are trained with."""


@dataclass(frozen=True)
class Decoder:
    """How an image file becomes pixels: decode, resize, centre crop, letterbox.

    Attributes:
        color: RGB, BGR or L (grey, one channel).
        resize: (shorter side,) keeping the aspect ratio, or (height, width), in pixels; None keeps the size.
        crop: (side,) or (height, width) of the centre crop, in pixels; None keeps everything.
        interpolation: bilinear or bicubic, with Pillow's antialiasing.
        letterbox: (side,) or (height, width), in pixels, that the whole image is fitted into, keeping its aspect ratio,
            with a grey border of equal width at both ends, as detectors take it; None for no border.
    """

    color: str = "RGB"
    resize: tuple[int, ...] | None = None
    crop: tuple[int, ...] | None = None
    interpolation: str = "bilinear"
    letterbox: tuple[int, ...] | None = None

    def decode(self, path: Path) -> Array:
        """The pixels of `path`, uint8 [height, width, channels]; raises DataError if it is no image."""
        from PIL import Image

        try:
            with Image.open(path) as file:
                image = file.convert("L" if self.color == "L" else "RGB")
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:  # PNG raises SyntaxError
            raise DataError(f"{path} cannot be decoded as an image ({error}): replace or remove it") from error
        pixels = np.asarray(self._border(self._crop(self._resize(image), path)))
        pixels = pixels.reshape(*pixels.shape[:2], -1)
        return pixels[:, :, ::-1] if self.color == "BGR" else pixels

    def _resize(self, image: Any) -> Any:
        from PIL import Image

        if self.resize is None:
            return image
        width, height = image.size
        if len(self.resize) == 2:
            height, width = self.resize
        else:  # the longer side truncates, as in torchvision's Resize
            shorter, side = min(width, height), self.resize[0]
            width, height = int(side * width / shorter), int(side * height / shorter)
        return image.resize((width, height), Image.Resampling[self.interpolation.upper()])

    def _crop(self, image: Any, path: Path) -> Any:
        if self.crop is None:
            return image
        height, width = _sides(self.crop)
        if height > image.height or width > image.width:
            raise DataError(
                f"{path} is {image.height}x{image.width} pixels, smaller than the crop {height}x{width}: "
                "resize before cropping"
            )
        top, left = round((image.height - height) / 2), round((image.width - width) / 2)
        return image.crop((left, top, left + width, top + height))

    def _border(self, image: Any) -> Any:
        """Of an odd rest the smaller part is above and to the left, as in Ultralytics' LetterBox."""
        from PIL import Image, ImageOps

        if self.letterbox is None:
            return image
        height, width = _sides(self.letterbox)
        inner = ImageOps.contain(image, (width, height), Image.Resampling[self.interpolation.upper()])
        right, below = width - inner.width, height - inner.height
        border = (right // 2, below // 2, right - right // 2, below - below // 2)
        return ImageOps.expand(inner, border, (_LETTERBOX_GREY,) * len(inner.getbands()))


def _sides(size: tuple[int, ...]) -> tuple[int, int]:
    """Height and width of a size that gives one side if both are equal."""
    return size[0], size[-1]


@dataclass(frozen=True, eq=False)
class Images:
    """Image files as an array [n, height, width, channels] that is decoded where it is read."""

    paths: tuple[Path, ...]
    decoder: Decoder
    _cache: dict[Path, Array] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, rows: NDArray[np.intp]) -> Array:
        pixels = [self._pixels(self.paths[row]) for row in rows]
        for row, image in zip(rows, pixels, strict=True):
            if image.shape != pixels[0].shape:
                raise DataError(
                    f"{self.paths[row]} is {image.shape[0]}x{image.shape[1]} pixels and {self.paths[rows[0]]} is "
                    f"{pixels[0].shape[0]}x{pixels[0].shape[1]}: add `resize` and `crop` to the recipe"
                )
        return np.stack(pixels)

    def _pixels(self, path: Path) -> Array:
        if path in self._cache:
            return self._cache[path]
        pixels = self.decoder.decode(path)
        if (len(self._cache) + 1) * pixels.nbytes <= _CACHE_BYTES:
            self._cache[path] = pixels
        return pixels


def require_pillow() -> None:
    """Raise MissingDependencyError if images cannot be decoded."""
    try:
        import PIL.Image  # noqa: F401
    except ImportError as error:
        raise missing("Pillow", "reading images", "images") from error


def image_size(path: Path) -> tuple[int, int]:
    """Height and width of an image file, by its header; raises DataError if it is no image."""
    from PIL import Image

    try:
        with Image.open(path) as file:
            return file.height, file.width
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{path} cannot be decoded as an image ({error}): replace or remove it") from error


def has_images(folder: Path) -> bool:
    """Whether there is an image file anywhere below `folder`, one that is not hidden."""
    return not folder.name.startswith(".") and any(path.suffix.lower() in SUFFIXES for path in folder.rglob("*"))


def image_paths(folder: Path) -> tuple[Path, ...]:
    """Every image file below `folder`, sorted by path; raises DataError if there is none."""
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder: check `images` and the data root of the recipe")
    paths = tuple(sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES))
    if not paths:
        raise DataError(f"{folder} holds no image: it needs files ending in {', '.join(sorted(SUFFIXES))}")
    return paths


def read_table(
    table: Path, where: Mapping[str, str], file_column: str, label_column: str | None
) -> tuple[list[str], NDArray[np.int64] | None]:
    """File names and integer labels of the rows of a CSV whose columns equal `where`.

    Raises:
        DataError: The table is missing or damaged, lacks a column, or a label is no integer.
    """
    rows = [
        row
        for row in _csv_rows(table, {*where, file_column, *([label_column] if label_column else [])})
        if all(row[column] == value for column, value in where.items())
    ]
    if not rows:
        raise DataError(f"{table} has no row with {dict(where)}: check `where` in the recipe")
    if label_column is None:
        return [row[file_column] for row in rows], None
    try:
        labels = np.array([int(row[label_column]) for row in rows], dtype=np.int64)
    except ValueError as error:
        raise DataError(f"{table}: column {label_column!r} must hold integer labels ({error})") from error
    return [row[file_column] for row in rows], labels


def _csv_rows(table: Path, columns: set[str]) -> list[dict[str, str]]:
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, strict=True, restval="")
            rows, present = list(reader), reader.fieldnames or ()
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{table} cannot be read as a CSV table with a header row ({error})") from error
    if lacking := sorted(columns - set(present)):
        raise DataError(f"{table} lacks the column {', '.join(lacking)}: it has {', '.join(present) or 'none'}")
    return rows
