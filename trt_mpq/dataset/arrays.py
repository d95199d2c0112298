"""Reading numpy files that may be damaged or hostile, and hashing what they hold."""

from __future__ import annotations

import hashlib
import math
import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from trt_mpq.errors import DataError
from trt_mpq.runtime.base import Array

_CHUNK_BYTES = 16 << 20
_HARMLESS_BYTES = 1 << 30
_COMPRESSION = 100
"""Token ids with much padding compress to a fiftieth; a bomb to a thousandth."""


def load_npz(path: Path) -> dict[str, Array]:
    """All arrays of an `.npz`, in memory.

    Raises:
        DataError: The file is missing, damaged, too large for memory or holds pickled objects.
    """
    _check_file(path)
    if not zipfile.is_zipfile(path):  # np.load would take any other content for a pickle, and say so
        raise DataError(f"{path} is no .npz file (empty, truncated or another format): write it again with np.savez")
    try:
        _check_sizes(path)
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except DataError:
        raise
    except MemoryError as error:
        raise DataError(f"{path} does not fit into memory: store each input as an .npy and use a recipe") from error
    except Exception as error:  # numpy and zipfile have some ten unrelated classes for a damaged file
        raise _unreadable(path, error) from error
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray):
            raise DataError(f"{path}: member {name!r} is no array, remove it or write the file again with np.savez")
    return arrays


def load_npy(path: Path) -> Array:
    """The array of an `.npy`, memory-mapped and read-only.

    Raises:
        DataError: The file is missing, damaged or holds pickled objects.
    """
    _check_file(path)
    try:
        return np.lib.format.open_memmap(path, mode="r")
    except Exception as error:  # numpy has several unrelated classes for a damaged header
        raise _unreadable(path, error) from error


def digest_arrays(arrays: Iterable[tuple[str, Array]]) -> str:
    """SHA-256 over names, dtypes, shapes and values, whatever their order and compression on disk."""
    digest = hashlib.sha256()
    for name, array in sorted(arrays, key=lambda item: item[0]):
        digest.update(f"{name} {array.dtype.str} {array.shape};".encode())
        rows = np.atleast_1d(array)
        step = max(1, _CHUNK_BYTES * len(rows) // max(1, rows.nbytes))
        for start in range(0, len(rows), step):
            digest.update(rows[start : start + step].tobytes())
    return digest.hexdigest()


def digest_file(path: Path) -> str:
    """SHA-256 of a file; raises DataError if it cannot be read."""
    _check_file(path)
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _check_sizes(path: Path) -> None:
    """Refuse a file that says to hold far more than any data compresses to, before any of it is allocated."""
    with zipfile.ZipFile(path) as archive:
        said = sum(_said_bytes(archive, member) for member in archive.infolist())
    if said > max(_HARMLESS_BYTES, _COMPRESSION * path.stat().st_size):
        raise DataError(
            f"{path} has {path.stat().st_size:,} bytes and says to hold {said:,}, over {_COMPRESSION} times as much: "
            "if that is right, write it with np.savez, uncompressed"
        )


def _said_bytes(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> int:
    """Bytes that an array takes by its own header, or a member by the archive's if it is larger or no array."""
    with archive.open(member) as file:
        try:
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, dtype = read(file)
        except ValueError:
            return member.file_size
    return max(math.prod(shape) * dtype.itemsize, member.file_size)


def _check_file(path: Path) -> None:
    if not path.is_file():
        raise DataError(f"{path} does not exist or is no file: check the path of the data")


def _unreadable(path: Path, error: Exception) -> DataError:
    if isinstance(error, ValueError) and "object" in str(error).lower():
        return DataError(f"{path} holds pickled Python objects, which could run code: store plain numeric arrays")
    return DataError(f"{path} cannot be read ({error}): it is damaged, truncated or another format, write it again")
