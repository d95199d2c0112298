"""Data files that ship with the product: device models and calibration recipes.

A wheel carries them inside the package; an editable install reads them where they are edited.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

from trt_mpq.errors import SettingsError, TrtMpqError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_HERE = Path(__file__).resolve().parent
_IN_CHECKOUT = {"targets": "engines/targets", "recipes": "calib/recipes"}


def data_folder(kind: Literal["targets", "recipes"]) -> Path:
    """Folder of the shipped files of `kind`: in the installed package, else in the checkout."""
    installed = _HERE / kind
    return installed if installed.is_dir() else _HERE.parents[1] / _IN_CHECKOUT[kind]


def load_toml(path: Path, error: type[TrtMpqError] = SettingsError) -> dict[str, object]:
    """The content of the TOML file `path`; raises `error` in one sentence if it cannot be read."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as cause:
        raise error(f"cannot read {path}: {getattr(cause, 'strerror', None) or cause}") from cause
    except (ValueError, RecursionError) as cause:  # syntax, numbers of thousands of digits, brackets a thousand deep
        raise error(f"{path} is not valid TOML: {cause}") from cause
