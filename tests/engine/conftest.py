"""Fixtures of tests on engines."""

from __future__ import annotations

import pytest

from tests.engine.keys import Keys, make_keys


@pytest.fixture
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return make_keys(tmp_path_factory.mktemp("keys"))
