"""The documentation as a site: built without a warning, whole, and in need of no other host."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.blocks import ROOT

if not (ROOT / "mkdocs.yml").is_file():
    pytest.skip("the pages are part of a checkout, not of an installed wheel", allow_module_level=True)
pytest.importorskip("material", reason="mkdocs-material is not installed")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 40
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert re.findall(r'<(?:script|img|source|iframe)[^>]* src="https?:[^"]*"', text) == [], page
        assert re.findall(r'<link[^>]* rel="(?:stylesheet|preload|icon)"[^>]* href="https?:[^"]*"', text) == [], page
    assert (site / "search" / "search_index.js").is_file()


def test_the_references_are_whole(site: Path) -> None:
    commands = (site / "cli.html").read_text(encoding="utf-8")
    for word in ("--target-accuracy", "--adaround", "--portable", "--plan", "--round-ms", "bound method"):
        assert (word in commands) == (word != "bound method"), word
    build = (site / "api" / "build.html").read_text(encoding="utf-8")
    assert "Find the fastest plan that meets the accuracy target" in build
    assert "DataError" in (site / "api" / "trt_mpq_error.html").read_text(encoding="utf-8")
    assert "MobileNet" in (site / "repo" / "bench" / "results" / "index.html").read_text(encoding="utf-8")
