"""Fixtures shared by the whole suite."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

pytest_plugins = ["tests.fakes.fixtures"]

settings.register_profile("no-deadline", deadline=None)
settings.load_profile("no-deadline")


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder with the real models and data, or a skip that says how to provide it."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("TRT_MPQ_DATA", default))
    if not folder.is_dir():
        pytest.skip("real models and data are absent: set TRT_MPQ_DATA to their folder")
    return folder
