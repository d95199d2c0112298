"""Pages in a real browser: which one, how they are opened, and what axe finds on them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
LOOKS: dict[str, dict[str, Any]] = {
    "light": {"color_scheme": "light"},
    "dark": {"color_scheme": "dark"},
    "phone": {"viewport": {"width": 390, "height": 844}},
    "print": {},
}


def browser_here() -> str:
    """The path of a browser; the test is skipped where there is none."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"no browser: install one of {', '.join(BROWSERS)}")
    return found


def opened_page(chromium: Any, html: str, folder: Path, **look: Any) -> tuple[Any, list[str]]:
    """The page once its scripts have run, and what it writes to the console, from now on too."""
    path = folder / "page.html"
    path.write_text(html, encoding="utf-8")
    page = chromium.new_context(**look).new_page()
    messages: list[str] = []
    page.on("console", lambda message: messages.append(message.text))
    page.on("pageerror", lambda error: messages.append(str(error)))
    page.goto(path.as_uri())
    assert page.evaluate("'ready' in document.documentElement.dataset")
    return page, messages


def assert_axe_finds_nothing(page: Any, look: str) -> None:
    """Against WCAG AA in one of `LOOKS`, in which the page was opened; nor is it wider than the window."""
    axe = pytest.importorskip("axe_playwright_python", reason="the library `axe-playwright-python` is not installed")
    if look == "print":
        page.emulate_media(media="print")
    page.evaluate((Path(axe.__file__).parent / "axe.min.js").read_text(encoding="utf-8"))
    found = page.evaluate("(rules) => axe.run(document, {runOnly: rules})", RULES)
    assert [(one["id"], [node["html"] for node in one["nodes"]][:3]) for one in found["violations"]] == []
    assert len(found["passes"]) > 20, "axe looked at the page"
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    tiles = "[...document.querySelectorAll('.tiles > div')].filter(tile => tile.scrollWidth > tile.clientWidth)"
    assert page.evaluate(f"{tiles}.map(tile => tile.innerText)") == [], "no figure reaches into the next"
