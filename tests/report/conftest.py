"""A browser for the tests that open pages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.report.browsers import browser_here


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A browser that playwright drives."""
    playwright = pytest.importorskip("playwright.sync_api", reason="the library `playwright` is not installed")
    found = browser_here()
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()
