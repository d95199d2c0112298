"""The notebook of `examples/` runs from top to bottom in a kernel, as a reader runs it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.docs.blocks import ROOT

NOTEBOOK = ROOT / "examples" / "quickstart.ipynb"
if not NOTEBOOK.is_file():
    pytest.skip("the notebook is part of a checkout, not of an installed wheel", allow_module_level=True)
for library in ("torch", "sklearn", "ipykernel", "nbformat"):
    pytest.importorskip(library)
nbclient = pytest.importorskip("nbclient")


@pytest.mark.filterwarnings("ignore")  # of the libraries that talk to the kernel
def test_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import nbformat

    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    shutil.copy(NOTEBOOK, tmp_path)
    notebook = nbformat.read(tmp_path / NOTEBOOK.name, as_version=4)
    nbclient.NotebookClient(
        notebook, timeout=500, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    shown = [output["data"] for output in outputs if output.output_type == "execute_result"]
    pages = [data["text/html"] for data in shown if "text/html" in data]
    printed = "".join(output.text for output in outputs if output.output_type == "stream")
    assert len(pages) == 1
    assert pages[0].startswith("<iframe")
    assert "Calibrating: " in printed
    assert "session:" not in printed, "the reader's own function is told by its own name"
    report = json.loads((tmp_path / "quickstart-run" / "report.json").read_text(encoding="utf-8"))
    assert report["model"]["name"] == "Sequential"
    assert report["accuracy"]["metric"] == "sqnr"
    assert (tmp_path / "quickstart-run" / "typed.onnx").is_file()


def test_it_is_committed_without_what_a_run_printed() -> None:
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    assert all(not cell.get("outputs") and cell.get("execution_count") is None for cell in cells)
