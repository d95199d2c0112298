"""Stages to keep."""

from __future__ import annotations

import pytest

from tests.artifacts.stores import Counting


@pytest.fixture
def stage() -> Counting:
    return Counting()
