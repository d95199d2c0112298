"""Folders of images without a recipe: a class per subfolder, as torchvision's ImageFolder has it, or images alone."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trt_mpq.dataset.arrays import digest_file
from trt_mpq.dataset.images import SUFFIXES, Images, has_images, image_paths, image_size, require_pillow
from trt_mpq.dataset.other_formats import held_by
from trt_mpq.dataset.pixels import PRESETS, Pixels, image_axes
from trt_mpq.dataset.prepared import Prepared
from trt_mpq.dataset.recipe import Input
from trt_mpq.dataset.samples import Samples, checked_samples
from trt_mpq.errors import DataError
from trt_mpq.types import TensorSpec

_CLASSES = "classes.txt"
"""A file that says which class has which number: a name a line, the first is 0."""
_SIZED = 32
"""Images whose size is looked at before they are prepared."""
_SEED = 0


def open_folder(folder: Path, inputs: tuple[TensorSpec, ...], pixels: Pixels | None) -> Samples:
    """The images below `folder`, in an order drawn once and for all, so that the first so many are of all classes.

    Where images lie in subfolders alone these are the classes, numbered by name as torchvision does, or as
    `classes.txt` among or above them says.

    Args:
        folder: The folder.
        inputs: The model's inputs; it has to have one.
        pixels: How images become its input; None if that is not known.

    Raises:
        DataError: The folder or the model holds something else.
        MissingDependencyError: Pillow is not installed.
    """
    if len(inputs) != 1:
        names = ", ".join(spec.name for spec in inputs)
        raise DataError(
            f"{folder} holds images, which feed a model with one input, and this one has {names}: use an .npz"
        )
    [spec] = inputs
    require_pillow()
    image_axes(spec)
    paths, labels, notes = _listed(folder)
    if pixels is None:
        raise DataError(
            f"{folder} holds images, and how they become input {spec.name!r} is not said: pass --preprocess with one "
            f"of {', '.join(PRESETS)} or a processor's JSON file, put preprocessor_config.json beside the model, or "
            f"write a recipe (calib/README.md) with {_recipe_text(folder, spec)}"
        )
    fits = _all_of_size(paths[:_SIZED], image_axes(spec)[2])
    prepared = pixels.input(spec, fits)
    content = hashlib.sha256(prepared.model_dump_json().encode())
    for path in paths:
        content.update(f"{path.relative_to(folder)} {digest_file(path)}\n".encode())
    column = Prepared(
        Images(paths, prepared.decoder), np.arange(len(paths)), prepared, f"{folder}: input {spec.name!r}"
    )
    found = checked_samples({spec.name: column}, inputs, labels, str(folder), content.hexdigest())
    return found.noted(_how(pixels, prepared), *notes)


def _listed(folder: Path) -> tuple[tuple[Path, ...], NDArray[np.int64] | None, tuple[str, ...]]:
    """Image files in their drawn order, their classes, and what to say of these."""
    below = [path for path in sorted(folder.iterdir()) if path.is_dir() and has_images(path)]
    if not has_images(folder):
        raise DataError(f"{folder} {held_by(folder)}")
    if any(path.suffix.lower() in SUFFIXES for path in folder.iterdir()) or not below:
        paths = image_paths(folder)
        return tuple(paths[number] for number in _drawn(len(paths))), None, ()
    if splits := [path.name for path in below if any(child.is_dir() for child in path.iterdir())]:
        raise DataError(
            f"{folder} holds the folders {', '.join(splits)} of folders: name one, as in {folder / splits[0]}"
        )
    numbers = _numbers(folder, [path.name for path in below])
    files = [(file, numbers[path.name]) for path in below for file in image_paths(path)]
    order = _drawn(len(files))
    labels = np.array([files[number][1] for number in order], dtype=np.int64)
    first, last = below[0].name, below[-1].name
    said = f"{folder}: {len(below)} classes by folder, {first} is {numbers[first]} and {last} is {numbers[last]}"
    return tuple(files[number][0] for number in order), labels, (said,)


def _numbers(folder: Path, names: list[str]) -> dict[str, int]:
    """The class of every subfolder."""
    listed = next((file for file in (folder / _CLASSES, folder.parent / _CLASSES) if file.is_file()), None)
    if listed is None:
        return {name: number for number, name in enumerate(names)}
    known = {line.strip(): number for number, line in enumerate(listed.read_text(encoding="utf-8").splitlines())}
    if unknown := next((name for name in names if name not in known), None):
        raise DataError(f"{listed} does not name the folder {unknown}: it needs the name of every class, one a line")
    return {name: known[name] for name in names}


def _drawn(count: int) -> NDArray[np.intp]:
    return np.random.default_rng(_SEED).permutation(count)


def _all_of_size(paths: tuple[Path, ...], size: tuple[int, int] | None) -> bool:
    return size is not None and all(image_size(path) == size for path in paths)


def _how(pixels: Pixels, prepared: Input) -> str:
    """What happens to images, so that it can be checked."""
    steps = []
    if prepared.resize:
        sides = "x".join(map(str, prepared.resize))
        steps.append(f"resized to {sides}" if len(prepared.resize) == 2 else f"resized to {sides} on the shorter side")
    if prepared.crop:
        steps.append(f"cropped to {'x'.join(map(str, prepared.crop))}")
    if prepared.letterbox:
        steps.append(f"fitted into {'x'.join(map(str, prepared.letterbox))} with a grey border")
    steps.append(f"prepared as {pixels.name} says" if pixels.name not in PRESETS else f"normalised as {pixels.name}")
    return f"images are {', '.join(steps)}"


def _recipe_text(folder: Path, spec: TensorSpec) -> str:
    """A recipe that would do, on one line."""
    layout, _, size = image_axes(spec)
    side = 224 if size is None else min(size)
    channels = "NHWC->NCHW" if layout == "NCHW" else "NHWC"
    return (
        f'root = "{folder.parent}", [splits.all] images = "{folder.name}", [inputs."{spec.name}"] '
        f"resize = {round(side / 0.875)}, crop = {side}, divide = 255, mean = [0.485, 0.456, 0.406], "
        f'std = [0.229, 0.224, 0.225], layout = "{channels}"'
    )
