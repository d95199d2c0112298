"""The pages that a new user follows do what they say: their blocks are run in order, in an empty folder."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

import trt_mpq
from tests.docs.blocks import ROOT, blocks, run

if not (ROOT / "docs").is_dir():
    pytest.skip("the pages are part of a checkout, not of an installed wheel", allow_module_level=True)

NEEDED = ("torch", "sklearn", "onnxscript")
START = sorted((ROOT / "docs" / "start").glob("*.md"))
API = sorted((ROOT / "docs" / "api").glob("*.md"))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that the pages of the Python API name, and the run that most of them read."""
    for module in NEEDED:
        pytest.importorskip(module)
    folder, before = tmp_path_factory.mktemp("api"), Path.cwd()
    os.chdir(folder)
    try:
        run(ROOT / "docs" / "api" / "index.md")
        run(ROOT / "docs" / "api" / "build.md")
    finally:
        os.chdir(before)
    return folder


@pytest.mark.filterwarnings("ignore")  # of torch's exporter
@pytest.mark.parametrize("page", START, ids=lambda page: page.stem)
def test_quick_starts(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in NEEDED:
        pytest.importorskip(module)
    monkeypatch.chdir(tmp_path)
    printed = run(page)
    if page.stem == "cnn":
        assert trt_mpq.load("run").accuracy.plan == trt_mpq.load("run-python").accuracy.plan
    if any(block.language == "sh" and "build" in block.text for block in blocks(page)):
        assert "uniform INT8" in printed[0]
        assert Path("run/report.html").is_file()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("page", [page for page in API if page.stem != "index"], ids=lambda page: page.stem)
def test_every_name_of_the_api(page: Path, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(prepared, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    run(page)


def test_every_name_has_a_page_with_an_example() -> None:
    titles = {page.read_text(encoding="utf-8").splitlines()[0].removeprefix("# "): page for page in API}
    names = set(trt_mpq.__all__) - {"__version__"}
    assert names == set(titles) - {"Python"}
    listed = (ROOT / "docs" / "api" / "index.md").read_text(encoding="utf-8")
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    for name in names:
        page = titles[name]
        assert [block.language for block in blocks(page) if block.runs] == ["python"], page
        assert f"[`{name}`]({page.name})" in listed
        assert f"{name}: api/{page.name}" in navigation


def test_the_navigation_has_every_page() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    pages = {page.relative_to(ROOT / "docs").as_posix() for page in (ROOT / "docs").rglob("*.md")}
    assert [page for page in sorted(pages) if f": {page}\n" not in navigation] == []
