"""What to do with data in a format that is not read here."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

_AS_ARRAYS = "write np.savez(FILE.npz, NAME=array, labels=labels), with arrays named after the model's inputs"
_ADVICE = {
    ".pt": f"is torch data: load it and {_AS_ARRAYS}",
    ".pth": f"is torch data: load it and {_AS_ARRAYS}",
    ".safetensors": f"holds tensors without their meaning: {_AS_ARRAYS}",
    ".pkl": f"is a pickle, which could run code: load it yourself and {_AS_ARRAYS}",
    ".pickle": f"is a pickle, which could run code: load it yourself and {_AS_ARRAYS}",
    ".csv": f"is a table: {_AS_ARRAYS}; a table of image files and labels goes into a recipe (calib/README.md)",
    ".json": f"is JSON: {_AS_ARRAYS}",
    ".jsonl": f"is JSON: tokenize it and {_AS_ARRAYS}",
    ".txt": f"is text: tokenize it and {_AS_ARRAYS}",
    ".parquet": f"is a Parquet table: {_AS_ARRAYS}",
    ".arrow": f"is an Arrow table: {_AS_ARRAYS}",
    ".tfrecord": f"is a TFRecord: read it with TensorFlow and {_AS_ARRAYS}",
    ".h5": f"is HDF5: {_AS_ARRAYS}",
    ".hdf5": f"is HDF5: {_AS_ARRAYS}",
    ".bin": f"has no shape or type: read it with np.fromfile and {_AS_ARRAYS}",
    ".raw": f"has no shape or type: read it with np.fromfile and {_AS_ARRAYS}",
    ".mp4": f"is a video: decode its frames into a folder of images, or {_AS_ARRAYS}",
    ".wav": f"is audio: compute the model's inputs and {_AS_ARRAYS}",
    ".zip": "is an archive: unpack it and name the folder of images in it",
    ".tar": "is an archive: unpack it and name the folder of images in it",
    ".gz": "is an archive: unpack it and name the folder of images in it",
    ".jpg": "is one image: name the folder of images",
    ".jpeg": "is one image: name the folder of images",
    ".png": "is one image: name the folder of images",
    ".py": "is Python: run it once, and let it write what the model takes with np.savez",
    ".onnx": "is a model: data is an .npz, a folder of images or a recipe",
}


def advice_for(source: str) -> str | None:
    """The end of a sentence that begins with `source`, which is in a format that people have; None for others."""
    name, _, function = source.partition(":")
    suffix = Path(name).suffix.lower()
    if suffix in _ADVICE:
        return _ADVICE[suffix]
    if function.isidentifier() and "/" not in source and Path(f"{name.replace('.', '/')}.py").is_file():
        return f"is a function: call it once and {_AS_ARRAYS}"
    return None


def held_by(folder: Path) -> str:
    """What a folder without images holds and what to do with it, as the end of a sentence that begins with its name."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.startswith(".")]
    if not files:
        return "is empty: name a folder of images, or an .npz"
    if arrays := [path for path in files if path.suffix in (".npz", ".npy", ".toml")]:
        return f"holds no image but {arrays[0].name}: name the file, as in {arrays[0]}"
    [(suffix, count)] = Counter(path.suffix.lower() for path in files).most_common(1)
    example = next(path for path in files if path.suffix.lower() == suffix)
    advice = advice_for(str(example)) or f"is of no kind that is read: {_AS_ARRAYS}"
    files_like = f"{count} files like {example.name}" if count > 1 else example.name
    return f"holds no image but {files_like}, which {advice}"
