"""How pixels become a model's input where no recipe says it: by name, or as a processor file beside the model does.

Three kinds of JSON are read: `preprocessor_config.json` of Hugging Face, `config.json` of timm, and the fields of a
torchvision preset (``vars(weights.transforms())``).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from trt_mpq.dataset.images import Decoder
from trt_mpq.dataset.recipe import Input
from trt_mpq.errors import DataError
from trt_mpq.types import TensorSpec

_IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_CLIP = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_CROP_SHARE = 0.875
"""Side of the crop over that of the resized image, as in the evaluation of most classifiers of ImageNet: 224 of 256."""
_BESIDE = ("preprocessor_config.json", "config.json")
_MODES = {0: "nearest", 2: "bilinear", 3: "bicubic"}
"""Pillow's numbers of interpolations."""


@dataclass(frozen=True)
class Pixels:
    """``(x / divide - mean) / std`` of pixels 0..255, and how an image gets its size.

    Attributes:
        name: What it is called in messages.
        divide: See above.
        mean: Per channel, or one for all.
        std: Per channel, or one for all.
        resize: (shorter side,) or (height, width); None if that is left to the model's input.
        crop: Height and width of the centre crop; None if that is left to the model's input.
        interpolation: bilinear or bicubic.
        letterbox: Whether images keep their aspect ratio and get a border, as detectors take them.
    """

    name: str
    divide: float = 1.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    resize: tuple[int, ...] | None = None
    crop: tuple[int, ...] | None = None
    interpolation: str = "bilinear"
    letterbox: bool = False

    def input(self, spec: TensorSpec, fits: bool) -> Input:
        """The description of input `spec`, as a recipe would have it.

        Args:
            spec: An input of images, [N, C, H, W] or [N, H, W, C].
            fits: Whether the images have the size of the input already.

        Raises:
            DataError: It takes no images, or its size is not known.
        """
        layout, channels, size = image_axes(spec)
        geometry = Decoder() if fits else self._geometry(size, spec)
        try:
            return Input(
                color="L" if channels == 1 else "RGB",
                resize=geometry.resize,
                crop=geometry.crop,
                letterbox=geometry.letterbox,
                interpolation=self.interpolation,  # type: ignore[arg-type]
                divide=self.divide,
                mean=self.mean if channels == len(self.mean) else self.mean[:1],
                std=self.std if channels == len(self.std) else self.std[:1],
                layout="NHWC->NCHW" if layout == "NCHW" else "NHWC",
                dtype=spec.dtype if spec.dtype in ("float32", "float16", "uint8") else "float32",  # type: ignore[arg-type]
            )
        except ValidationError as error:
            raise DataError(f"--preprocess {self.name}: {error.errors()[0]['msg']}") from error

    def _geometry(self, size: tuple[int, int] | None, spec: TensorSpec) -> Decoder:
        """How an image gets its size."""
        crop = self.crop or (self.resize if self.resize and len(self.resize) == 2 else None) or size
        if crop is None:
            raise DataError(
                f"input {spec.name!r} of the model has no fixed height and width, and --preprocess {self.name} does "
                "not say to which size images go: use a recipe (calib/README.md)"
            )
        if size is not None and crop != size:
            raise DataError(
                f"--preprocess {self.name} makes images {crop[0]}x{crop[1]} and input {spec.name!r} of the model takes "
                f"{size[0]}x{size[1]}: name another, or use a recipe (calib/README.md)"
            )
        if self.letterbox:
            return Decoder(letterbox=crop)
        if self.resize is not None:
            return Decoder(resize=self.resize, crop=crop)
        if crop[0] != crop[1]:
            return Decoder(resize=crop)
        return Decoder(resize=(round(min(crop) / _CROP_SHARE),), crop=crop)


PRESETS = {
    "imagenet": Pixels("imagenet", 255.0, *_IMAGENET),
    "clip": Pixels("clip", 255.0, *_CLIP, interpolation="bicubic"),
    "0-1": Pixels("0-1", 255.0),
    "-1-1": Pixels("-1-1", 127.5, (1.0,)),
    "0-255": Pixels("0-255"),
    "yolo": Pixels("yolo", 255.0, letterbox=True),
}
"""What `--preprocess` knows by name."""


def pixels_from(named: str | None, model: Path) -> Pixels | None:
    """What `--preprocess` names, or what lies beside the model; None if neither does.

    Raises:
        DataError: `named` is neither a name nor a file that says it.
    """
    if named is None:
        files = (model.parent / name for name in _BESIDE)
        found = ((file, _fields(file)) for file in files if file.is_file())
        return next((_from_fields(fields, file.name) for file, fields in found if _says_it(fields)), None)
    if named in PRESETS:
        return PRESETS[named]
    if not Path(named).is_file():
        raise DataError(f"--preprocess {named} is no file and none of {', '.join(PRESETS)}")
    if not _says_it(fields := _fields(Path(named))):
        raise DataError(
            f"{named} does not say how images are prepared: it has none of image_mean, pretrained_cfg, crop_size"
        )
    return _from_fields(fields, named)


def image_axes(spec: TensorSpec) -> tuple[str, int, tuple[int, int] | None]:
    """Layout NCHW or NHWC of an input, its channels, and its height and width if they are fixed; raises DataError."""
    if len(spec.shape) == 4:
        for layout in ("NCHW", "NHWC"):
            channels, height, width = (spec.shape[layout.index(axis)] for axis in "CHW")
            if channels in (1, 3):
                assert isinstance(channels, int)
                fixed = (height, width) if isinstance(height, int) and isinstance(width, int) else None
                return layout, channels, fixed
    raise DataError(
        f"input {spec.name!r} of the model, {spec.dtype}[{', '.join(map(str, spec.shape))}], takes no images of one or "
        "three channels: give an .npz with arrays named after the inputs"
    )


def _fields(file: Path) -> dict[str, Any]:
    try:
        fields = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{file} cannot be read as JSON ({error}): name another with --preprocess") from error
    if not isinstance(fields, dict):
        raise DataError(f"{file} holds no JSON object: name another with --preprocess")
    nested = fields.get("pretrained_cfg")
    return nested if isinstance(nested, dict) else fields


def _says_it(fields: Mapping[str, Any]) -> bool:
    return any(
        name in fields for name in ("image_mean", "do_rescale", "do_resize", "crop_pct", "input_size", "crop_size")
    )


def _from_fields(fields: Mapping[str, Any], name: str) -> Pixels:
    read = _from_timm if "input_size" in fields or ("crop_pct" in fields and "mean" in fields) else _from_processor
    try:
        return read(fields, name)
    except (TypeError, ValueError, KeyError, IndexError) as error:
        raise DataError(f"{name} cannot be understood as image preprocessing ({error}): use a recipe") from error


def _from_timm(fields: Mapping[str, Any], name: str) -> Pixels:
    height, width = (int(side) for side in fields.get("input_size", (3, 224, 224))[-2:])
    share, squash = float(fields.get("crop_pct") or _CROP_SHARE), fields.get("crop_mode") == "squash"
    resized = tuple(int(side / share) for side in (height, width))
    return Pixels(
        name, 255.0, _channels(fields.get("mean"), 0.0), _channels(fields.get("std"), 1.0),
        resized if squash or height != width else resized[:1], (height, width), _mode(fields.get("interpolation")),
    )  # fmt: skip


def _from_processor(fields: Mapping[str, Any], name: str) -> Pixels:
    """Hugging Face's image processors, and torchvision's presets, whose fields are called otherwise."""
    rescale = float(fields.get("rescale_factor", 1 / 255)) if fields.get("do_rescale", True) else 1.0
    normalizes = fields.get("do_normalize", True)
    mean = _channels(fields.get("image_mean", fields.get("mean")) if normalizes else None, 0.0)
    std = _channels(fields.get("image_std", fields.get("std")) if normalizes else None, 1.0)
    resize = _size(fields.get("size", fields.get("resize_size"))) if fields.get("do_resize", True) else None
    crop = _size(fields.get("crop_size")) if fields.get("do_center_crop", "crop_size" in fields) else None
    if resize and len(resize) == 1 and (share := fields.get("crop_pct")):  # ConvNeXt: the size is that of the crop
        resize, crop = (int(resize[0] / share),), (resize[0], resize[0])
    crop = crop * 2 if crop and len(crop) == 1 else crop
    mode = _mode(fields.get("resample", fields.get("interpolation")))
    return Pixels(name, round(1 / rescale, 6), mean, std, resize, crop, mode)


def _channels(values: Any, absent: float) -> tuple[float, ...]:
    if values is None:
        return (absent,)
    return tuple(float(value) for value in values) if isinstance(values, (list, tuple)) else (float(values),)


def _size(value: Any) -> tuple[int, ...] | None:
    """(shorter side,) or (height, width), which is written 224, [224, 256], {"shortest_edge": 224}, {"height": ...}."""
    if value is None:
        return None
    if isinstance(value, dict):
        keys = ("shortest_edge",) if "shortest_edge" in value else ("height", "width")
        return tuple(int(value[key]) for key in keys)
    return tuple(int(side) for side in value) if isinstance(value, (list, tuple)) else (int(value),)


def _mode(value: Any) -> str:
    """Bilinear or bicubic; what is neither is the nearest of both."""
    text = _MODES.get(value, "") if isinstance(value, int) else str(value or "").lower()
    return "bicubic" if "bicubic" in text or "lanczos" in text else "bilinear"
