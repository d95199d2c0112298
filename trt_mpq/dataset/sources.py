"""Where samples come from: files of arrays, and recipes."""

from __future__ import annotations

from pathlib import Path

from trt_mpq.dataset.arrays import digest_arrays, load_npy, load_npz
from trt_mpq.dataset.fitting import names_of
from trt_mpq.dataset.recipe import open_recipe
from trt_mpq.dataset.samples import LABELS, Samples, checked_samples, samples_from_arrays
from trt_mpq.errors import DataError
from trt_mpq.types import TensorSpec


def open_samples(source: str | Path, inputs: tuple[TensorSpec, ...]) -> Samples:
    """Open calibration or evaluation data and check it against the model's inputs.

    Args:
        source: An `.npz` whose arrays are named after the inputs (plus optional `labels`), an `.npy`
            for a model with one input, a recipe file `.toml`, or the name of a committed recipe;
            recipes take a split after a colon, as in `cifar10-resnet:test`.
        inputs: The model's inputs; dimension 0 of each is the batch.

    Raises:
        DataError: The data is missing, damaged or does not fit the inputs.
        MissingDependencyError: A recipe reads images and Pillow is not installed.
    """
    path = Path(source)
    if path.suffix not in (".npz", ".npy"):
        return open_recipe(str(source), inputs)
    if path.suffix == ".npz":
        arrays = load_npz(path)
        labels = None if any(spec.name == LABELS for spec in inputs) else arrays.pop(LABELS, None)
        return samples_from_arrays(arrays, inputs, labels, str(source))
    if len(inputs) != 1:
        raise DataError(f"{path}: an .npy file holds one input but the model wants {names_of(inputs)}, use an .npz")
    array = load_npy(path)
    return checked_samples({inputs[0].name: array}, inputs, None, str(source), digest_arrays([("", array)]))
